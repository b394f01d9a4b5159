#!/usr/bin/env bash
# A Docker engine of our own, on a socket in the cache, for a machine that has none running. Needs root and Debian's packages.
# usage: engine.sh install|up|down
set -euo pipefail
# shellcheck source=dev/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"
# shellcheck source=dev/offline/engine-traces.sh
. "$PROJECT/dev/offline/engine-traces.sh"
export DOCKER_HOST=$OWN_DOCKER_HOST
containerd_socket=$OWN_ENGINE/containerd.sock

answers() { timeout 30 docker info >/dev/null 2>&1; }
containerd_answers() { timeout 30 ctr -a "$containerd_socket" version >/dev/null 2>&1; }

install_packages() {
  local command missing=no
  for command in docker dockerd containerd runc iptables ip mmdebstrap setsid; do
    command -v $command >/dev/null || missing=yes
  done
  [ $missing = yes ] || return 0
  long_step "Docker engine: bringing apt's lists up to date" apt-update apt-get update -q
  long_step "Docker engine: installing Debian's packages (about 40 s)" apt-install \
    env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=120 \
    docker.io containerd runc iptables iproute2 mmdebstrap
}

# start NAME COMMAND...   In a session of its own and without our streams and lock, so that it survives the shell that called us.
start() {
  local name=$1
  shift
  setsid "$@" >>"$CACHE/log/$name.log" 2>&1 </dev/null 9>&- &
  echo $! >"$OWN_ENGINE/$name.pid"
}

# pid_of NAME   Its pid, if that is still our process: after a restart of the machine the number may be another's.
pid_of() {
  local pid
  pid=$(cat "$OWN_ENGINE/$1.pid" 2>/dev/null) || return 1
  has_our_path "$pid" && echo "$pid"
}

gone() { ! kill -0 "$1" 2>/dev/null; }
stop() { # stop NAME SECONDS
  local pid
  pid=$(pid_of "$1") || return 0
  kill "$pid"
  until_true "$2" gone "$pid" || kill -9 "$pid" 2>/dev/null || true
  until_true 5 gone "$pid" || fail "$1 (process $pid) does not end"
  rm -f "$OWN_ENGINE/$1.pid"
}

lacks_sys_resource() { # bit 24 of the bounding set
  local set
  set=$(awk '/^CapBnd/ {print $2}' /proc/self/status)
  (((16#$set >> 24 & 1) == 0))
}

start_containerd() {
  cat >"$OWN_ENGINE/containerd.toml" <<EOF
version = 2
root = "$OWN_ENGINE/containerd"
state = "$OWN_ENGINE/run/containerd"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "$containerd_socket"
EOF
  start containerd containerd --config "$OWN_ENGINE/containerd.toml"
  until_true 90 containerd_answers || fail "containerd did not start within 90 s" "see $CACHE/log/containerd.log"
}

start_dockerd() {
  local options=()
  if lacks_sys_resource; then
    # A copy, since the engine outlives the checkout that started it.
    install -m 755 "$PROJECT/dev/offline/runc-without-sys-resource" "$OWN_ENGINE/"
    options+=(--add-runtime "limited=$OWN_ENGINE/runc-without-sys-resource" --default-runtime limited)
  fi
  # Docker falls back to a public name server when the machine has only one on its loopback; here nobody may answer there.
  grep -E '^nameserver' /etc/resolv.conf | grep -qvE ' (127\.|::1)' || options+=(--dns 172.30.0.1)
  [ -f "$OWN_ENGINE/ip_forward.before" ] || cat /proc/sys/net/ipv4/ip_forward >"$OWN_ENGINE/ip_forward.before"
  # A file of the machine's own settings, /etc/docker/daemon.json, is not for this engine.
  echo '{}' >"$OWN_ENGINE/daemon.json"
  start dockerd dockerd --config-file "$OWN_ENGINE/daemon.json" --containerd "$containerd_socket" \
    --data-root "$OWN_ENGINE/docker" --exec-root "$OWN_ENGINE/run/docker" --pidfile "$OWN_ENGINE/run/dockerd.pid" \
    --host "$DOCKER_HOST" --exec-opt native.cgroupdriver=cgroupfs --oom-score-adjust 0 \
    --bip 172.30.0.1/24 --default-address-pool base=172.31.0.0/16,size=24 "${options[@]}"
  until_true 180 answers || fail "the Docker engine did not start within 180 s" "$(tail -n 3 "$CACHE/log/dockerd.log")"
}

up() {
  # The kernel's limit for the path of a socket is 107 bytes.
  [ ${#containerd_socket} -le 100 ] || fail "the path of the cache is too long for a socket: $CACHE" "set MAPREDUCE_CACHE to a shorter one"
  mkdir -p "$OWN_ENGINE/run"
  if pid_of dockerd >/dev/null && pid_of containerd >/dev/null && answers; then return; fi
  say "Docker engine: starting our own (about 3 s)"
  stop dockerd 15
  stop containerd 10
  # What a killed engine left would make the new one wait for processes that are gone.
  end_left_over_shims
  rm -f "$OWN_ENGINE/run/dockerd.pid" "$OWN_ENGINE/docker.sock" "$containerd_socket"
  start_containerd
  start_dockerd
}

down() {
  # Only the engine knows its containers and networks: a dead one is started once more, to be cleared.
  if [ -d "$OWN_ENGINE/docker" ] && { has_traces || answers; }; then
    up
    docker ps -aq | xargs -r docker rm -fv >/dev/null
    docker network ls -q --filter type=custom | xargs -r docker network rm >/dev/null
  fi
  stop dockerd 30
  stop containerd 10
  remove_traces
}

case ${1:-} in
  install) install_packages ;;
  up) up ;;
  down) down ;;
  *) fail "usage: engine.sh install|up|down" ;;
esac
