// A provisioner of local volumes, for the part that local-path-provisioner has in kind's official node image:
// a folder of mode 0777 on the node where the first pod of a claim is scheduled, and a volume bound to that node.
// The controller manager's own host-path provisioner would not do: its folders belong to root, and its volumes to no node.
package main

import (
	"context"
	"log"
	"os"
	"path/filepath"
	"time"

	v1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

const (
	provisioner = "mapreduce.dev/local-volumes"
	folder      = "/var/local-volumes" // the same path on the node and in the provisioner's pod

	provisionerOfClaim  = "volume.kubernetes.io/storage-provisioner"
	nodeOfClaim         = "volume.kubernetes.io/selected-node"
	provisionerOfVolume = "pv.kubernetes.io/provisioned-by"
	nodeOfVolume        = "mapreduce.dev/node"
)

type localVolumes struct {
	client kubernetes.Interface
	node   string
}

func provideLocalVolumes() {
	config, err := rest.InClusterConfig()
	if err != nil {
		log.Fatal(err)
	}
	volumes := localVolumes{kubernetes.NewForConfigOrDie(config), os.Getenv("NODE_NAME")}
	// What failed is tried again when the informers hand everything out anew.
	factory := informers.NewSharedInformerFactory(volumes.client, 15*time.Second)
	onChange(factory.Core().V1().PersistentVolumeClaims().Informer(), volumes.provision)
	onChange(factory.Core().V1().PersistentVolumes().Informer(), volumes.remove)
	factory.Start(context.Background().Done())
	select {}
}

func onChange[T any](informer cache.SharedIndexInformer, act func(T) error) {
	try := func(object any) {
		if err := act(object.(T)); err != nil {
			log.Print(err)
		}
	}
	informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    try,
		UpdateFunc: func(_, object any) { try(object) },
	})
}

func (l localVolumes) provision(claim *v1.PersistentVolumeClaim) error {
	notes := claim.Annotations
	if notes[provisionerOfClaim] != provisioner || notes[nodeOfClaim] != l.node || claim.Spec.VolumeName != "" {
		return nil
	}
	class, err := l.client.StorageV1().StorageClasses().Get(context.Background(), *claim.Spec.StorageClassName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	name := "pvc-" + string(claim.UID)
	path := filepath.Join(folder, name)
	if err := os.MkdirAll(path, 0o777); err != nil {
		return err
	}
	if err := os.Chmod(path, 0o777); err != nil { // whatever the umask
		return err
	}
	_, err = l.client.CoreV1().PersistentVolumes().Create(context.Background(), l.volume(name, path, claim, class), metav1.CreateOptions{})
	if errors.IsAlreadyExists(err) {
		return nil
	}
	if err == nil {
		log.Printf("made %s for %s/%s", path, claim.Namespace, claim.Name)
	}
	return err
}

func (l localVolumes) volume(name, path string, claim *v1.PersistentVolumeClaim, class *storagev1.StorageClass) *v1.PersistentVolume {
	onThisNode := v1.NodeSelectorRequirement{Key: v1.LabelHostname, Operator: v1.NodeSelectorOpIn, Values: []string{l.node}}
	return &v1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Annotations: map[string]string{provisionerOfVolume: provisioner, nodeOfVolume: l.node},
		},
		Spec: v1.PersistentVolumeSpec{
			Capacity:                      v1.ResourceList{v1.ResourceStorage: claim.Spec.Resources.Requests[v1.ResourceStorage]},
			AccessModes:                   claim.Spec.AccessModes,
			PersistentVolumeReclaimPolicy: *class.ReclaimPolicy,
			StorageClassName:              class.Name,
			ClaimRef:                      &v1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID},
			PersistentVolumeSource:        v1.PersistentVolumeSource{HostPath: &v1.HostPathVolumeSource{Path: path}},
			NodeAffinity: &v1.VolumeNodeAffinity{Required: &v1.NodeSelector{
				NodeSelectorTerms: []v1.NodeSelectorTerm{{MatchExpressions: []v1.NodeSelectorRequirement{onThisNode}}},
			}},
		},
	}
}

func (l localVolumes) remove(volume *v1.PersistentVolume) error {
	notes := volume.Annotations
	if notes[provisionerOfVolume] != provisioner || notes[nodeOfVolume] != l.node || volume.DeletionTimestamp != nil {
		return nil
	}
	if volume.Status.Phase != v1.VolumeReleased || volume.Spec.PersistentVolumeReclaimPolicy != v1.PersistentVolumeReclaimDelete {
		return nil
	}
	if err := os.RemoveAll(filepath.Join(folder, volume.Name)); err != nil {
		return err
	}
	log.Printf("removed %s", volume.Name)
	return l.client.CoreV1().PersistentVolumes().Delete(context.Background(), volume.Name, metav1.DeleteOptions{})
}
