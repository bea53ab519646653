#!/usr/bin/env bash
# Builds the image itwin-token-server, tagged with the version and as latest, with Docker, Podman or
# Buildah, whichever runs here. Arguments are passed on to its build command.
set -euo pipefail
cd "$(dirname "$0")/.."

version=${VERSION:-$(git describe --tags --always --dirty)}
# Podman's and Buildah's default, the OCI format, has no HEALTHCHECK.
export BUILDAH_FORMAT=docker
for tool in docker podman buildah; do
    if $tool info >/dev/null 2>&1; then
        $tool build --file deploy/Dockerfile --build-arg "VERSION=$version" \
            --tag "itwin-token-server:$version" --tag itwin-token-server:latest "$@" .
        echo "itwin-token-server:$version"
        exit
    fi
done
echo "image: none of Docker, Podman and Buildah runs here; install and start one of them" >&2
exit 1
