# shellcheck shell=bash  # sourced: which Docker engine the cluster lives in
# One that answers is used, the one that DOCKER_HOST names before all; where there is none, dev/offline starts one.

engine_is_ours() { [ "${DOCKER_HOST:-}" = "$OWN_DOCKER_HOST" ]; }
engine_answers() { [ -n "$(timeout 30 docker version --format '{{.Server.Version}}' 2>/dev/null)" ]; }
can_have_own_engine() { [ "$(id -u)" = 0 ] && [ -f /etc/debian_version ] && command -v apt-get >/dev/null; }

# Points DOCKER_HOST to the engine, if one answers.
find_engine() {
  if [ -z "${DOCKER_HOST:-}" ] && [ -S "$OWN_ENGINE/docker.sock" ]; then
    export DOCKER_HOST=$OWN_DOCKER_HOST
    if engine_answers; then return; fi
    unset DOCKER_HOST
  fi
  engine_answers
}

start_engine() {
  if find_engine && ! engine_is_ours; then return; fi
  if [ -n "${DOCKER_HOST:-}" ] && ! engine_is_ours; then
    fail "no Docker engine answers at DOCKER_HOST=$DOCKER_HOST" "start it, or unset DOCKER_HOST"
  fi
  can_have_own_engine || fail "no Docker engine answers, and one of our own needs root on Debian" \
    "start Docker (see that 'docker info' works for this user), or set KUBECONFIG to use a cluster that you have"
  "$PROJECT/dev/offline/engine.sh" install
  # Debian's package starts its service where systemd runs: two engines would fight over bridges and rules.
  if ! engine_is_ours && engine_answers; then return; fi
  "$PROJECT/dev/offline/engine.sh" up
  export DOCKER_HOST=$OWN_DOCKER_HOST
}
