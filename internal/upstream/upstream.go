// Package upstream sends requests to Auth0 and IMS. It bounds what an answer may
// cost, and its errors contain nothing that the other side chose.
package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"
)

const (
	// Timeout bounds a request, from the name's resolution to the answer's end.
	Timeout = 10 * time.Second

	// connectTimeout bounds the TCP handshake, so that a route that has stopped
	// working is tried again soon. TLS comes after it: a busy server may take its
	// time for that.
	connectTimeout = 3 * time.Second

	// maxBody bounds an answer, in bytes: a hundred times what one needs.
	maxBody = 1 << 20
)

// Transport makes connections over TLS 1.2 or newer, through the proxy that
// HTTPS_PROXY names, trusting the given roots (nil: the system's). Each request
// gets a connection of its own: requests are minutes apart, and a connection that
// died in a pool during an outage would fail the first request after it.
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
	Host       string // that was asked
	Status     int
	Body       []byte
	RetryAfter time.Duration // the pause that an answer other than 200 asks for, 0 for none
}

// Do sends the request and reads its whole answer, of at most 1 MiB and within
// 10 s. It follows no redirect: where keys and tokens come from is a setting,
// not the other side's choice. Its errors are of type [*Error], or
// [context.Canceled].
func Do(transport http.RoundTripper, req *http.Request) (Answer, error) {
	ctx, cancel := context.WithTimeout(req.Context(), Timeout)
	defer cancel()
	answer := Answer{Host: req.URL.Host}
	resp, err := transport.RoundTrip(req.WithContext(ctx))
	if err != nil {
		return Answer{}, answer.explain(req.Context(), err)
	}
	defer resp.Body.Close()
	answer.Status = resp.StatusCode
	if answer.Status != http.StatusOK {
		answer.RetryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return Answer{}, answer.fail(Nonsense, "the answer was cut short")
	case err != nil:
		return Answer{}, answer.explain(req.Context(), err)
	case len(body) > maxBody:
		return Answer{}, answer.fail(Nonsense, "the answer is longer than 1 MiB")
	case answer.Status/100 == 3:
		return Answer{}, answer.fail(Nonsense, "status %d: redirects are not followed", answer.Status)
	}
	answer.Body = body
	return answer, nil
}

// explain describes a failed request in words of our own: errors of the network
// and of TLS quote names that the other side chose.
func (a Answer) explain(ctx context.Context, err error) error {
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
		return &Error{Kind: Unreachable, Text: "cannot reach " + a.Host + " through the proxy (HTTPS_PROXY)"}
	case errors.As(err, &dns) && dns.IsNotFound:
		return &Error{Kind: Unreachable, Text: a.Host + ": no such host: check the spelling, and DNS", dns: dns}
	case errors.As(err, &dns):
		return &Error{Kind: Unreachable, Text: a.Host + ": the name cannot be resolved: check the network, and DNS", dns: dns}
	case errors.As(err, &roots):
		return a.fail(Unreachable, "this machine has no list of certificate authorities: install ca-certificates, or set SSL_CERT_FILE")
	case errors.As(err, &authority):
		return a.fail(Unreachable, "certificate signed by an unknown authority: if that is intended, set SSL_CERT_FILE")
	case errors.As(err, &name):
		return a.fail(Unreachable, "certificate is for another name: check the spelling of the host")
	case errors.As(err, &invalid):
		return a.fail(Unreachable, "certificate is expired, or not valid for this use: check this machine's clock too")
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return a.fail(Slow, "no answer within %v: check the network, and the proxy", Timeout)
	case errors.As(err, &noTLS):
		return a.fail(Unreachable, "not a TLS server: check the host and the port")
	case errors.Is(err, syscall.ECONNREFUSED):
		return a.fail(Unreachable, "connection refused: check the host and the port")
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH):
		return a.fail(Unreachable, "network is unreachable: check the network, and the proxy")
	}
	return a.fail(Unreachable, "connection broken: check the network, and the proxy")
}
