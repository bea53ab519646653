#!/usr/bin/env bash
# Checks alerts.yaml by itself, against the metrics of a running server, and against docs/operate.md.
# Needs promtool, openssl and curl.
set -euo pipefail
cd "$(dirname "$0")"

work=$(mktemp -d)
pids=()
stop() {
    kill "${pids[@]}" || true
    wait
    rm -rf "$work"
}
trap stop EXIT
fail() { echo "alerts: $*" >&2; exit 1; }

promtool check rules alerts.yaml >"$work/output" || fail "$(cat "$work/output")"
promtool test rules alerts_test.yaml >"$work/output" || fail "$(cat "$work/output")"

# With TLS and Auth0's keys, so that every metric is there.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost \
    -keyout "$work/key.pem" -out "$work/cert.pem" 2>/dev/null
go build -C .. -o "$work/" . ./deploy/standin
mkdir "$work/upstream"
"$work/standin" "$work/upstream" >"$work/ready" &
pids+=($!)
until grep -q ready "$work/ready"; do sleep 0.1; done
port=$(shuf -i 20000-30000 -n 1)
mapfile -t settings <"$work/upstream/env"
env "${settings[@]}" SSL_CERT_FILE="$work/upstream/ca.pem" \
    ITM_TOKEN_SERVER_CLIENT_SECRET_FILE="$work/upstream/client-secret" \
    ITM_TOKEN_SERVER_HOST=127.0.0.1 ITM_TOKEN_SERVER_PORT=0 \
    ITM_TOKEN_SERVER_TLS_CERT_FILE="$work/cert.pem" ITM_TOKEN_SERVER_TLS_KEY_FILE="$work/key.pem" \
    ITM_TOKEN_SERVER_METRICS_ADDR="127.0.0.1:$port" "$work/itwin-token-server" serve 2>"$work/log" &
pids+=($!)
for _ in $(seq 100); do
    grep -q "got Auth0 keys" "$work/log" && break
    sleep 0.1
done
curl -fs -o "$work/metrics" "http://127.0.0.1:$port/metrics" || fail "$(cat "$work/log")"
promtool check metrics <"$work/metrics" || fail "promtool refuses the metrics"
while read -r name; do
    case $name in
    # Part of the name of a recorded series, and of a histogram.
    itwin_token_server_refused | *_bucket) ;;
    *) grep -q "^# TYPE $name " "$work/metrics" || fail "the server has no metric $name" ;;
    esac
done < <(grep -oh '\bitwin_token_server_[a-z_]*' alerts.yaml ../docs/operate.md | sort -u)

while read -r _ _ alert; do
    grep -q "^### $alert\$" ../docs/operate.md || fail "docs/operate.md has no section $alert"
    grep -q "runbook: docs/operate.md#${alert,,}\$" alerts.yaml || fail "$alert has no runbook"
done < <(grep -- "- alert:" alerts.yaml)
echo "alerts: $(grep -c -- "- alert:" alerts.yaml) alerts, each fires when it should and not otherwise"
