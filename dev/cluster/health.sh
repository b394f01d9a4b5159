# shellcheck shell=bash  # sourced: is the cluster well, and waiting until it is

kube() { timeout 20 kubectl --kubeconfig "$OWN_KUBECONFIG" --request-timeout=5s "$@" 2>/dev/null; }

node_containers() { docker ps "$@" --filter "label=io.x-k8s.kind.cluster=$CLUSTER" --format '{{.Names}}' | sort; }

api_answers() { [ -s "$OWN_KUBECONFIG" ] && kube get --raw /readyz >/dev/null; }

nodes_are_ready() { # a test may have made a node more, which nobody runs
  local states node
  states=$(kube get nodes -o 'jsonpath={range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}')
  for node in $(node_containers -a); do
    grep -qx "$node True" <<<"$states" || return 1
  done
  kubelets_are_alive
}

# A node is called Ready for 40 s after its kubelet died; the kubelet's lease tells sooner. After a repair only a new one counts.
alive_since=
kubelets_are_alive() {
  local renewed oldest=$alive_since
  [ -n "$oldest" ] || oldest=$(date -d '25 seconds ago' +%s)
  for renewed in $(kube get leases -n kube-node-lease -o 'jsonpath={.items[*].spec.renewTime}'); do
    [ "$(date -d "$renewed" +%s)" -ge "$oldest" ] || return 1
  done
}

# CoreDNS itself is asked, over the pod network: what the API says of pods is old news after a restart.
dns_answers() { kube get --raw /api/v1/namespaces/kube-system/services/kube-dns:9153/proxy/metrics >/dev/null; }

has_default_service_account() { kube get serviceaccount default -n default >/dev/null; }

is_healthy() {
  [ -n "$(node_containers)" ] && [ "$(node_containers)" = "$(node_containers -a)" ] &&
    api_answers && nodes_are_ready && dns_answers && has_default_service_account
}

wait_for() { # wait_for TEXT SECONDS COMMAND
  if "$3"; then return; fi
  note "waiting for $1 (at most $2 s)"
  until_true "$2" "$3" || { note "waited $2 s for $1 in vain" && return 1; }
}

wait_until_healthy() {
  wait_for "the API server" 180 api_answers &&
    wait_for "the nodes to be Ready" 240 nodes_are_ready &&
    wait_for "CoreDNS to answer" 240 dns_answers &&
    wait_for "the default service account" 90 has_default_service_account
}
