package standintest

import (
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// compressed answers in gzip, as a CDN may whatever the client accepts. An
// http.Transport asks for gzip by itself, and then decodes the answer.
var compressed = WithHeader("Content-Encoding", "gzip",
	rewrite(func(w http.ResponseWriter, _ *http.Request, body []byte) {
		zip := gzip.NewWriter(w)
		zip.Write(body)
		zip.Close()
	}))

// Each fault, in place of keys and of a token.
func TestFaults(t *testing.T) {
	const short = 50 * time.Millisecond
	spaces := strings.Repeat(" ", 3<<20+1)
	tests := []struct {
		name   string
		fault  Fault
		status int
		header string // name: value
		body   string // how it begins
		err    error
		took   time.Duration // or longer
		honest bool          // the keys and the token arrive
	}{
		{name: "none", status: 200, honest: true},
		{name: "throttle", fault: Throttle("soon"), status: 429, header: "Retry-After: soon"},
		{name: "redirect", fault: Redirect(elsewhere), status: 307, header: "Location: " + elsewhere},
		{name: "delay", fault: Delay(short), status: 200, took: short, honest: true},
		{name: "compressed", fault: compressed, status: 200, honest: true},
		{name: "huge", fault: Huge(len(spaces)), status: 200, body: spaces, honest: true},
		{name: "hang", fault: Hang(), err: context.DeadlineExceeded, took: short},
		{name: "hang up", fault: HangUp(), err: io.EOF},
		{name: "truncated", fault: Truncated(), status: 200, body: "{", err: io.ErrUnexpectedEOF},
	}
	type request = func(context.Context, *http.Client, *Standin) answer
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		for i, test := range tests {
			s.Tenant.Misbehave(test.fault)
			s.IMS.Misbehave(test.fault)
			for _, request := range []request{fetchKeys, requestGrant} {
				start, timeout := time.Now(), time.Minute
				if test.name == "hang" {
					timeout = short
				}
				ctx, cancel := context.WithTimeout(t.Context(), timeout)
				got := request(ctx, client, s)
				cancel()
				if got.status != test.status || !errors.Is(got.err, test.err) {
					t.Errorf("%s: got %d, %v, want %+v", test.name, got.status, got.err, test)
				}
				name, value, _ := strings.Cut(test.header, ": ")
				if got.header.Get(name) != value || !strings.HasPrefix(got.body, test.body) {
					t.Errorf("%s: got %v %.99q, want %+v", test.name, got.header, got.body, test)
				}
				honest := s.IMS.Valid(got.token()) || strings.HasSuffix(got.body, string(s.Tenant.JWKS()))
				if took := time.Since(start); took < test.took || honest != test.honest {
					t.Errorf("%s: honest: %v, after %v, want %+v", test.name, honest, took, test)
				}
			}
			// No client repeats a request by itself.
			if keys, grants := s.Tenant.Requests(), s.IMS.Requests(); keys != i+1 || grants != i+1 {
				t.Errorf("%s: counted %d and %d requests, want %d", test.name, keys, grants, i+1)
			}
		}
		s.IMS.Misbehave(Redirect(elsewhere))
		follows := &http.Client{Transport: client.Transport}
		if got := requestGrant(t.Context(), follows, s); !s.IMS.Valid(got.token()) {
			t.Errorf("a redirect that is followed: got %+v, want a token", got)
		}
	})
}
