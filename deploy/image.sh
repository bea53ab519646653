#!/usr/bin/env bash
# Builds the image itwin-token-server:VERSION with Docker, Podman or Buildah, whichever runs here. Where
# the base image cannot be pulled, shows instead that the last stage is all the server needs.
set -euo pipefail
cd "$(dirname "$0")/.."

version=${VERSION:-$(git describe --tags --always --dirty)}
if docker info >/dev/null 2>&1; then
    tool=docker
elif command -v podman >/dev/null; then
    tool=podman
else
    tool=buildah
fi

base=$(sed -n 's/^FROM .*\(docker.io[^ ]*\) AS build$/\1/p' deploy/Dockerfile)
if ! $tool pull "$base" >/dev/null 2>&1; then
    echo "$base cannot be pulled with $tool; proving the last stage without it"
    exec bash deploy/test.sh image
fi
$tool build --file deploy/Dockerfile --build-arg "VERSION=$version" --tag "itwin-token-server:$version" "$@" .
