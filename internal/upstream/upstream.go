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
	Throttled   Kind = "throttled"   // the answer was 429
	Nonsense    Kind = "nonsense"    // the answer broke the protocol
)

// An Error is a failed request. Its text may be logged: nothing in it comes from the
// other side.
type Error struct {
	Kind  Kind
	Text  string
	pause time.Duration
}

func (e *Error) Error() string { return e.Text }

// RetryAfter returns the pause that the other side asked for, 0 for none. Package fresh
// looks for this method.
func (e *Error) RetryAfter() time.Duration { return e.pause }

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
	return &Error{Kind: Unreachable, Text: fmt.Sprintf(
		"the proxy (HTTPS_PROXY) refused to connect: status %d %s",
		resp.StatusCode, http.StatusText(resp.StatusCode))}
}

// An Answer is a whole answer; its status is neither a redirect nor 429.
type Answer struct {
	Host   string // that was asked
	Status int
	Body   []byte
	pause  time.Duration // that it asks for with Retry-After, 0 for none
}

// Errorf returns the [*Error] of this answer, with its host and its pause. The formatted
// text must not come from the other side.
func (a Answer) Errorf(kind Kind, format string, args ...any) error {
	text := a.Host + ": " + fmt.Sprintf(format, args...)
	if a.pause > 0 {
		text += fmt.Sprintf(" (asked to wait %.0f s)", a.pause.Seconds())
	}
	return &Error{kind, text, a.pause}
}

// Do sends the request and reads its whole answer, of at most 1 MiB and within 10 s. It
// follows no redirect: where keys and tokens come from is a setting, not the other
// side's choice. Its errors are of type [*Error], or [context.Canceled].
func Do(transport http.RoundTripper, req *http.Request) (Answer, error) {
	var begun atomic.Bool // whether the answer has
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotFirstResponseByte: func() { begun.Store(true) },
	})
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	answer := Answer{Host: req.URL.Host}
	resp, err := transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return answer, answer.failed(err, begun.Load())
	}
	defer resp.Body.Close()
	answer.Status = resp.StatusCode
	if answer.Status != http.StatusOK {
		answer.pause = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	if answer.Status == http.StatusTooManyRequests {
		return answer, answer.Errorf(Throttled, "status 429")
	}
	if answer.Status/100 == 3 {
		return answer, answer.Errorf(Nonsense, "status %d: redirects are not followed", answer.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return answer, answer.failed(err, true)
	}
	if len(body) > maxBody {
		return answer, answer.Errorf(Nonsense, "the answer is longer than 1 MiB")
	}
	answer.Body = bytes.TrimPrefix(body, []byte("\ufeff")) // a BOM, which JSON must not have
	return answer, nil
}

// failed returns the error of a request that ended with err, in words of our own: errors
// of the network, of TLS and of HTTP quote what the other side sent. begun says whether
// the answer had begun. If several cases fit, the first is the most precise one.
func (a Answer) failed(err error, begun bool) error {
	proxy, _ := errors.AsType[*Error](err) // of checkProxy
	op, _ := errors.AsType[*net.OpError](err)
	lookUp, _ := errors.AsType[*net.DNSError](err)
	switch {
	case errors.Is(err, context.Canceled): // by the caller
		return context.Canceled
	case proxy != nil:
		return a.Errorf(proxy.Kind, "%s", proxy.Text)
	case op != nil && op.Op == "proxyconnect":
		return a.Errorf(Unreachable, "cannot be reached through the proxy (HTTPS_PROXY)")
	case lookUp != nil && lookUp.IsTimeout:
		return a.Errorf(Unreachable, "name look-up timed out: check the nameservers, and the network")
	case lookUp != nil:
		return a.Errorf(Unreachable, "no such host, or no DNS: check the spelling, and the network")
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return a.Errorf(Unreachable, "certificate is not accepted: check this machine's CA store "+
			"(on Linux: ca-certificates, or SSL_CERT_FILE), its clock, and the spelling of the host")
	case errors.As(err, new(tls.RecordHeaderError)):
		return a.Errorf(Unreachable, "not a TLS server: check the host and the port")
	case errors.Is(err, syscall.ECONNREFUSED):
		return a.Errorf(Unreachable, "connection refused: check the host and the port")
	case op != nil && op.Op == "dial" && op.Timeout():
		return a.Errorf(Unreachable, "no connection within 8s: check the network, and a firewall")
	case errors.Is(err, context.DeadlineExceeded):
		return a.Errorf(Slow, "no answer within 10s: check the network, and the proxy")
	case begun:
		return a.Errorf(Nonsense, "the answer is not HTTP, or was cut short: check the host and the port")
	}
	return a.Errorf(Unreachable, "connection failed: check the network, and the proxy")
}

// retryAfter reads a Retry-After (RFC 9110 §10.2.3), seconds or a date, as the time to
// wait from now, at most maxPause. What is neither, or past, is 0.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(value, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(maxPause/time.Second))) * time.Second
	}
	at, _ := http.ParseTime(value) // the zero time if it is no date
	return max(0, min(at.Sub(now), maxPause))
}
