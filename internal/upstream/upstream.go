// Package upstream sends requests to Auth0 and IMS. It bounds what an answer may cost,
// and its errors contain nothing that the other side chose.
package upstream

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// timeout bounds a request, from the name look-up to the end of the answer.
	timeout = 10 * time.Second

	// connectTimeout bounds the name look-up and the TCP handshake together. Go's resolver
	// waits 5 s for a nameserver that is silent before it asks the next one.
	connectTimeout = 8 * time.Second

	// maxBody bounds an answer, in bytes after decompression: a hundred times what one
	// needs.
	maxBody = 1 << 20

	// maxPause bounds what Retry-After asks for: an operator would notice a longer pause.
	maxPause = 5 * time.Minute
)

// A Kind is the kind of a failure; it decides the status.
type Kind string

const (
	Unreachable Kind = "unreachable" // there was no answer
	Slow        Kind = "slow"        // there was none in time
	Refused     Kind = "refused"     // the answer was no
	Throttled   Kind = "throttled"   // the answer was 429, or asked for a pause
	Nonsense    Kind = "nonsense"    // the answer broke the protocol
)

// An Error is a failed request. Its text may be logged: nothing in it comes from the
// other side.
type Error struct {
	Kind  Kind
	Text  string
	Pause time.Duration // that the other side asked for, 0 for none
}

func (e *Error) Error() string { return e.Text }

// RetryAfter returns the pause, as package fresh needs it.
func (e *Error) RetryAfter() time.Duration { return e.Pause }

// Transport makes connections over TLS 1.2 or newer, through the proxy that HTTPS_PROXY
// names, trusting the given roots (nil: the system's). It names the program and its
// version as the User-Agent. Each request has its own connection: a dead one in a pool
// would fail the first request after an outage.
func Transport(roots *x509.CertPool, version string) http.RoundTripper {
	userAgent := "itwin-token-server/" + version
	return &agentTransport{userAgent, http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		ProxyConnectHeader:     http.Header{"User-Agent": {userAgent}},
		OnProxyConnectResponse: checkProxy,
		DialContext:            (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		MaxResponseHeaderBytes: 64 << 10,
		DisableKeepAlives:      true,
	}}
}

// An agentTransport adds the User-Agent: some firewalls block the default of net/http.
type agentTransport struct {
	userAgent string
	http.Transport
}

func (t *agentTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	req = req.Clone(req.Context()) // which a RoundTripper must not change
	req.Header.Set("User-Agent", t.userAgent)
	return t.Transport.RoundTrip(req)
}

// checkProxy names the status with which a proxy refused to connect.
func checkProxy(_ context.Context, _ *url.URL, _ *http.Request, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	return &Error{Kind: Unreachable, Text: fmt.Sprintf("the proxy (HTTPS_PROXY) refused to connect: "+
		"status %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))}
}

// An Answer is a whole answer that is neither a redirect nor asks for a pause.
type Answer struct {
	Host   string // that was asked
	Status int
	Body   []byte
}

// Do sends the request and reads its whole answer, of at most 1 MiB and within 10 s. It
// follows no redirect: where keys and tokens come from is a setting, not the other
// side's choice. Its errors are of type [*Error], or [context.Canceled].
func Do(transport http.RoundTripper, req *http.Request) (Answer, error) {
	var answered atomic.Bool
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotFirstResponseByte: func() { answered.Store(true) },
	})
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer := Answer{Host: req.URL.Host}
	resp, err := transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return answer, answer.failed(req.Context(), err, answered.Load())
	}
	defer resp.Body.Close()
	answer.Status = resp.StatusCode
	if err := answer.check(resp.Header); err != nil {
		return answer, err
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return answer, answer.failed(req.Context(), err, true)
	}
	if len(body) > maxBody {
		return answer, answer.Errorf(Nonsense, "the answer is longer than 1 MiB")
	}
	answer.Body = bytes.TrimPrefix(body, []byte("\ufeff")) // a BOM, which JSON must not have
	return answer, nil
}

