#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Stands in for a container registry that cannot be reached: makes the images that the Dockerfile begins with, under
# their names, from Debian's packages and from PyPI. Nearly the same, not the same: Python is Debian's own.
# Needs root, podman, debootstrap and pip. Then: make image ENGINE=podman FLAGS="--pull=never ..."
set -euo pipefail
cd "$(dirname "$0")/.."

for program in podman debootstrap python3; do
  command -v "$program" >/dev/null || { echo "image_bases.sh needs $program" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "image_bases.sh needs root, as debootstrap does" >&2; exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
uv=$(sed -n 's/^FROM \(ghcr.io.*uv:[0-9.]*\) .*/\1/p' Dockerfile)
python=$(sed -n 's/^FROM \(python:[^ ]*\)$/\1/p' Dockerfile)

python3 -m pip download --quiet --no-deps --dest "$scratch" "uv==${uv##*:}"
mkdir "$scratch/uv"
python3 -m zipfile -e "$scratch"/uv-*.whl "$scratch/wheel"
install -m 0755 "$scratch"/wheel/uv-*.data/scripts/uv "$scratch/uv/uv"
tar -C "$scratch/uv" -c . | podman import - "$uv"

# The Debian release whose python3 is the version that the Dockerfile asks for.
debootstrap --variant=minbase --include=ca-certificates,python3 trixie "$scratch/root"
minor=${python#python:}; minor=${minor%-slim}
[ -x "$scratch/root/usr/bin/python$minor" ] || { echo "Debian has no python$minor" >&2; exit 1; }
for name in python python3 "python$minor"; do ln -s "/usr/bin/python$minor" "$scratch/root/usr/local/bin/$name"; done
rm -rf "$scratch"/root/var/{cache/apt,lib/apt/lists,log}/* "$scratch"/root/usr/share/{doc,man,locale}/*
tar -C "$scratch/root" --exclude=./dev --exclude=./proc --exclude=./sys -c . | podman import \
  --change 'ENV PATH=/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin' --change 'CMD ["python3"]' \
  - "docker.io/library/$python"
