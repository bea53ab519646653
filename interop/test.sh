#!/usr/bin/env bash
# The built token server against somebody else's OpenID provider and a real browser: `make interop`.
# Needs Go, Node.js 20 or newer and openssl. Chromium is installed where apt can, or named by CHROMIUM.
set -euo pipefail
cd "$(dirname "$0")"

limit=170 # seconds for the tests, which take about a quarter of it on two idle cores

TMPDIR=$(mktemp -d) # certificates, the server and the browser's profile all go here
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

# timeout gives the tests a process group of their own, and whatever signal ends it reaches the whole group.
timeout -k 5 "$limit" node --test --test-reporter=spec interop.test.mjs browser.test.mjs &
tests=$!
wait "$tests"
tests=

provider=$(node -p 'require("oidc-provider/package.json").version')
echo "interop: passed against oidc-provider $provider as tenant and as IMS, and $("$CHROMIUM" --version 2>/dev/null)"
