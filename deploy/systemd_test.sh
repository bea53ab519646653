#!/usr/bin/env bash
# Boots a throw-away systemd (this machine's files under an overlay, with a network of its own) and has
# it run the service against the stand-ins: verified, rated, started, killed, restarted, stopped.
# Needs root, systemd-container and curl.
set -euo pipefail
cd "$(dirname "$0")"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
CGO_ENABLED=0 go build -C .. -o "$work/itwin-token-server" .
go build -o "$work/standin" ./standin
mkdir "$work/root" "$work/out"

# What runs inside, as a service of its own, and says "passed" at its end.
cat >"$work/proof.sh" <<'PROOF'
set -euo pipefail
unit=itwin-token-server

said=$(systemd-analyze verify "$unit.service" 2>&1) && [ -z "$said" ] || { echo "verify: $said"; exit 1; }
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
# 65536, or as much as this machine allows; without LimitNOFILE it would be 1024.
files=$(awk '/^Max open files/ {print $4}' "/proc/$pid/limits")
if [ "$files" -lt 4096 ]; then echo "$files open files are too few for 2,000 connections"; exit 1; fi

kill -9 "$pid"
sleep 1
ready
want "the number of restarts" "$(systemctl show -P NRestarts "$unit")" 1

systemctl stop "$unit"
want "the result of a stop" "$(systemctl show -P Result "$unit")" success
if journalctl -u "$unit" | grep -i "not permitted"; then echo "the hardening is in the server's way"; exit 1; fi
echo passed
PROOF

cat >"$work/proof.service" <<'UNIT'
[Unit]
SuccessAction=poweroff-force
FailureAction=poweroff-force
[Service]
Type=oneshot
ExecStart=/bin/bash /proof.sh
ExecStopPost=/bin/sh -c 'journalctl -b -u itwin-token-server >/out/journal'
StandardOutput=file:/out/said
StandardError=inherit
TimeoutStartSec=60
UNIT

cat >"$work/boot.sh" <<'BOOT'
set -euo pipefail
# In a mount namespace of its own: nothing of this is left on the machine.
mount -t tmpfs tmpfs root
mkdir root/upper root/work root/merged
mount -t overlay overlay -o lowerdir=/,upperdir=root/upper,workdir=root/work root/merged
m=root/merged
install -m 755 itwin-token-server standin "$m/usr/local/bin/"
install -m 644 proof.sh "$m/proof.sh"
install -m 644 proof.service "$1/itwin-token-server.service" "$m/etc/systemd/system/"
mkdir -p "$m/etc/itwin-token-server"
# Older ones don't know what it says.
if [ "$(systemctl --version | awk 'NR == 1 {print $2}')" -ge 254 ]; then
    install -D -m 644 "$1/itwin-token-server-backoff.conf" "$m/etc/systemd/system/itwin-token-server.service.d/backoff.conf"
fi
: >"$m/etc/machine-id"
exec systemd-nspawn --quiet --register=no --keep-unit --private-network --directory="$m" --bind="$PWD/out:/out" \
    --boot --console=pipe systemd.unit=proof.service
BOOT

here=$PWD
(cd "$work" && timeout 120 unshare --mount bash boot.sh "$here" </dev/null >out/console 2>&1) || true
cat "$work/out/said" || cat "$work/out/console"
if ! grep -qx passed "$work/out/said"; then
    cat "$work/out/journal" || true
    exit 1
fi
