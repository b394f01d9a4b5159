#!/usr/bin/env bash
# Installs the operator into the cluster at hand by its chart, or upgrades it; waits until it is ready.
set -euo pipefail
# shellcheck source=dev/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"

RELEASE=mapreduce-operator
NAMESPACE=mapreduce-system

image=${OPERATOR_IMAGE:-$(cat "$CACHE/images/loaded" 2>/dev/null)} || fail "no image of the operator is loaded" "run: make images"

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
if ! kubectl get deployment "$RELEASE" --namespace "$NAMESPACE" >/dev/null 2>&1; then
  say "operator: installing $image by Helm into the namespace $NAMESPACE (about 15 s)"
fi
if ! helm upgrade --install "$RELEASE" "$PROJECT/charts/mapreduce-operator" --namespace "$NAMESPACE" --create-namespace \
  "${image_values[@]}" \
  --wait --timeout 120s >"$CACHE/log/deploy.log" 2>&1; then
  cat "$CACHE/log/deploy.log" >&2
  kubectl get pods,events --namespace "$NAMESPACE" >&2 || true
  kubectl logs --namespace "$NAMESPACE" "deployment/$RELEASE" --tail 50 >&2 || true
  fail "the operator did not become ready" "its pods, events and log are above"
fi
note "$(kubectl get pods --namespace "$NAMESPACE" --no-headers | awk '{ print $1 ": " $3 }' | paste -sd' ')"
