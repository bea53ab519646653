#!/usr/bin/env bash
# Tests nginx.conf and Caddyfile in front of the demo, with other names, ports and certificates.
# Needs nginx, caddy, openssl and curl.
set -euo pipefail
cd "$(dirname "$0")"

work=$(mktemp -d)
pids=()
stop() {
    if [ ${#pids[@]} -gt 0 ]; then kill "${pids[@]}" 2>/dev/null || true; fi
    wait
    rm -rf "$work"
}
trap stop EXIT
fail() { echo "proxy: $*" >&2; exit 1; }
within() { # seconds, command…
    local tries=$(($1 * 10))
    shift
    for _ in $(seq "$tries"); do
        if "$@" >/dev/null 2>&1; then return; fi
        sleep 0.1
    done
    fail "not within $((tries / 10)) s: $*"
}
# A port that nothing listens on, below those that the system assigns.
port() { for p in $(shuf -i 20000-30000 -n 50); do if ! (: <"/dev/tcp/127.0.0.1/$p") 2>/dev/null; then echo "$p"; return; fi; done; }
# change FROM TO FILE: FROM must be in the file, otherwise something else would be tested.
change() { grep -qF -- "$1" "$3" || fail "$3 has no $1"; sed -i "s|$1|$2|" "$3"; }

go build -C .. -o "$work/itwin-token-server" .
server=$(port)
cd "$work"
ITM_TOKEN_SERVER_HOST=127.0.0.1 ITM_TOKEN_SERVER_PORT=$server ./itwin-token-server demo >demo.log 2>&1 &
demo=$!
pids+=("$demo")
within 10 curl -fs "http://127.0.0.1:$server/readyz"
token=$(curl -fsS "http://127.0.0.1:$server/demo/userToken")

# request CURL-ARGUMENT…: the address is loopback whatever the name; the environment's proxy is not used.
request() { curl -sS --noproxy '*' --cacert "$ca" --resolve "tokens.example.com:$port:127.0.0.1" "$@"; }

# check NAME PORT CA LOG: what must hold behind either proxy.
check() {
    local name=$1 port=$2 ca=$3 log=$4 headers
    local url=https://tokens.example.com:$port/getToken
    within 10 request -o /dev/null "$url"

    headers=$(request -D - -o body -H "Authorization: Bearer $token" -H "Origin: https://viewer.example.com" \
        "$url?access_token=$token")
    grep -q '^Bearer eyJ[^ ]*$' body || fail "$name: the body is $(cat body)"
    for want in "HTTP/2 200" "cache-control: no-store" "access-control-allow-origin: \*" "x-content-type-options: nosniff"; do
        grep -qi "^$want" <<<"$headers" || fail "$name: no $want in $headers"
    done
    headers=$(request -D - -o body -X OPTIONS -H "Origin: https://viewer.example.com" \
        -H "Access-Control-Request-Method: GET" -H "Access-Control-Request-Headers: authorization" "$url")
    grep -qi "^access-control-allow-headers: authorization" <<<"$headers" || fail "$name: preflight: $headers"
    headers=$(request -D - -o body "$url")
    grep -qi "^www-authenticate: bearer" <<<"$headers" || fail "$name: without a token: $headers"
    # The longest user token reaches the server, which refuses this one.
    status=$(request --http1.1 -o body -w '%{http_code}' \
        -H "Authorization: Bearer $(head -c 8192 /dev/zero | tr '\0' a)" "$url")
    [ "$status" = 401 ] || fail "$name: a token of 8 KiB: $status"
    for path in healthz readyz demo/userToken; do
        status=$(request -o body -w '%{http_code}' "${url%getToken}$path")
        [ "$status" = 404 ] || fail "$name: /$path answers $status"
    done
    if request --tls-max 1.1 -o body "$url" 2>/dev/null; then fail "$name: speaks TLS 1.1"; fi

    within 5 grep -q getToken "$log"
    if grep -qF "${token:0:40}" "$log"; then fail "$name: the token is in $log"; fi
    echo "proxy: $name passed"
}

# nginx
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=tokens.example.com \
    -addext subjectAltName=DNS:tokens.example.com -keyout key.pem -out cert.pem 2>/dev/null
tls=$(port)
cp "$OLDPWD/nginx.conf" site.conf
change "server 127.0.0.1:3001" "server 127.0.0.1:$server" site.conf
change "listen 443 " "listen 127.0.0.1:$tls " site.conf
change /etc/letsencrypt/live/tokens.example.com/fullchain.pem "$work/cert.pem" site.conf
change /etc/letsencrypt/live/tokens.example.com/privkey.pem "$work/key.pem" site.conf
change /var/log/nginx/itwin-token-server.log "$work/nginx.log" site.conf
change /var/log/nginx/error.log "$work/error.log" site.conf
printf '%s\n' "daemon off; pid $work/nginx.pid; error_log $work/error.log;" "events {}" "http { include $work/site.conf; }" >nginx.conf
nginx -p "$work" -c "$work/nginx.conf" &
pids+=($!)
nginx=$tls
check nginx "$nginx" cert.pem nginx.log
# 400 requests at once from one address: 100 and a few pass.
statuses=$(port=$nginx ca=cert.pem request -o /dev/null -w '%{http_code}\n' "https://tokens.example.com:$nginx/getToken?[1-400]")
[ "$(sort -u <<<"$statuses" | tr '\n' ' ')" = "401 429 " ] || fail "nginx: 400 requests at once: $(sort <<<"$statuses" | uniq -c)"

# Caddy, with a certificate from its own CA instead of a public one.
tls=$(port)
cp "$OLDPWD/Caddyfile" Caddyfile
caddy fmt Caddyfile | cmp - Caddyfile || fail "caddy fmt would change the Caddyfile"
change "reverse_proxy 127.0.0.1:3001" "reverse_proxy 127.0.0.1:$server" Caddyfile
change "tokens.example.com {" "tokens.example.com:$tls {" Caddyfile
change "		# A token that" "		output file $work/caddy.log\n		# A token that" Caddyfile
sed -i '0,/^{/s//{\n\tlocal_certs\n\tskip_install_trust\n\tauto_https disable_redirects\n\tadmin off/' Caddyfile
XDG_DATA_HOME=$work XDG_CONFIG_HOME=$work caddy run --adapter caddyfile --config Caddyfile 2>caddy.err &
pids+=($!)
root=$work/caddy/pki/authorities/local/root.crt
within 10 test -s "$root"
check caddy "$tls" "$root" caddy.log

# Without the server both log errors, with the request but without its token.
kill "$demo"
wait "$demo" || true
port=$tls ca=$root request -o /dev/null "https://tokens.example.com:$tls/getToken?access_token=$token"
port=$nginx ca=cert.pem request -o /dev/null "https://tokens.example.com:$nginx/getToken?access_token=$token"
within 5 grep -q '"uri": "/getToken"' caddy.err
within 5 grep -q ' /getToken 502 ' nginx.log
if grep -lF "${token:0:40}" nginx.log error.log caddy.log caddy.err; then fail "the token is in these logs"; fi
echo "proxy: stopped server passed"
