#!/usr/bin/env bash
# The operator's image and the one that the examples use: made in the engine at hand, brought into the cluster's nodes.
set -euo pipefail
# shellcheck source=dev/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# shellcheck source=dev/registry.sh
. "$PROJECT/dev/registry.sh"
# shellcheck source=dev/cluster/engine.sh
. "$PROJECT/dev/cluster/engine.sh"
# shellcheck source=dev/base-images.sh
. "$PROJECT/dev/base-images.sh"

usage() {
  cat >&2 <<EOF
usage: images.sh COMMAND
  build   builds the operator's image, unless it is there for the present state of the tree
  load    build, and brings it and the examples' image into the cluster's nodes, where they are missing
  name    prints the name of the operator's image
With OPERATOR_IMAGE set, that image is used: nothing is built or loaded.
EOF
  exit 2
}

need_engine() { find_engine || fail "no Docker engine answers" "bring the cluster up first: dev/cluster/cluster.sh up"; }

name_image() { # sets operator_base and image
  choose_operator_base >&2
  local base inputs
  base=$(docker image inspect -f '{{.Id}}' "$operator_base")
  inputs=$(cd "$PROJECT" && hash_of operator pyproject.toml requirements/runtime.txt images/operator)
  image=mapreduce-operator:dev-$(echo "$base $inputs" | sha256sum | cut -c1-12)
}

build() {
  name_image
  if present "$image"; then return; fi
  local context=$CACHE/images/context python_version
  mkdir -p "$context"
  python_version=$(docker run --rm --network none --entrypoint python3 "$operator_base" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  long_step "operator image: wheels for Python $python_version (about 10 s)" wheels \
    "$PROJECT/dev/wheels.sh" "$context/wheels" "$python_version"
  # An engine of ours has no BuildKit.
  if engine_is_ours; then export DOCKER_BUILDKIT=0; fi
  long_step "operator image: building $image on $operator_base (about 15 s)" docker-build \
    docker build --network none --build-arg "BASE_IMAGE=$operator_base" \
    --file "$PROJECT/images/operator/Dockerfile" --tag "$image" "$context"
  # Each state of the tree has an image; the last few are enough.
  docker image ls mapreduce-operator --format '{{.Repository}}:{{.Tag}}' | grep ':dev-' | tail -n +6 | xargs -r docker image rm >/dev/null 2>&1 || true
}

kind_cluster() { # the name of the kind cluster that is in use, if it is one
  if [ -z "${KUBECONFIG:-}" ] || [ "$KUBECONFIG" = "$OWN_KUBECONFIG" ]; then
    echo "$CLUSTER"
  else
    kubectl config current-context 2>/dev/null | sed -n 's/^kind-//p'
  fi
}

is_in_node() { [ -n "$(docker exec "$1" ctr -n k8s.io images ls -q "name==docker.io/library/${2#docker.io/library/}" 2>/dev/null)" ]; }

load() {
  local cluster node nodes wanted missing=()
  cluster=$(kind_cluster)
  [ -n "$cluster" ] || fail "the cluster behind KUBECONFIG=$KUBECONFIG is none of kind's: images cannot be brought into its nodes" \
    "push the operator's image to where it can pull it from, and set OPERATOR_IMAGE to its name"
  nodes=$(docker ps --filter "label=io.x-k8s.kind.cluster=$cluster" --format '{{.Names}}')
  [ -n "$nodes" ] || fail "this Docker engine has no running kind cluster $cluster" "bring it up first: dev/cluster/cluster.sh up"
  build
  have_examples_image
  for wanted in "$image" "${EXAMPLES_IMAGE#docker.io/library/}"; do
    for node in $nodes; do
      if ! is_in_node "$node" "$wanted"; then
        missing+=("$wanted")
        break
      fi
    done
  done
  # For deploy.sh: the tree may have changed by then, and with it the name.
  echo "$image" >"$CACHE/images/loaded-$CLUSTER"
  if [ ${#missing[@]} -gt 0 ]; then
    long_step "cluster $cluster: loading ${missing[*]} (about 15 s)" kind-load \
      timeout 300 kind load docker-image --name "$cluster" "${missing[@]}"
    for node in $nodes; do forget_old_images "$node"; done
  fi
  for node in $nodes; do name_as_the_chart_does "$node"; done
}

name_as_the_chart_does() { # so that it is found by whoever installs the chart with no values
  local version
  version=$(sed -n 's/^appVersion: "\(.*\)"$/\1/p' "$PROJECT/charts/mapreduce-operator/Chart.yaml")
  docker exec "$1" ctr -n k8s.io images tag --force "docker.io/library/$image" "docker.io/library/mapreduce-operator:$version" >/dev/null
}

forget_old_images() { # the operator's, where the engine has forgotten them; kind's nodes never collect images by themselves
  local old
  for old in $(docker exec "$1" ctr -n k8s.io images ls -q | grep '^docker.io/library/mapreduce-operator:dev-'); do
    present "$old" || docker exec "$1" ctr -n k8s.io images rm "$old" >/dev/null
  done
}

command=${1:-}
case $command in build | load | name) ;; *) usage ;; esac
if [ -n "${OPERATOR_IMAGE:-}" ]; then
  if [ "$command" = name ]; then echo "$OPERATOR_IMAGE"; else say "operator image: $OPERATOR_IMAGE, as OPERATOR_IMAGE says; nothing to build or load"; fi
  exit
fi
need_engine
case $command in
  build | load) alone "$command" ;;
  name) name_image && echo "$image" ;;
esac
