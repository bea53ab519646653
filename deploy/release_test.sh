#!/usr/bin/env bash
# Makes the release of the last commit twice, in different folders and the second time with an empty
# build cache, and compares the bytes.
set -euo pipefail
cd "$(dirname "$0")"

work=$(mktemp -d)
trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
fail() { echo "release: $*" >&2; exit 1; }

for copy in first elsewhere/second; do
    git clone --quiet .. "$work/$copy"
    git -C "$work/$copy" tag --force v1.2.3 >/dev/null
done
bash "$work/first/deploy/release.sh" "$work/first-dist" >/dev/null
# Two of the six: with an empty cache the standard library is compiled once for each.
PLATFORMS="linux/amd64 windows/arm64" GOCACHE="$work/cache" \
    bash "$work/elsewhere/second/deploy/release.sh" "$work/second-dist" >/dev/null

cd "$work/first-dist"
sha256sum --check --quiet SHA256SUMS
files=$(echo *)
want="SHA256SUMS"
for target in .cdx.json _darwin_amd64 _darwin_arm64 _linux_amd64 _linux_arm64 _windows_amd64.exe _windows_arm64.exe; do
    want+=" itwin-token-server_v1.2.3$target"
done
[ "$files" = "$want" ] || fail "it has $files, want $want"

server=itwin-token-server_v1.2.3_linux_amd64
commit=$(git -C "$work/first" rev-parse HEAD)
case $(./$server version) in *"v1.2.3 $commit "*) ;; *) fail "version prints $(./$server version), want the tag and the commit" ;; esac
go version -m $server >"$work/info"
grep -q "vcs.revision=$commit" "$work/info" || fail "no commit in the binary"
grep -q "CGO_ENABLED=0" "$work/info" || fail "not static"
# The SBOM lists the modules in the binary and the standard library, each with its version.
sbom=itwin-token-server_v1.2.3.cdx.json
while read -r _ module version _; do
    grep -qF "\"purl\": \"pkg:golang/$module@$version\"" $sbom || fail "$module $version is not in the SBOM"
done < <(grep -P '^\tdep\t' "$work/info")
grep -qF "\"purl\": \"pkg:golang/std@$(go env GOVERSION)\"" $sbom || fail "the standard library is not in the SBOM"

cd "$work/second-dist"
# Its two binaries and its SBOM against the first release's checksums.
same=$(sha256sum --check --ignore-missing "$work/first-dist/SHA256SUMS") || fail "not reproducible: $same"
[ "$(wc -l <<<"$same")" = 3 ] || fail "compared only: $same"
echo "release: six binaries and an SBOM; rebuilt elsewhere with the same hashes"
