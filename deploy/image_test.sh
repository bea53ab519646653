#!/usr/bin/env bash
# Builds deploy/Dockerfile where no image can be pulled, and shows that its last stage is all the server
# needs. Instead of golang:1.26 it uses a base with this machine's Go.
# Needs root, buildah, busybox-static and curl; leaves nothing behind.
set -euo pipefail
cd "$(dirname "$0")"

work=$(mktemp -d)
# In a storage of its own. vfs works inside containers too.
buildah() { command buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"; }
stop() {
    if [ -n "${standin:-}" ]; then kill "$standin" || true; fi
    if [ -n "${demo:-}" ]; then kill "$demo" || true; fi
    wait
    buildah umount --all >/dev/null || true
    rm -rf "$work"
}
trap stop EXIT
fail() { echo "image: $*" >&2; exit 1; }
want() { # what, got, wanted
    if [ "$2" != "$3" ]; then fail "$1 is $2, want $3"; fi
}
waitFor() { # pattern, file
    for _ in $(seq 100); do
        if grep "$1" "$2"; then return; fi
        sleep 0.1
    done
    fail "no $1 within 10 s: $(cat "$2")"
}

# without makes tools look absent to the scripts that are run next.
without() { for tool; do eval "$tool() { return 1; }" && export -f "${tool?}"; done; }

if (without docker podman buildah && make -C .. image) >"$work/none" 2>&1; then fail "make image succeeds without a tool"; fi
grep -q "none of Docker" "$work/none" || fail "make image without a tool: $(cat "$work/none")"

base=$(buildah from scratch)
buildah copy --quiet "$base" /bin/busybox /bin/sh >/dev/null
buildah copy --quiet "$base" /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt >/dev/null
buildah config --env PATH=/usr/local/go/bin:/bin --env GOPATH=/go --env GOPROXY=off \
    --env GOCACHE=/cache --env GOTMPDIR=/cache "$base"
buildah commit --quiet "$base" golang-stand-in >/dev/null

# The modules and the compiler's cache are this machine's.
go mod download -C ..
mkdir -p "$(go env GOCACHE)"
(
    without docker podman
    export work
    export -f buildah
    VERSION=v1.2.3 bash image.sh --quiet --isolation chroot --from localhost/golang-stand-in \
        --volume "$(go env GOROOT):/usr/local/go:ro" --volume "$(go env GOMODCACHE):/go/pkg/mod" \
        --volume "$(go env GOCACHE):/cache"
) >"$work/build" 2>&1 || fail "$(cat "$work/build")"

image=localhost/itwin-token-server:v1.2.3
inspect() { buildah inspect --type image --format "{{.OCIv1.Config.$1}}" $image; }
want "the user" "$(inspect User)" 65532:65532
want "the entry point" "$(inspect Entrypoint)" "[/itwin-token-server]"
want "the port" "$(inspect ExposedPorts)" "map[3001/tcp:{}]"
want "the health check" "$(buildah inspect --type image --format '{{.Docker.Config.Healthcheck.Test}}' $image)" \
    "[CMD /itwin-token-server ready]"

container=$(buildah from $image)
root=$(buildah mount "$container")
want "what is in the image" "$(cd "$root" && find . -type f | sort | tr '\n' ' ')" \
    "./etc/ssl/certs/ca-certificates.crt ./itwin-token-server "

# From here on it runs as in a container: as user 65532 in a user namespace, in a root that has these two
# files and the secret. No shell, no /proc, no /dev, no /tmp.
go build -o "$work/standin-program" ./standin
"$work/standin-program" "$work" >"$work/standin" &
standin=$!
waitFor ready "$work/standin" >/dev/null
cp "$work/client-secret" "$root/client-secret"
cp "$work/ca.pem" "$root/etc/ssl/certs/ca-certificates.crt"
touch "$work/before"
mapfile -t settings <"$work/env"
settings+=(ITM_TOKEN_SERVER_CLIENT_SECRET_FILE=/client-secret)
inside() {
    exec env -i "${settings[@]}" /usr/bin/unshare --user --map-user=65532 --map-group=65532 \
        --root="$root" --wd=/ /itwin-token-server "$@"
}

case $(inside version) in *v1.2.3*) ;; *) fail "the version is not the build argument's" ;; esac
# Auth0's keys and one grant over TLS, with the CA file of the image.
(inside check "$(cat "$work/user-token")") >"$work/check" 2>&1 || fail "check: $(cat "$work/check")"

# The demo calls itself at this loopback address: the name localhost needs /etc/hosts, which only a
# container runtime adds.
settings+=(ITM_TOKEN_SERVER_HOST=127.0.0.2 "ITM_TOKEN_SERVER_PORT=$(shuf -i 20000-30000 -n 1)")
if (inside ready) >"$work/ready" 2>&1; then fail "ready without a server"; fi
inside demo >"$work/demo" 2>&1 &
demo=$!
line=$(waitFor '^curl ' "$work/demo")
(inside ready) >"$work/ready" 2>&1 || fail "not ready: $(cat "$work/ready")"
answer=$(bash -c "$line") || fail "$line: $answer"
want "the demo's answer" "${answer:0:10}" "Bearer eyJ"
want "what it wrote" "$(find "$root" -newer "$work/before")" ""

echo "image: $(du -b "$root/itwin-token-server" | cut -f1) bytes of server and the CA certificates; check, demo and ready passed"
