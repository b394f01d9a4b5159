#!/usr/bin/env bash
# Installs the operator into the cluster at hand by its chart, or upgrades it; waits until it is ready.
# Arguments are handed on to Helm: dev/deploy.sh --set operator.logLevel=DEBUG
set -euo pipefail
# shellcheck source=dev/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

RELEASE=mapreduce-operator
NAMESPACE=mapreduce-system

has_deployment() { kubectl get deployment "$RELEASE" --namespace "$NAMESPACE" >/dev/null 2>&1; }

# A local volume never leaves its node: the pods would wait for ever. The jobs go with it, as it holds their state.
give_up_volume_of_a_worker() {
  local volume node control_planes waits
  volume=$(kubectl get pvc "$RELEASE" --namespace "$NAMESPACE" --ignore-not-found --output jsonpath='{.spec.volumeName}')
  [ -n "$volume" ] || return 0
  node=$(kubectl get pv "$volume" --output jsonpath='{.spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0].values[0]}')
  [ -n "$node" ] || return 0
  # Not in one line with grep: an API server that does not answer must not look like a volume elsewhere.
  control_planes=$(kubectl get nodes --selector node-role.kubernetes.io/control-plane --output name)
  if grep -qxF "node/$node" <<<"$control_planes"; then return; fi
  say "operator: moving from $node to the control plane; its volume and all MapReduceJobs are deleted"
  # Where no operator is, nobody finishes their deletion, and to wait is in vain.
  if has_deployment; then waits=true; else waits=false; fi
  kubectl delete mrj --all --all-namespaces --wait=$waits --timeout 180s || note "the new operator will finish their deletion"
  helm uninstall "$RELEASE" --namespace "$NAMESPACE" --ignore-not-found --wait --timeout 180s
  kubectl delete pvc "$RELEASE" --namespace "$NAMESPACE" --timeout 180s
}

# A Helm that was killed leaves a revision that is under way for ever, and no other Helm goes on from there.
forget_unfinished_revisions() {
  kubectl delete secrets --namespace "$NAMESPACE" --ignore-not-found \
    --selector "owner=helm,name=$RELEASE,status in (pending-install,pending-upgrade,pending-rollback,uninstalling)" >/dev/null
}

image=${OPERATOR_IMAGE:-$(cat "$CACHE/images/loaded-$CLUSTER" 2>/dev/null)} || fail "no image of the operator is loaded" "run: make images"

# host:port/name@sha256:digest, host:port/name:tag or host:port/name
case $image in
  *@*) image_values=(--set-string "image.repository=${image%@*}" --set-string "image.digest=${image##*@}") ;;
  */*:* | *:*)
    tag=${image##*:}
    case $tag in
      */*) image_values=(--set-string "image.repository=$image" --set-string image.tag=latest) ;;
      *) image_values=(--set-string "image.repository=${image%:*}" --set-string "image.tag=$tag") ;;
    esac
    ;;
  *) image_values=(--set-string "image.repository=$image" --set-string image.tag=latest) ;;
esac

# In the local cluster the operator runs on the control plane, so that tests may stop a worker.
place_values=()
if [ "${KUBECONFIG:-}" = "$OWN_KUBECONFIG" ]; then
  place_values=(
    --set-json 'nodeSelector={"node-role.kubernetes.io/control-plane": ""}'
    --set-json 'tolerations=[{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists"}]'
  )
  give_up_volume_of_a_worker
  forget_unfinished_revisions
fi

if ! has_deployment; then
  say "operator: installing $image by Helm into the namespace $NAMESPACE (about 25 s)"
fi
if ! helm upgrade --install "$RELEASE" "$PROJECT/charts/mapreduce-operator" --namespace "$NAMESPACE" --create-namespace \
  "${image_values[@]}" "${place_values[@]}" --set metrics.perJob=true --wait --timeout 300s "$@" >"$CACHE/log/deploy.log" 2>&1; then
  cat "$CACHE/log/deploy.log" >&2
  kubectl get pods,events --namespace "$NAMESPACE" >&2 || true
  kubectl logs --namespace "$NAMESPACE" --selector "app.kubernetes.io/instance=$RELEASE" --prefix --tail 50 >&2 || true
  fail "the operator did not become ready" "its pods, events and log are above"
fi
# The pods are ready before they have agreed on the one that leads, which takes 15 s the first time.
has_leader() { [ -n "$(kubectl get lease "$RELEASE" --namespace "$NAMESPACE" --ignore-not-found --output jsonpath='{.spec.holderIdentity}')" ]; }
until_true 180 has_leader || fail "no pod of the operator leads" "see: kubectl -n $NAMESPACE logs --selector app.kubernetes.io/instance=$RELEASE"
note "$(kubectl get pods --namespace "$NAMESPACE" --no-headers | awk '{ print $1 ": " $3 }' | paste -sd' ')"
