#!/usr/bin/env bash
# Tests every file of this folder, or the parts named. It installs the Debian packages it needs.
#
#   deploy/test.sh [alerts|kubernetes|systemd|proxy|image|compose|release|replicas …]
set -euo pipefail
cd "$(dirname "$0")"

install() {
    local missing=()
    for package in "$@"; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing+=("$package")
    done
    if [ ${#missing[@]} -eq 0 ]; then return; fi
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
    # The tests start these programs themselves; where systemd runs, the installation has started them.
    for package in "${missing[@]}"; do
        if [ -d /run/systemd/system ]; then systemctl disable --quiet --now "$package" 2>/dev/null || true; fi
    done
}

part() {
    case $1 in
    alerts)
        install prometheus openssl curl
        bash alerts_test.sh
        ;;
    kubernetes)
        go test -C tests -count=1 -run '^TestKubernetes' .
        ;;
    systemd)
        install systemd systemd-container curl
        bash systemd_test.sh
        ;;
    proxy)
        install nginx-light caddy openssl curl
        bash proxy_test.sh
        ;;
    image)
        install buildah busybox-static curl
        bash image_test.sh
        ;;
    compose)
        install docker-compose docker.io iptables curl
        bash compose_test.sh
        ;;
    release)
        install git
        bash release_test.sh
        ;;
    replicas)
        install nginx-light
        go test -C tests -count=1 -timeout 5m -v -run '^TestReplicas' .
        ;;
    *)
        echo "no part $1" >&2
        exit 2
        ;;
    esac
}

if [ $# -eq 0 ]; then set -- alerts kubernetes systemd proxy image compose release replicas; fi
for name in "$@"; do
    echo "deploy: $name"
    part "$name"
done
