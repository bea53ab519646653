#!/usr/bin/env bash
# Tests the viewer: the auth client's unit tests, the types, and the built page in Chromium with the real token server.
# Needs Go, Node.js 20 or newer and openssl. Installs Debian's chromium (as root or with sudo) and the npm packages.
set -euo pipefail
cd "$(dirname "$0")"
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; wait; rm -rf "$folder"' EXIT

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
if [ ! -x "${CHROMIUM:-/usr/bin/chromium}" ]; then
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >"$folder/apt.log" 2>&1 ||
    { cat "$folder/apt.log"; exit 1; }
fi
# A stamp, since npm ci deletes and copies 400 MB even when nothing has changed.
if ! cmp -s package-lock.json node_modules/.lock-installed; then
  npm ci --silent
  cp package-lock.json node_modules/.lock-installed
fi

unit=$(NO_COLOR=1 npx vitest run 2>&1) || { echo "$unit"; exit 1; }
npx tsc --noEmit
(cd ../.. && go build -o "$folder/itwin-token-server" .)
node e2e/viewer.mjs "$folder/itwin-token-server" &
wait $!
echo "viewer: types, $(grep -oE "[0-9]+ passed" <<<"$unit" | tail -1 | cut -d" " -f1) unit tests and the browser checks passed, in $SECONDS s"
