#!/usr/bin/env bash
# Builds a release into dist/ (or the folder given): a static binary for each platform, an SBOM and
# SHA256SUMS. The same commit and Go version give the same bytes, wherever and whenever it runs.
set -euo pipefail
cd "$(dirname "$0")/.."

dist=$(realpath -m "${1:-dist}")
platforms=${PLATFORMS:-linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64}
# The tag alone on a tagged commit; otherwise tag, distance and commit; "-dirty" with changes on top.
version=${VERSION:-$(git describe --tags --always --dirty)}

rm -rf "$dist"
mkdir -p "$dist"
for platform in $platforms; do
    os=${platform%/*} arch=${platform#*/} suffix=
    if [ "$os" = windows ]; then suffix=.exe; fi
    # -trimpath: no folder of this machine is in the binary. -buildvcs: the commit is, even where
    # GOFLAGS says otherwise.
    CGO_ENABLED=0 GOOS=$os GOARCH=$arch go build -trimpath -buildvcs=true -ldflags "-s -w -X main.version=$version" \
        -o "$dist/itwin-token-server_${version}_${os}_$arch$suffix" .
done

# Of one binary: the others hold the same modules.
one=$(printf '%s\n' "$dist"/* | head -1)
CGO_ENABLED=0 go run -trimpath ./deploy/sbom "$one" "$version" >"$dist/itwin-token-server_$version.cdx.json"

cd "$dist"
sha256sum -- * >SHA256SUMS
echo "release $version in $dist"
