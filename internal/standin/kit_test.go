package standin

import (
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// overSockets is a client that trusts s, and follows no redirect.
func overSockets(t *testing.T, s *Standin) *http.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Pool()}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, CheckRedirect: dontFollow}
}

func inProcess(s *Standin) *http.Client {
	return &http.Client{Transport: s.Transport(), CheckRedirect: dontFollow}
}

func dontFollow(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }

// bothWays runs test over sockets, and in process in a synctest bubble.
func bothWays(t *testing.T, test func(t *testing.T, s *Standin, client *http.Client)) {
	t.Run("sockets", func(t *testing.T) {
		s := StartForTest(t)
		test(t, s, overSockets(t, s))
	})
	t.Run("in process", func(t *testing.T) {
		s := ForTest(t)
		synctest.Test(t, func(t *testing.T) { test(t, s, inProcess(s)) })
	})
}

// seen is what a client got of one answer.
type seen struct {
	status int
	header http.Header
	body   string
	err    error // of the request, or of reading the body
}

func do(client *http.Client, req *http.Request) seen {
	resp, err := client.Do(req)
	if err != nil {
		return seen{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return seen{resp.StatusCode, resp.Header, string(body), err}
}

func fetchKeys(ctx context.Context, client *http.Client, s *Standin) seen {
	req, err := http.NewRequestWithContext(ctx, "GET", s.Tenant.Issuer()+".well-known/jwks.json", nil)
	if err != nil {
		return seen{err: err}
	}
	return do(client, req)
}

// askGrant asks as the token server does: HTTP Basic, both halves form-encoded.
func askGrant(ctx context.Context, client *http.Client, s *Standin) seen {
	form := url.Values{"grant_type": {"client_credentials"}, "scope": {"itwin-platform"}}
	req, err := grantRequest(ctx, s, form)
	if err != nil {
		return seen{err: err}
	}
	req.SetBasicAuth(url.QueryEscape(s.IMS.ClientID()), url.QueryEscape(s.IMS.ClientSecret()))
	return do(client, req)
}

// grantRequest carries no credentials but the form's.
func grantRequest(ctx context.Context, s *Standin, form url.Values) (*http.Request, error) {
	body := strings.NewReader(form.Encode())
	req, err := http.NewRequestWithContext(ctx, "POST", s.IMS.URL()+"/connect/token", body)
	if err == nil {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	return req, err
}

// eventuallyGone waits until no goroutine has any of the frames in its stack.
// Goroutines end a moment after they say so.
func eventuallyGone(t *testing.T, frames ...string) {
	t.Helper()
	stacks := make([]byte, 1<<20)
	for deadline := time.Now().Add(5 * time.Second); ; runtime.Gosched() {
		now := stacks[:runtime.Stack(stacks, true)]
		left := ""
		for _, frame := range frames {
			if bytes.Contains(now, []byte(frame)) {
				left = frame
			}
		}
		if left == "" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("a goroutine is left in %s:\n%s", left, now)
		}
	}
}
