// Package upstream asks the servers that this one depends on, and trusts them
// with nothing: not to answer, not to be brief, not to be who they were.
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
	"syscall"
	"time"
)

const (
	// Timeout bounds a request, from the name's look-up to the answer's end.
	Timeout = 10 * time.Second

	// connectTimeout bounds the part of it in which nothing has been heard yet, so
	// that a route that has gone dark is tried again soon. TLS comes after it: a
	// busy server may take its time for that.
	connectTimeout = 3 * time.Second

	// maxBody bounds an answer, in bytes: a hundred times what one needs.
	maxBody = 1 << 20
)

// A Kind says what went wrong, coarsely: enough to choose a status by.
type Kind string

const (
	Unreachable Kind = "unreachable" // there was no answer
	Slow        Kind = "slow"        // there was none in time
	Refused     Kind = "refused"     // the answer was no
	Nonsense    Kind = "nonsense"    // the answer was not what the protocol has
)

// An Error is a request that failed. Its text is all ours: nothing in it comes
// from the other side, so it may be logged.
type Error struct {
	Kind Kind
	Text string
}

func (e *Error) Error() string { return e.Text }

// Errorf makes an [Error]; its arguments must not come from the other side.
func Errorf(kind Kind, format string, args ...any) error {
	return &Error{kind, fmt.Sprintf(format, args...)}
}

// Transport makes connections over TLS 1.2 or newer, by way of the proxy that
// HTTPS_PROXY names, trusting the given roots (nil: the system's). Each request
// gets a connection of its own: requests are minutes apart, and what an outage
// has left half-dead in a pool would fail the first one after it.
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

// Do sends the request and reads its whole answer, of at most 1 MiB and within
// 10 s. It follows no redirect: where keys and tokens come from is a setting,
// not the other side's choice. Its errors are of type [*Error], or the context's.
func Do(transport http.RoundTripper, req *http.Request) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(req.Context(), Timeout)
	defer cancel()
	resp, err := transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return 0, nil, explain(req.Context(), req.URL.Host, err)
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return 0, nil, Errorf(Nonsense, "%s: want a whole answer, got one that was cut short", req.URL.Host)
	case err != nil:
		return 0, nil, explain(req.Context(), req.URL.Host, err)
	case len(body) > maxBody:
		return 0, nil, Errorf(Nonsense, "%s: want an answer of at most 1 MiB, got a longer one", req.URL.Host)
	case resp.StatusCode/100 == 3:
		return 0, nil, Errorf(Nonsense, "%s: want an answer, got a redirect (status %d), which is not followed", req.URL.Host, resp.StatusCode)
	}
	return resp.StatusCode, body, nil
}

// explain puts a failed request into words of our own: errors of the network
// and of TLS quote names that the other side chose.
func explain(ctx context.Context, host string, err error) error {
	var (
		op        *net.OpError
		dns       *net.DNSError
		roots     x509.SystemRootsError
		authority x509.UnknownAuthorityError
		name      x509.HostnameError
		invalid   x509.CertificateInvalidError
		noTLS     tls.RecordHeaderError
		timeout   net.Error
	)
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return ctx.Err()
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return Errorf(Unreachable, "%s: want a way to it by the proxy, got none: check HTTPS_PROXY, and the proxy", host)
	case errors.As(err, &dns):
		return Errorf(Unreachable, "%s: want a host, got no address for its name: check the spelling, and DNS", host)
	case errors.As(err, &roots):
		return Errorf(Unreachable, "%s: want this machine's list of certificate authorities, got none: install ca-certificates, or set SSL_CERT_FILE", host)
	case errors.As(err, &authority):
		return Errorf(Unreachable, "%s: want a certificate signed by a known authority, got one signed by another: if that is meant, set SSL_CERT_FILE", host)
	case errors.As(err, &name):
		return Errorf(Unreachable, "%s: want a certificate for this name, got one for another: check the spelling, and what answers there", host)
	case errors.As(err, &invalid):
		return Errorf(Unreachable, "%s: want a valid certificate, got one that is expired or not for this use: check this machine's clock too", host)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return Errorf(Slow, "%s: want an answer within %v, got none in time: check the network, and the proxy", host, Timeout)
	case errors.As(err, &noTLS):
		return Errorf(Unreachable, "%s: want TLS, got another protocol: check the host and the port", host)
	case errors.Is(err, syscall.ECONNREFUSED):
		return Errorf(Unreachable, "%s: want an answer, got connection refused: check the host and the port", host)
	}
	return Errorf(Unreachable, "%s: want an answer, got a broken connection: check the network, and the proxy", host)
}
