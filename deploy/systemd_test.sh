#!/usr/bin/env bash
# Boots a temporary systemd (this machine's files under an overlay, with a network of its own), which runs
# the service with the stand-ins: the unit is verified and rated, the service started, killed and stopped.
# Needs root, systemd-container and curl.
set -euo pipefail
cd "$(dirname "$0")"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
CGO_ENABLED=0 go build -C .. -o "$work/itwin-token-server" .
go build -o "$work/standin" ./standin
mkdir "$work/root" "$work/out"

# This runs inside, as a service of its own, and prints "passed" at its end.
cat >"$work/inside.sh" <<'SCRIPT'
set -euo pipefail
unit=itwin-token-server

output=$(systemd-analyze verify "$unit.service" 2>&1) && [ -z "$output" ] || { echo "verify: $output"; exit 1; }
systemd-analyze security --offline=yes --threshold=12 "/etc/systemd/system/$unit.service" | tail -1

standin /etc/itwin-token-server >/dev/null &
until [ -s /etc/itwin-token-server/user-token ]; do sleep 0.1; done
cp /etc/itwin-token-server/ca.pem /etc/ssl/certs/ca-certificates.crt
chmod 644 /etc/ssl/certs/ca-certificates.crt

ready() {
    for _ in $(seq 100); do
        if curl -fs -o /dev/null http://127.0.0.1:3001/readyz; then return; fi
        sleep 0.1
    done
    echo "not ready within 10 s"
    exit 1
}
want() { # what, got, wanted
    if [ "$2" != "$3" ]; then echo "$1 is $2, want $3"; exit 1; fi
}

systemctl start "$unit"
ready
answer=$(curl -fsS -H "Authorization: Bearer $(cat /etc/itwin-token-server/user-token)" http://127.0.0.1:3001/getToken)
want "the answer's beginning" "${answer:0:10}" "Bearer eyJ"

pid=$(systemctl show -P MainPID "$unit")
if [ "$(stat -c %u "/proc/$pid")" -lt 61184 ]; then echo "not a dynamic user"; exit 1; fi
want "the effective capability set" "$(awk '/^CapEff/ {print $2}' "/proc/$pid/status")" 0000000000000000
want "the seccomp mode" "$(awk '/^Seccomp:/ {print $2}' "/proc/$pid/status")" 2
want "the number of open files" "$(awk '/^Max open files/ {print $4}' "/proc/$pid/limits")" 4096

# journald's default limit is 10,000 lines in 30 s, or with a large disk six times as many.
curl -s -o /dev/null "http://127.0.0.1:3001/getToken?[1-70000]"
journalctl --sync
want "the number of lines of 70,000 requests" "$(journalctl -u "$unit" -g no_token -o cat | wc -l)" 70000

kill -9 "$pid"
sleep 1
ready
want "the number of restarts" "$(systemctl show -P NRestarts "$unit")" 1

systemctl stop "$unit"
want "the result of a stop" "$(systemctl show -P Result "$unit")" success
if journalctl -u "$unit" | grep -i "not permitted"; then echo "the sandbox refuses something that the server needs"; exit 1; fi
echo passed
SCRIPT

cat >"$work/inside.service" <<'UNIT'
[Unit]
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/bin/bash /inside.sh
ExecStopPost=/bin/sh -c 'journalctl -b -u itwin-token-server >/out/journal'
StandardOutput=file:/out/output
StandardError=inherit
TimeoutStartSec=60
UNIT

cat >"$work/boot.sh" <<'BOOT'
set -euo pipefail
# In a mount namespace of its own, so nothing is left on the machine.
mount -t tmpfs tmpfs root
mkdir root/upper root/work root/merged
mount -t overlay overlay -o lowerdir=/,upperdir=root/upper,workdir=root/work root/merged
m=root/merged
install -m 755 itwin-token-server standin "$m/usr/local/bin/"
install -m 644 inside.sh "$m/inside.sh"
install -m 644 inside.service "$1/itwin-token-server.service" "$m/etc/systemd/system/"
mkdir -p "$m/etc/itwin-token-server"
# Older versions do not know its settings.
if [ "$(systemctl --version | awk 'NR == 1 {print $2}')" -ge 254 ]; then
    install -D -m 644 "$1/itwin-token-server-backoff.conf" "$m/etc/systemd/system/itwin-token-server.service.d/backoff.conf"
fi
: >"$m/etc/machine-id"
exec systemd-nspawn --quiet --register=no --keep-unit --private-network --directory="$m" --bind="$PWD/out:/out" \
    --boot --console=pipe systemd.unit=inside.service
BOOT

here=$PWD
(cd "$work" && timeout 120 unshare --mount bash boot.sh "$here" </dev/null >out/console 2>&1) || true
cat "$work/out/output" || cat "$work/out/console"
if ! grep -qx passed "$work/out/output"; then
    tail -50 "$work/out/journal" || true
    exit 1
fi
