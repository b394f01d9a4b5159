#!/usr/bin/env bash
# usage: root-file-system.sh OUT PACKAGE,...    A small Debian root file system, as a tar.
set -euo pipefail
# shellcheck source=dev/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/../environment.sh"
out=$1 packages=${2:-}
trap 'rm -f "$out.new.tar"' EXIT
mmdebstrap --variant=minbase ${packages:+"--include=$packages"} \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
  --dpkgopt='path-include=/usr/share/doc/*/copyright' --dpkgopt='path-exclude=/usr/share/locale/*' \
  "$DEBIAN_RELEASE" "$out.new.tar"
mv "$out.new.tar" "$out"
