#!/usr/bin/env bash
# Runs tests/bench in a cluster of its own, whose controllers are not throttled, and deletes it; KEEP=1 leaves it.
set -euo pipefail
# Whatever cluster is at hand, it is not for this: see control-plane.yaml.
unset KUBECONFIG
export MAPREDUCE_CLUSTER=mapreduce-bench
# shellcheck source=dev/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"

finish() { [ -n "${KEEP:-}" ] || "$PROJECT/dev/cluster/cluster.sh" down; }
trap finish EXIT
"$PROJECT/dev/tools.sh" kwok
# One node for all that is real: workers would only be more kubelets.
WORKERS=0 CONTROL_PLANE_PATCHES=$PROJECT/dev/bench/control-plane.yaml "$PROJECT/dev/cluster/cluster.sh" up
eval "$("$PROJECT/dev/cluster/cluster.sh" env)"
"$PROJECT/dev/images.sh" load
"$PROJECT/dev/deploy.sh"
cd "$PROJECT"
.venv/bin/python -m tests.bench "$@"
