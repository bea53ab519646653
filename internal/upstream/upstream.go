// Package upstream sends requests to Auth0 and IMS. It bounds what an answer may
// cost, and its errors contain nothing that the other side chose.
package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	timeout        = 10 * time.Second // of a request, from the DNS look-up to the answer's end
	connectTimeout = 3 * time.Second  // of the TCP handshake: a broken route is tried again soon, a busy server has time for TLS
	maxBody        = 1 << 20          // of an answer, in bytes: a hundred times what one needs
	maxPause       = 5 * time.Minute  // of what Retry-After asks for: an operator would notice a longer one
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

// An Error is a failed request. Its text may be logged: nothing in it comes from
// the other side.
type Error struct {
	Kind  Kind
	Text  string
	Pause time.Duration // that the other side asked for, 0 for none
}

func (e *Error) Error() string { return e.Text }

// RetryAfter returns the pause, as package fresh needs it.
func (e *Error) RetryAfter() time.Duration { return e.Pause }

// Transport makes connections over TLS 1.2 or newer, through the proxy that
// HTTPS_PROXY names, trusting the given roots (nil: the system's). Each request
// has its own connection: a dead one in a pool would fail the first request after an outage.
func Transport(roots *x509.CertPool) http.RoundTripper {
	return &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		MaxResponseHeaderBytes: 64 << 10,
		DisableKeepAlives:      true,
		DisableCompression:     true, // a bound on what is read is then a bound on what is kept
	}
}

// An Answer is a whole answer that is not a redirect.
type Answer struct {
	Host   string // that was asked
	Status int
	Body   []byte
	Pause  time.Duration // that an answer other than 200 asks for, 0 for none
}

// Do sends the request and reads its whole answer, of at most 1 MiB and within
// 10 s. It follows no redirect: where keys and tokens come from is a setting, not
// the other side's choice. Its errors are of type [*Error], or [context.Canceled].
func Do(transport http.RoundTripper, req *http.Request) (Answer, error) {
	ctx, cancel := context.WithTimeout(req.Context(), timeout)
	defer cancel()
	answer := Answer{Host: req.URL.Host}
	resp, err := transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return answer, answer.explain(req.Context(), err)
	}
	defer resp.Body.Close()
	answer.Status = resp.StatusCode
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if answer.Status != http.StatusOK {
		answer.Pause = retryAfter(resp.Header.Get("Retry-After"), time.Now()) // now: a body takes time
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return answer, answer.Errorf(Nonsense, "the answer was cut short")
	case err != nil:
		return answer, answer.explain(req.Context(), err)
	case len(body) > maxBody:
		return answer, answer.Errorf(Nonsense, "the answer is longer than 1 MiB")
	case answer.Status/100 == 3:
		return answer, answer.Errorf(Nonsense, "status %d: redirects are not followed", answer.Status)
	}
	answer.Body = body
	return answer, nil
}

// Errorf makes the [*Error] of this answer: the host, a colon and the formatted
// text, which must not come from the other side. An answer that is 429 or asks for
// a pause is [Throttled], whatever the kind given.
func (a Answer) Errorf(kind Kind, format string, args ...any) error {
	text := a.Host + ": " + fmt.Sprintf(format, args...)
	if a.Pause > 0 {
		text += fmt.Sprintf(" (asked to wait %d s)", (a.Pause+time.Second-1)/time.Second)
	}
	if a.Pause > 0 || a.Status == http.StatusTooManyRequests {
		kind = Throttled
	}
	return &Error{kind, text, a.Pause}
}

// explain describes a failed request in words of our own: errors of the network
// and of TLS quote names that the other side chose.
func (a Answer) explain(ctx context.Context, err error) error {
	op, _ := errors.AsType[*net.OpError](err)
	network, _ := errors.AsType[net.Error](err)
	kind, text := Unreachable, "connection failed: check the network, and the proxy"
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case op != nil && op.Op == "proxyconnect":
		text = "cannot be reached through the proxy (HTTPS_PROXY)"
	case errors.As(err, new(*net.DNSError)):
		text = "no such host, or no DNS: check the spelling, and the network"
	case errors.As(err, new(x509.UnknownAuthorityError)), errors.As(err, new(x509.SystemRootsError)):
		text = "certificate signed by an unknown authority: install it in this machine's CA store (on Linux: ca-certificates, or SSL_CERT_FILE)"
	case errors.As(err, new(x509.HostnameError)):
		text = "certificate is for another name: check the spelling of the host"
	case errors.As(err, new(x509.CertificateInvalidError)):
		text = "certificate is expired, or not valid for this use: check this machine's clock too"
	case op != nil && op.Op == "dial" && op.Timeout():
		text = "no connection within 3s: check the network, a firewall, and the proxy"
	case network != nil && network.Timeout():
		kind, text = Slow, "no answer within 10s: check the network, and the proxy"
	case errors.As(err, new(tls.RecordHeaderError)):
		text = "not a TLS server: check the host and the port"
	case errors.Is(err, syscall.ECONNREFUSED):
		text = "connection refused: check the host and the port"
	}
	return a.Errorf(kind, "%s", text)
}

// retryAfter reads a Retry-After (RFC 9110 §10.2.3), seconds or a date, as the
// time to wait from now, at most maxPause. What is neither, or past, is 0.
func retryAfter(value string, now time.Time) time.Duration {
	if strings.Trim(value, "0123456789") == "" {
		seconds, _ := strconv.ParseUint(value, 10, 64) // 0 without a digit, the largest uint64 with too many
		return time.Duration(min(seconds, uint64(maxPause/time.Second))) * time.Second
	}
	at, _ := http.ParseTime(value) // the zero time if it is no date
	return max(0, min(at.Sub(now), maxPause))
}
