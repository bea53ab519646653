#!/usr/bin/env bash
# Builds a release into dist/ (or the folder given): a static binary for each platform, an SBOM and
# SHA256SUMS. The same commit, Go version and kind of machine give the same bytes.
set -euo pipefail
cd "$(dirname "$0")/.."

cyclonedx=github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0
dist=$(realpath -m "${1:-dist}")
platforms=${PLATFORMS:-linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64}
# The tag on a tagged commit; otherwise tag, distance and commit; "-dirty" with uncommitted changes.
version=${VERSION:-$(git describe --tags --always --dirty)}
name=itwin-token-server_$version
export CGO_ENABLED=0

rm -rf "$dist"
mkdir -p "$dist"
for platform in $platforms; do
    os=${platform%/*} arch=${platform#*/} suffix=
    if [ "$os" = windows ]; then suffix=.exe; fi
    # -trimpath: no path of this machine is in the binary. -buildvcs: the commit is, even where GOFLAGS
    # disables it.
    GOOS=$os GOARCH=$arch go build -trimpath -buildvcs=true -ldflags "-s -w -X main.version=$version" \
        -o "$dist/${name}_${os}_$arch$suffix" .
done

# Made from the first binary: the others contain the same modules. Without a serial number and a time,
# which would differ between two builds.
one=${platforms%% *}
go run -trimpath "$cyclonedx" bin -json -noserial -notimestamp -std -short-purls -version "$version" \
    -output "$dist/$name.cdx.json" "$dist/${name}_${one/\//_}"

cd "$dist"
sha256sum -- * >SHA256SUMS
echo "release $version in $dist"
