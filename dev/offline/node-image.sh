#!/usr/bin/env bash
# usage: node-image.sh IMAGE INPUTS    Makes kind's node image from a Debian root file system, our binaries and images.
# INPUTS is a hash that the image remembers as a label, so that a change of what it is made from is noticed.
set -euo pipefail
# shellcheck source=dev/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"
image=$1 inputs=$2
container=mapreduce-node-image
source=$PROJECT/dev/offline/node
work=$(mktemp -d "$CACHE/build-node.XXXXXX")
trap 'rm -rf "$work"; docker rm -fv $container >/dev/null 2>&1 || true' EXIT

mkdir -p "$work"/{kind/manifests,usr/local/bin,usr/bin,etc/containerd,etc/cni/net.d,etc/systemd/system,etc/systemd/journald.conf.d,etc/kubernetes/manifests}
cd "$work"
cp "$CACHE/offline/kube" usr/bin/
for name in kubelet kubeadm kubectl; do ln -s kube "usr/bin/$name"; done
printf 'v%s' "$KUBERNETES_VERSION" >kind/version
printf '[Journal]\nReadKMsg=no\n' >etc/systemd/journald.conf.d/kind.conf
cp "$source/entrypoint" usr/local/bin/
cp "$source/pod-network.conflist" "$source/prepare" kind/
cp "$source/containerd.service" "$source/kubelet.service" etc/systemd/system/
sed "s/PAUSE_VERSION/$PAUSE_VERSION/" "$source/containerd.toml" >etc/containerd/config.toml
sed "s/KUBERNETES_VERSION/$KUBERNETES_VERSION/" "$source/storage.yaml" >kind/manifests/default-storage.yaml

rootfs=localhost/mapreduce-cluster/rootfs:$(sha256sum "$CACHE/offline/rootfs.tar.inputs" | cut -c1-12)
docker image inspect "$rootfs" >/dev/null 2>&1 || docker import "$CACHE/offline/rootfs.tar" "$rootfs"
docker rm -fv $container 2>/dev/null || true
# /tmp as tmpfs: the image's own layer would otherwise keep what the import leaves there.
docker create --privileged --network none --tmpfs /tmp --name $container -i "$rootfs" /kind/prepare
tar -c . | docker cp -q - $container:/
docker start -ai $container <"$CACHE/offline/component-images.tar"
docker commit -c 'ENV container=docker' -c 'ENTRYPOINT ["/usr/local/bin/entrypoint", "/sbin/init"]' -c 'CMD []' \
  -c "LABEL dev.mapreduce.inputs=$inputs dev.mapreduce.home-made=true" $container "$image"
