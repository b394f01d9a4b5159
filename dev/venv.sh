#!/usr/bin/env bash
# Makes the Python environment for development, from the locked requirements.
set -euo pipefail
# shellcheck source=dev/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# shellcheck source=dev/python-and-go.sh
. "$PROJECT/dev/python-and-go.sh"

venv=$1
if [ ! -x "$venv/bin/pip" ]; then
  "$(tools_python)" -m venv --clear "$venv"
fi
long_step "python environment: installing the locked requirements (about 60 s the first time)" venv \
  "$venv/bin/pip" install --disable-pip-version-check --require-hashes -r "$PROJECT/requirements/dev.txt"
"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable "$PROJECT"
