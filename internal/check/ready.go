package check

import (
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
func Ready(host, port string, https bool) error {
	scheme := "http"
	if https {
		scheme = "https"
	}
	// No proxy, since the server is on this machine. The certificate is for its public
	// name, and nothing secret is sent.
	client := &http.Client{Timeout: readyTimeout, Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
	}}
	// Without a host, or with 0.0.0.0, this is any address of this machine.
	resp, err := client.Get(scheme + "://" + net.JoinHostPort(host, port) + "/readyz")
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
