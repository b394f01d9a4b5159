# shellcheck shell=bash disable=SC2034  # sourced by every script here: where things lie, and how progress is told
PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=$(realpath -m "${MAPREDUCE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/mapreduce-operator}")
CLUSTER=${MAPREDUCE_CLUSTER:-mapreduce}
OWN_KUBECONFIG=$CACHE/kubeconfig
[ "$CLUSTER" = mapreduce ] || OWN_KUBECONFIG+=-$CLUSTER
OWN_ENGINE=$CACHE/engine
OWN_DOCKER_HOST=unix://$OWN_ENGINE/docker.sock

mkdir -p "$CACHE/bin" "$CACHE/log"
export PATH="$CACHE/bin:$PATH"
# shellcheck source=dev/versions.sh
. "$PROJECT/dev/versions.sh"

say() { printf '==> %s\n' "$*"; }
note() { printf '    %s\n' "$*"; }
fail() {
  printf 'error: %s\n' "$1" >&2
  shift
  [ $# = 0 ] || printf '       %s\n' "$@" >&2
  exit 1
}

# long_step TEXT LOG COMMAND...   A program, not a shell function: `set -e` does not hold inside a function that is asked for its result.
long_step() {
  local text=$1 log=$CACHE/log/$2.log began=$SECONDS
  shift 2
  say "$text"
  if ! "$@" >"$log" 2>&1 </dev/null; then
    tail -n 30 "$log" >&2
    fail "$text: failed; the whole output is in $log"
  fi
  note "done in $((SECONDS - began)) s"
}

# Two at a time would create the same nodes, or fill the same folder.
alone() {
  exec 9>"$CACHE/lock"
  flock -n 9 || { note "waiting for another run to end" && flock -w 1800 9; } || fail "another run has held $CACHE/lock for 30 minutes"
  "$@"
}

# until_true SECONDS COMMAND...
until_true() {
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 0.3
  done
}

# The hash of the contents and names of files and folders, for caches that must notice a change.
hash_of() {
  find "$@" -type f ! -path '*/__pycache__/*' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -c1-12
}
