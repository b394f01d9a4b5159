#!/usr/bin/env bash
# usage: component-images.sh OUT    Makes the images of the control plane from our binaries and saves them into one tar.
# They carry names of their own: they are not the official images (offline/kind.yaml tells kubeadm so).
set -euo pipefail
# shellcheck source=dev/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"
out=$1
repository=localhost/mapreduce-cluster
work=$(mktemp -d "$CACHE/build-images.XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"

import() { # import FOLDER IMAGE CHANGE...
  local folder=$1 image=$2 changes=() change
  shift 2
  for change; do changes+=(--change "$change"); done
  tar -C "$folder" -c . | docker import "${changes[@]}" - "$repository/$image"
}

# kube-proxy calls iptables; everything else in these images is a static binary.
mmdebstrap -q --variant=extract --include=iptables,busybox-static "$DEBIAN_RELEASE" components.tar
mkdir components
tar -C components -xf components.tar
cd components
rm -rf usr/share/{doc,man,locale} var/{cache,lib}/apt
for family in iptables ip6tables; do
  for tool in "" -save -restore; do ln -sf xtables-nft-multi "usr/sbin/$family$tool"; done
done
ln -sf busybox bin/sh
echo root:x:0:0:root:/:/bin/sh >etc/passwd
mkdir -p usr/local/bin run tmp
cp "$CACHE/offline/kube" usr/local/bin/
for name in etcd kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubectl local-volumes; do
  ln -s kube "usr/local/bin/$name"
done
cd ..

mkdir -p pause/bin coredns/tmp
cp components/bin/busybox pause/bin/
cp "$CACHE/offline/coredns" coredns/

import components "components:v$KUBERNETES_VERSION" 'ENV PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
import pause "pause:$PAUSE_VERSION" 'ENTRYPOINT ["/bin/busybox", "sleep", "2147483647"]'
import coredns "coredns:v$COREDNS_VERSION" 'ENTRYPOINT ["/coredns"]'

images=("components:v$KUBERNETES_VERSION" "pause:$PAUSE_VERSION" "coredns:v$COREDNS_VERSION" "etcd:$ETCD_VERSION-0")
for name in kube-apiserver kube-controller-manager kube-scheduler kube-proxy; do images+=("$name:v$KUBERNETES_VERSION"); done
for image in "${images[@]:3}"; do docker tag "$repository/components:v$KUBERNETES_VERSION" "$repository/$image"; done

docker save -o "$out.new" "${images[@]/#/$repository/}"
mv "$out.new" "$out"
