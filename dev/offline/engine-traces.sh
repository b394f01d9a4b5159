# shellcheck shell=bash  # sourced by engine.sh: what a Docker engine leaves on the machine, and its removal

has_our_path() { # has_our_path PID
  { tr '\0' ' ' <"/proc/$1/cmdline"; } 2>/dev/null | grep -qF "$OWN_ENGINE/"
}

shims() { # their address is our containerd's: nobody else's are touched
  local pid
  for pid in $(pgrep -f containerd-shim); do
    if has_our_path "$pid"; then echo "$pid"; fi
  done
}

end_left_over_shims() { shims | xargs -r kill -9 2>/dev/null || true; }

mounts() { awk -v below="$OWN_ENGINE/" 'index($5, below) == 1 {print $5}' /proc/self/mountinfo | sort -r; }

# Docker's own chains and every rule that names one of them, its bridges or the addresses we gave it.
docker_rules='DOCKER|docker0|br-[0-9a-f]{12}|172\.3[01]\.'
foreign_engine_runs() { pgrep -x dockerd >/dev/null; } # asked when ours has ended
has_rules() { { iptables-save && ip6tables-save; } 2>/dev/null | grep -qE "$docker_rules"; }

has_traces() { [ -n "$(shims)$(mounts)" ] || ip link show docker0 >/dev/null 2>&1 || has_rules; }

remove_rules() {
  local family
  if foreign_engine_runs; then return; fi
  for family in iptables ip6tables; do
    $family-save 2>/dev/null | grep -qE "$docker_rules" || continue
    # Docker sets this policy when it turns forwarding on.
    $family-save | grep -vE "$docker_rules" | sed 's/^:FORWARD DROP/:FORWARD ACCEPT/' | $family-restore
  done
}

remove_traces() {
  [ -d "$OWN_ENGINE" ] || return 0
  local mount bridge
  end_left_over_shims
  for mount in $(mounts); do umount -l "$mount" || true; done
  for bridge in $(ip -o link show type bridge 2>/dev/null | grep -oE '(docker0|br-[0-9a-f]{12})' | sort -u); do
    if ip -4 -o addr show "$bridge" | grep -qE ' 172\.3[01]\.'; then ip link delete "$bridge"; fi
  done
  remove_rules
  # Cgroups that Docker made and left empty; one with processes in it cannot be removed.
  find /sys/fs/cgroup -depth -type d -path '*/docker*' -exec rmdir {} + 2>/dev/null || true
  if [ -f "$OWN_ENGINE/ip_forward.before" ]; then
    cat "$OWN_ENGINE/ip_forward.before" >/proc/sys/net/ipv4/ip_forward
    rm "$OWN_ENGINE/ip_forward.before"
  fi
  rm -rf "$OWN_ENGINE/run"
}
