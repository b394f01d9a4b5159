# shellcheck shell=bash  # sourced: the images that ours are based on, or stand-ins from Debian's packages where no registry answers
stand_in_label='LABEL dev.mapreduce.stand-in=true'
python_stand_in=localhost/mapreduce-python-base:$DEBIAN_RELEASE

# make_stand_in IMAGE PACKAGES
make_stand_in() {
  local image=$1 tar=$CACHE/images/base.tar
  command -v mmdebstrap >/dev/null || fail "$image cannot be made: mmdebstrap is missing, and no registry answers for the public image" \
    "on Debian or Ubuntu: apt-get install mmdebstrap"
  mkdir -p "$CACHE/images"
  long_step "$image: making it from Debian's packages (about 50 s)" stand-in \
    "$PROJECT/dev/offline/root-file-system.sh" "$tar" "$2"
  docker import --change "$stand_in_label" --change 'CMD ["bash"]' "$tar" "$image" >/dev/null
  rm "$tar"
}

# Sets operator_base.
choose_operator_base() {
  operator_base=$OPERATOR_BASE_IMAGE
  if present "$operator_base" || { ! present "$python_stand_in" && pull "$operator_base"; }; then return; fi
  operator_base=$python_stand_in
  present "$operator_base" || make_stand_in "$operator_base" python3-minimal,python3-venv,ca-certificates
}

# The examples name this image, so the stand-in must have the same name; its label tells it apart.
have_examples_image() {
  present_or_pulled "$EXAMPLES_IMAGE" || make_stand_in "$EXAMPLES_IMAGE" ""
  if docker image inspect -f '{{.Config.Labels}}' "$EXAMPLES_IMAGE" | grep -q stand-in; then
    note "${EXAMPLES_IMAGE#docker.io/library/} is a stand-in made here from Debian's packages, not the public image"
  fi
}
