#!/usr/bin/env bash
# The local cluster: kind, in the Docker engine at hand or in one of our own.
set -euo pipefail
# shellcheck source=dev/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"
# shellcheck source=dev/registry.sh
. "$PROJECT/dev/registry.sh"
# shellcheck source=dev/cluster/engine.sh
. "$PROJECT/dev/cluster/engine.sh"
# shellcheck source=dev/cluster/health.sh
. "$PROJECT/dev/cluster/health.sh"

usage() {
  cat >&2 <<EOF
usage: cluster.sh COMMAND
  up          brings the cluster up, or repairs or replaces a broken one; WORKERS=n (default 1) for a new one
  down        deletes it, and stops the Docker engine if it is ours
  purge       down, and removes the cache ($CACHE)
  status      says how it is; exit code 0 if it is well
  kubeconfig  prints the path of its kubeconfig
  env         prints what to eval in a shell: DOCKER_HOST, KUBECONFIG, PATH
  audit       prints what the service accounts of mapreduce-system asked of the API server, a line of JSON for each request
  audit-clear empties that log
With KUBECONFIG set to a file of yours, the cluster behind it is used and never touched.
MAPREDUCE_CLUSTER names another cluster beside the usual one; 'down' leaves the engine to the latter then.
EOF
  exit 2
}

is_beside_the_usual_one() { [ "$CLUSTER" != mapreduce ]; }
has_cluster_of_the_user() { [ -n "${KUBECONFIG:-}" ] && [ "$KUBECONFIG" != "$OWN_KUBECONFIG" ]; }

check_cluster_of_the_user() {
  local version
  version=$(timeout 30 kubectl version --request-timeout=10s 2>/dev/null | sed -n 's/^Server Version: //p') || true
  [ -n "$version" ] || fail "the cluster behind KUBECONFIG=$KUBECONFIG does not answer" "unset KUBECONFIG to have a local one made"
  say "using the cluster behind KUBECONFIG=$KUBECONFIG (context $(kubectl config current-context), $version); it is not ours to change"
}

choose_node_image() { # sets node_image and node_config
  local home_made=localhost/kind-node:v$KUBERNETES_VERSION
  node_config=$PROJECT/dev/cluster/kind.yaml
  for node_image in "$NODE_IMAGE" "${NODE_IMAGE%@*}"; do # one that `docker load` brought has no digest
    if present "$node_image"; then return; fi
  done
  node_image=$NODE_IMAGE
  if ! present "$home_made" && pull "$node_image"; then return; fi
  can_have_own_engine || fail "the node image $NODE_IMAGE is not there and cannot be pulled" \
    "a stand-in is built only as root on Debian; otherwise: docker pull $NODE_IMAGE"
  note "a home-made node image is used in its place"
  "$PROJECT/dev/offline/node.sh" "$home_made"
  node_image=$home_made node_config=$PROJECT/dev/offline/kind.yaml
}

create() {
  local config=$CACHE/kind.yaml _
  choose_node_image
  # A copy, since the cluster outlives the checkout that made it.
  cp "$PROJECT/dev/cluster/audit-policy.yaml" "$CACHE/"
  # Both end with the control plane's node: what is appended before the workers is about it.
  cat "$node_config" "${CONTROL_PLANE_PATCHES:-$PROJECT/dev/cluster/audit.yaml}" |
    sed -e "s/COREDNS_VERSION/$COREDNS_VERSION/; s/ETCD_VERSION/$ETCD_VERSION/; s|CACHE|$CACHE|" >"$config"
  for _ in $(seq "${WORKERS:-1}"); do echo "  - role: worker" >>"$config"; done
  long_step "cluster $CLUSTER: creating it with ${WORKERS:-1} worker(s) (about 30 s)" kind-create \
    timeout 600 kind create cluster --name "$CLUSTER" --image "$node_image" --config "$config" --kubeconfig "$OWN_KUBECONFIG"
  wait_until_healthy || fail "the new cluster did not become healthy" "look at it with: $0 status; kubectl get pods -A"
}

remove_cluster() {
  docker ps -aq --filter "label=io.x-k8s.kind.cluster=$CLUSTER" | xargs -r docker rm -fv >/dev/null
  rm -f "$OWN_KUBECONFIG"
}

# Patches of one's own take the place of the audit log.
lacks_audit_log() {
  ! is_beside_the_usual_one && ! docker inspect -f '{{range .Mounts}}{{println .Destination}}{{end}}' "$CLUSTER-control-plane" |
    grep -qx /etc/kubernetes/audit/policy.yaml
}

list_nodes() { nodes=$(kube get nodes -o name); }

