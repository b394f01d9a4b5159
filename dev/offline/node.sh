#!/usr/bin/env bash
# Makes the home-made node image for kind where the official one cannot be had. Prints nothing and is fast when it is there.
# usage: node.sh IMAGE
set -euo pipefail
# shellcheck source=dev/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"
# shellcheck source=dev/python-and-go.sh
. "$PROJECT/dev/python-and-go.sh"
here=$PROJECT/dev/offline
image=$1
made=$CACHE/offline
mkdir -p "$made"

# stage FILE INPUTS TEXT LOG COMMAND...   Makes FILE unless it is there and was made from the same INPUTS.
stage() {
  local file=$1 inputs=$2
  shift 2
  if [ -s "$file" ] && [ "$(cat "$file.inputs" 2>/dev/null)" = "$inputs" ]; then return; fi
  long_step "$@"
  echo "$inputs" >"$file.inputs"
}

packages=systemd-sysv,containerd,runc,containernetworking-plugins,conntrack,iptables,iproute2,ethtool,mount,kmod,util-linux,procps
kube_inputs="$KUBERNETES_VERSION $ETCD_VERSION $(hash_of "$here/kube" "$here/kube-binary.sh")"
rootfs_inputs="$DEBIAN_RELEASE $packages $(hash_of "$here/root-file-system.sh")"
images_inputs="$kube_inputs $COREDNS_VERSION $PAUSE_VERSION $DEBIAN_RELEASE $(hash_of "$here/component-images.sh")"
inputs=$(echo "$rootfs_inputs $images_inputs $(hash_of "$here/node" "$here/node-image.sh")" | sha256sum | cut -c1-12)
[ "$(docker image inspect -f '{{index .Config.Labels "dev.mapreduce.inputs"}}' "$image" 2>/dev/null)" != "$inputs" ] || exit 0

use_go
stage "$made/kube" "$kube_inputs" \
  "Kubernetes $KUBERNETES_VERSION and etcd: building them from their Go modules (about 8 min the first time, 20 s with Go's cache)" build-kube \
  "$here/kube-binary.sh" "$made/kube"
stage "$made/coredns" "$COREDNS_VERSION" \
  "CoreDNS $COREDNS_VERSION: building it from its Go module (about 100 s the first time)" build-coredns \
  env GOBIN="$made" CGO_ENABLED=0 go install -trimpath -ldflags "-s -w" "github.com/coredns/coredns@v$COREDNS_VERSION"
stage "$made/rootfs.tar" "$rootfs_inputs" \
  "node image: root file system from Debian's packages (about 80 s)" root-file-system \
  "$here/root-file-system.sh" "$made/rootfs.tar" "$packages"
stage "$made/component-images.tar" "$images_inputs" \
  "node image: images of the control plane (about 20 s)" component-images \
  "$here/component-images.sh" "$made/component-images.tar"
long_step "node image: putting it together (about 30 s)" node-image \
  "$here/node-image.sh" "$image" "$inputs"
