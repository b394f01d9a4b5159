# shellcheck shell=bash  # sourced: public images, where the engine can have them
refused=$CACHE/registry-refused

present() { docker image inspect "$1" >/dev/null 2>&1; }

# Asks for IMAGE; 20 s are enough to learn whether the registry answers at all. A 'no' holds for ten minutes, not to be asked again by every step.
pull() {
  local image=$1 log=$CACHE/log/pull.log job
  [ -z "$(find "$refused" -mmin -10 2>/dev/null)" ] || return 1
  say "$image: asking the registry for it"
  timeout 900 docker pull "$image" >"$log" 2>&1 </dev/null &
  job=$!
  if until_true 20 begun_or_ended "$job" "$log" && wait "$job"; then return 0; fi
  kill "$job" 2>/dev/null || true
  note "not to be had ($(tail -n 1 "$log" | cut -c1-120))"
  touch "$refused"
  return 1
}
begun_or_ended() { grep -qE 'Pulling fs layer|Already exists|^Status' "$2" || ! kill -0 "$1" 2>/dev/null; }

present_or_pulled() { present "$1" || pull "$1"; }