repair() {
  local nodes
  say "cluster $CLUSTER: it is there but not well; trying to bring it back"
  alive_since=$(date +%s)
  # The control plane first: with it a worker's kubelet finds its API server at once.
  node_containers -a | grep control-plane | xargs timeout 180 docker start >/dev/null || return 1
  node_containers -a | xargs timeout 180 docker start >/dev/null || return 1
  timeout 180 kind export kubeconfig --name "$CLUSTER" --kubeconfig "$OWN_KUBECONFIG" >/dev/null 2>&1 || return 1
  wait_for "the API server" 180 api_answers || return 1
  # A list that does not come says nothing of the nodes, and must not cost the cluster.
  wait_for "the list of nodes" 60 list_nodes || return 1
  if [ -n "$(comm -23 <(node_containers) <(sed 's/.*\///' <<<"$nodes" | sort))" ]; then
    note "a container that is there is none of its nodes"
    return 1
  fi
  wait_until_healthy
}

up() {
  "$PROJECT/dev/tools.sh"
  if has_cluster_of_the_user; then
    check_cluster_of_the_user
    return
  fi
  start_engine
  if [ -n "$(node_containers -a)" ] && lacks_audit_log; then
    say "cluster $CLUSTER: made before the API server had an audit log; replacing it"
    remove_cluster
  fi
  if [ -z "$(node_containers -a)" ]; then
    create
  elif ! is_healthy && ! repair; then
    say "cluster $CLUSTER: beyond repair; replacing it"
    remove_cluster
    alive_since=
    create
  fi
  local nodes
  nodes=$(node_containers | wc -l)
  [ "${WORKERS:-$((nodes - 1))}" = $((nodes - 1)) ] || note "WORKERS=$WORKERS counts for a new cluster only: 'down' first"
  say "cluster $CLUSTER: up, $nodes nodes of $(node_image_in_use)"
}

node_image_in_use() { docker inspect -f '{{.Config.Image}}' "$(node_containers -a | head -n 1)" | sed 's/@.*//'; }

down() {
  if has_cluster_of_the_user; then fail "KUBECONFIG=$KUBECONFIG is a cluster of yours: it is not touched"; fi
  if find_engine && { ! engine_is_ours || is_beside_the_usual_one; }; then
    remove_cluster
  elif [ -d "$OWN_ENGINE" ] && ! is_beside_the_usual_one; then
    "$PROJECT/dev/offline/engine.sh" down
    rm -f "$CACHE"/kubeconfig*
  fi
  say "cluster $CLUSTER: down"
}

purge() {
  if is_beside_the_usual_one; then fail "the cache is the usual cluster's, too" "unset MAPREDUCE_CLUSTER to purge it"; fi
  down
  # By name: the cache folder may have been set to one that holds other things.
  (cd "$CACHE" && rm -rf bin engine images log offline venv build-* kind.yaml audit-policy.yaml registry-refused lock)
  rmdir "$CACHE" 2>/dev/null || note "$CACHE holds files that are not ours: left there"
}

status() {
  if has_cluster_of_the_user; then
    check_cluster_of_the_user
    return
  fi
  find_engine || fail "no Docker engine answers: the cluster is down"
  if engine_is_ours; then note "Docker engine: our own, $DOCKER_HOST"; else note "Docker engine: the one at hand"; fi
  [ -n "$(node_containers -a)" ] || fail "there is no cluster $CLUSTER"
  note "node image: $(node_image_in_use)"
  docker ps -a --filter "label=io.x-k8s.kind.cluster=$CLUSTER" --format '    {{.Names}}: {{.Status}}'
  is_healthy || fail "cluster $CLUSTER is not well; '$0 up' repairs it"
  say "cluster $CLUSTER: well"
}

print_env() {
  # shellcheck disable=SC2016  # $PATH is for the shell that evaluates this
  printf 'export PATH=%q:$PATH\n' "$CACHE/bin"
  if has_cluster_of_the_user; then return; fi
  printf 'export KUBECONFIG=%q\n' "$OWN_KUBECONFIG"
  if find_engine && engine_is_ours; then printf 'export DOCKER_HOST=%q\n' "$DOCKER_HOST"; fi
}

on_control_plane() {
  find_engine || fail "no Docker engine answers: the cluster is down"
  docker exec "$CLUSTER-control-plane" sh -c "$1"
}

print_audit_log() {
  if has_cluster_of_the_user; then fail "KUBECONFIG=$KUBECONFIG is a cluster of yours: its audit log is out of reach"; fi
  on_control_plane 'cat /var/log/kubernetes/audit*.log'
}

clear_audit_log() {
  if has_cluster_of_the_user; then return; fi
  on_control_plane 'rm -f /var/log/kubernetes/audit-*.log; : >/var/log/kubernetes/audit.log'
}

case ${1:-} in
  up | down | purge) alone "$1" ;;
  status) status ;;
  kubeconfig) if has_cluster_of_the_user; then echo "$KUBECONFIG"; else echo "$OWN_KUBECONFIG"; fi ;;
  env) print_env ;;
  audit) print_audit_log ;;
  audit-clear) clear_audit_log ;;
  *) usage ;;
esac
