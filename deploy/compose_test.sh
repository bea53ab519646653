#!/usr/bin/env bash
# Checks compose.yaml, and starts it with the demo as the server, on a Docker engine of its own unless one
# runs here. Where no engine can run, it says so and only checks the file.
# Needs docker-compose, docker.io, iptables, curl and root.
set -euo pipefail
cd "$(dirname "$0")"

work=$(mktemp -d)
export COMPOSE_PROJECT_NAME=token-server-test VERSION=test PORT=$((20000 + RANDOM % 10000))
engine=
stop() {
    if [ -n "${up:-}" ]; then compose down --timeout 1 >/dev/null 2>&1 || true; fi
    if [ -n "$engine" ]; then kill "$engine"; wait "$engine" || true; fi
    rm -rf "$work"
}
trap stop EXIT
fail() { echo "compose: $*" >&2; exit 1; }
waitFor() { # seconds, command…
    local tries=$(($1 * 5))
    shift
    for _ in $(seq "$tries"); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.2
    done
    fail "not within $((tries / 5)) s: $*; $(compose ps 2>&1; compose logs server 2>&1)"
}

install -d -m 700 "$work/secrets"
install -m 644 /dev/stdin "$work/secrets/client-secret" <<<secret
cat >"$work/env" <<'END'
ITM_TOKEN_SERVER_CLIENT_ID=service-test
ITM_TOKEN_SERVER_AUTH0_DOMAIN=tenant.invalid
ITM_TOKEN_SERVER_AUTHORITY=https://ims.invalid
END
cp compose.yaml "$work"
CGO_ENABLED=0 go build -C .. -o "$work/itwin-token-server" .
cd "$work"
compose() { docker-compose -f compose.yaml -f "${override:-compose.yaml}" "$@"; }
compose config --quiet

if ! docker info >/dev/null 2>&1; then
    export DOCKER_HOST=unix://$work/docker.sock
    dockerd --host "$DOCKER_HOST" --data-root "$work/data" --exec-root "$work/exec" --pidfile "$work/pid" \
        --storage-driver vfs --bridge none >"$work/engine.log" 2>&1 &
    engine=$!
    for _ in $(seq 100); do
        if docker info >/dev/null 2>&1 || ! kill -0 $engine 2>/dev/null; then break; fi
        sleep 0.2
    done
    if ! docker info >/dev/null 2>&1; then
        tail -3 "$work/engine.log"
        echo "compose: the file is valid; no Docker engine can run here to start it"
        exit
    fi
fi
# The last stage of the Dockerfile, without its CA certificates.
changes=(--change "CMD []")
while read -r line; do changes+=(--change "$line"); done < <(grep -E '^(USER|ENTRYPOINT|HEALTHCHECK) ' "$OLDPWD/Dockerfile")
tar -c itwin-token-server | docker import "${changes[@]}" - itwin-token-server:test >/dev/null

url=http://127.0.0.1:$PORT
answers() { [ "$(curl -s -o "$work/body" -w '%{http_code}' "$url$1")" = "$2" ]; }
inspect() { docker inspect -f "$1" "$(compose ps -q server)"; }
checked() { [ "$(inspect '{{len .State.Health.Log}}')" -gt 0 ]; }
healthy() { [ "$(inspect '{{.State.Health.Status}}')" = healthy ]; }

# With the real command it reads the secret and answers, but no tenant can be reached.
up=1
compose up -d >/dev/null 2>&1 || fail "$(compose up -d 2>&1)"
waitFor 10 answers /healthz 200
answers /readyz 503 || fail "/readyz answers without a tenant: $(cat body)"
waitFor 20 checked
if healthy; then fail "healthy without a tenant"; fi

printf 'services: {server: {command: [demo]}}\n' >demo.yaml
override=demo.yaml
compose up -d >/dev/null 2>&1
waitFor 60 healthy
answers /readyz 200
curl -fsS -H "Authorization: Bearer $(curl -fsS "$url/demo/userToken")" "$url/getToken" | grep -q '^Bearer eyJ'

kill -9 "$(inspect '{{.State.Pid}}')"
waitFor 20 answers /readyz 200
waitFor 30 healthy
echo "compose: started, healthy when ready, restarted after kill -9"
