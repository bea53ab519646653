#!/usr/bin/env bash
# Tests the built token server with a certified OpenID provider and a real browser: `make interop`.
# Needs Go, Node.js 20 or newer and openssl. Installs Chromium with apt-get, unless CHROMIUM names one.
set -euo pipefail
cd "$(dirname "$0")"

limit=300 # seconds; the tests take about 65 on two idle cores

TMPDIR=$(mktemp -d) # for certificates, the server and the browser's profile
export TMPDIR
tests=
clean() {
	if [[ $tests ]]; then
		kill "$tests" 2>/dev/null || true
		wait "$tests" || true
	fi
	rm -rf "$TMPDIR"
}
trap clean EXIT
trap 'exit 130' INT TERM HUP

if ! CHROMIUM=${CHROMIUM:-$(command -v chromium)}; then
	apt-get -qq update
	DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends chromium >/dev/null
	CHROMIUM=$(command -v chromium)
fi
export CHROMIUM

npm ci --silent

# timeout runs the tests in a process group, and forwards the signal that ends it to the whole group.
timeout -k 5 "$limit" node --test --test-reporter=spec interop.test.mjs clients.test.mjs browser.test.mjs &
tests=$!
wait "$tests"
tests=

provider=$(node -p 'require("oidc-provider/package.json").version')
echo "interop: passed against oidc-provider $provider as tenant and as IMS, and $("$CHROMIUM" --version 2>/dev/null)"
