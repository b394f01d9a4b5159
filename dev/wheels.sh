#!/usr/bin/env bash
# usage: wheels.sh OUT PYTHON_VERSION    Fills the folder OUT with what the operator's image installs, for that Python on this kind of processor.
set -euo pipefail
# shellcheck source=dev/environment.sh
. "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
# shellcheck source=dev/python-and-go.sh
. "$PROJECT/dev/python-and-go.sh"
out=$1 python_version=$2
requirements=$PROJECT/requirements/runtime.txt
python=$(tools_python)
pip() { "$python" -m pip --disable-pip-version-check "$@"; }

# Those of the dependencies are kept: most changes are changes of the project alone.
kept=$CACHE/images/wheels-$python_version-$(hash_of "$requirements")
if [ ! -d "$kept" ]; then
  rm -rf "$CACHE"/images/wheels-* "$kept.new"
  machine=$(uname -m)
  platforms=()
  for glibc in 2014 _2_17 _2_28; do platforms+=(--platform "manylinux${glibc}_$machine"); done
  pip download --only-binary=:all: --require-hashes --no-deps -r "$requirements" \
    --python-version "$python_version" --implementation cp "${platforms[@]}" --dest "$kept.new"
  mv "$kept.new" "$kept"
fi
rm -rf "$out"
mkdir -p "$out"
cp "$kept"/* "$out"
cp "$requirements" "$out/requirements.txt"
pip wheel --no-deps --wheel-dir "$out" "$PROJECT"
