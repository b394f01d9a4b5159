#!/usr/bin/env bash
# usage: kube-binary.sh OUT    Builds every Kubernetes component of a node as one program from Go modules.
set -euo pipefail
# shellcheck source=dev/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"
out=$1
work=$(mktemp -d "$CACHE/build-kube.XXXXXX")
trap 'rm -rf "$work"' EXIT
cp "$PROJECT"/dev/offline/kube/*.go "$work"
cd "$work"

go mod download "k8s.io/kubernetes@v$KUBERNETES_VERSION"
# Kubernetes' own go.mod points its staging modules into its source tree; outside of it they are modules v0.x of the same release.
staging=$(awk '/=> \.\/staging/ {print $1}' "$(go env GOMODCACHE)/k8s.io/kubernetes@v$KUBERNETES_VERSION/go.mod")
{
  printf 'module localcluster\n\ngo %s.0\n\n' "$GO_MINIMUM"
  printf 'require (\n\tk8s.io/kubernetes v%s\n\tgo.etcd.io/etcd/server/v3 v%s\n)\n\n' "$KUBERNETES_VERSION" "$ETCD_VERSION"
  printf 'replace (\n'
  for module in $staging; do printf '\t%s => %s v0.%s\n' "$module" "$module" "${KUBERNETES_VERSION#1.}"; done
  printf ')\n'
} >go.mod
go mod tidy

minor=${KUBERNETES_VERSION#1.}
version=k8s.io/component-base/version
CGO_ENABLED=0 go build -trimpath -o "$out.new" -ldflags \
  "-s -w -X $version.gitVersion=v$KUBERNETES_VERSION -X $version.gitMajor=1 -X $version.gitMinor=${minor%%.*}" .
mv "$out.new" "$out"
