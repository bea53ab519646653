package check

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// readyTimeout is for the whole exchange. A server that takes longer cannot serve callers.
const readyTimeout = 5 * time.Second

// Ready asks the server on this machine whether it is ready: GET /readyz on the host and
// port that its settings name, over https if it has a certificate. Its error says why it
// is not; it does not name the host, which may be a misplaced secret.
func Ready(ctx context.Context, host, port string, https bool) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	scheme := "http"
	if https {
		scheme = "https"
	}
	address := net.JoinHostPort(host, port) // without a host, or with 0.0.0.0: this machine
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+address+"/readyz", nil)
	if err != nil {
		return err
	}
	// No proxy, since the server is on this machine. The certificate is for its public
	// name, and nothing secret is sent.
	transport := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("not ready: no answer from :%s: "+
			"is the server running there, with the same settings?", port)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 256))
		return fmt.Errorf("not ready: :%s: status %d: %+q",
			port, resp.StatusCode, strings.TrimSpace(string(body)))
	}
	return nil
}
