package standintest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
)

// overSockets returns a client that trusts s, and follows no redirect.
func overSockets(t *testing.T, s *Standin) *http.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.Pool()}}
	t.Cleanup(transport.CloseIdleConnections)
	return newClient(transport)
}

// inProcess returns a client that needs no sockets, and follows no redirect.
func inProcess(s *Standin) *http.Client { return newClient(s.Transport()) }

func newClient(transport http.RoundTripper) *http.Client {
	dontFollow := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: transport, CheckRedirect: dontFollow}
}

// bothWays runs test over sockets, and in process in a synctest bubble.
func bothWays(t *testing.T, test func(t *testing.T, s *Standin, client *http.Client)) {
	t.Run("sockets", func(t *testing.T) {
		s := Start(t)
		test(t, s, overSockets(t, s))
	})
	t.Run("in process", func(t *testing.T) {
		s := New(t)
		synctest.Test(t, func(t *testing.T) { test(t, s, inProcess(s)) })
	})
}

// answer is what a client got. The error is the request's, or of reading the body.
type answer struct {
	status int
	header http.Header
	body   string
	err    error
}

func do(client *http.Client, req *http.Request) answer {
	resp, err := client.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, string(body), err}
}

// token returns the access token of a successful answer, or "".
func (a answer) token() string {
	var fields struct {
		Token string `json:"access_token"`
		Type  string `json:"token_type"`
	}
	err := json.Unmarshal([]byte(a.body), &fields)
	if err != nil || a.status != http.StatusOK || fields.Type != "Bearer" {
		return ""
	}
	return fields.Token
}

func fetchKeys(ctx context.Context, client *http.Client, s *Standin) answer {
	endpoint := s.Tenant.Issuer() + ".well-known/jwks.json"
	return do(client, must(http.NewRequestWithContext(ctx, "GET", endpoint, nil)))
}

// requestGrant sends what the token server does: HTTP Basic, both halves form-encoded.
func requestGrant(ctx context.Context, client *http.Client, s *Standin) answer {
	req := grantRequest(s, "grant_type=client_credentials&scope=itwin-platform").WithContext(ctx)
	req.SetBasicAuth(url.QueryEscape(s.IMS.ClientID()), url.QueryEscape(s.IMS.ClientSecret()))
	return do(client, req)
}

// grantRequest has no credentials but the form's.
func grantRequest(s *Standin, form string) *http.Request {
	req := must(http.NewRequest("POST", s.IMS.URL()+"/connect/token", strings.NewReader(form)))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return req
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// wantHonest fails the test unless both servers answer without a fault.
func wantHonest(t *testing.T, s *Standin, client *http.Client) {
	t.Helper()
	if got := fetchKeys(t.Context(), client, s); got.body != string(s.Tenant.JWKS()) {
		t.Errorf("keys: got %+v, want the JWKS", got)
	}
	if got := requestGrant(t.Context(), client, s); !s.IMS.Valid(got.token()) {
		t.Errorf("grant: got %+v, want a valid token", got)
	}
}