// check refuses a redirect, and an answer that is 429 or asks for a pause.
func (a Answer) check(header http.Header) error {
	pause := retryAfter(header.Get("Retry-After"), time.Now())
	switch {
	case a.Status == http.StatusTooManyRequests, a.Status != http.StatusOK && pause > 0:
		return &Error{Throttled, fmt.Sprintf("%s: status %d (asked to wait %.0f s)",
			a.Host, a.Status, pause.Seconds()), pause}
	case a.Status/100 == 3:
		return a.Errorf(Nonsense, "status %d: redirects are not followed", a.Status)
	}
	return nil
}

// Errorf returns the [*Error] of this answer: the host, a colon and the formatted text,
// which must not come from the other side.
func (a Answer) Errorf(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Text: a.Host + ": " + fmt.Sprintf(format, args...)}
}

// failed returns the error of a request that failed with err; answered says whether the
// answer had begun. If the caller canceled the request, that is the reason.
func (a Answer) failed(ctx context.Context, err error, answered bool) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return ctx.Err()
	}
	kind, text := explain(err, answered)
	return a.Errorf(kind, "%s", text)
}

// explain describes err in words of our own: errors of the network, of TLS and of HTTP
// quote what the other side sent. Of several descriptions that fit, the first is the
// most precise one.
func explain(err error, answered bool) (Kind, string) {
	op, _ := errors.AsType[*net.OpError](err)
	network, _ := errors.AsType[net.Error](err)
	lookUp, _ := errors.AsType[*net.DNSError](err)
	proxy, _ := errors.AsType[*Error](err)
	switch {
	case proxy != nil: // of checkProxy
		return proxy.Kind, proxy.Text
	case op != nil && op.Op == "proxyconnect":
		return Unreachable, "cannot be reached through the proxy (HTTPS_PROXY)"
	case lookUp != nil && lookUp.IsTimeout:
		return Unreachable, "name look-up timed out: check the nameservers, and the network"
	case lookUp != nil:
		return Unreachable, "no such host, or no DNS: check the spelling, and the network"
	case errors.As(err, new(x509.UnknownAuthorityError)), errors.As(err, new(x509.SystemRootsError)):
		return Unreachable, "certificate signed by an unknown authority: install it in this " +
			"machine's CA store (on Linux: ca-certificates, or SSL_CERT_FILE)"
	case errors.As(err, new(x509.HostnameError)):
		return Unreachable, "certificate is for another name: check the spelling of the host"
	case errors.As(err, new(x509.CertificateInvalidError)):
		return Unreachable, "certificate is expired, or not valid for this use: " +
			"check this machine's clock too"
	case errors.As(err, new(tls.RecordHeaderError)):
		return Unreachable, "not a TLS server: check the host and the port"
	case errors.Is(err, syscall.ECONNREFUSED):
		return Unreachable, "connection refused: check the host and the port"
	case op != nil && op.Op == "dial" && op.Timeout():
		return Unreachable, "no connection within 8s: check the network, a firewall, and the proxy"
	case network != nil && network.Timeout():
		return Slow, "no answer within 10s: check the network, and the proxy"
	case answered && op == nil:
		return Nonsense, "the answer is not HTTP, or was cut short: check the host and the port"
	}
	return Unreachable, "connection failed: check the network, and the proxy"
}

// retryAfter reads a Retry-After (RFC 9110 §10.2.3), seconds or a date, as the
// time to wait from now, at most maxPause. What is neither, or past, is 0.
func retryAfter(value string, now time.Time) time.Duration {
	if strings.Trim(value, "0123456789") == "" {
		// 0 without a digit, the largest uint64 with too many
		seconds, _ := strconv.ParseUint(value, 10, 64)
		return time.Duration(min(seconds, uint64(maxPause/time.Second))) * time.Second
	}
	at, _ := http.ParseTime(value) // the zero time if it is no date
	return max(0, min(at.Sub(now), maxPause))
}
