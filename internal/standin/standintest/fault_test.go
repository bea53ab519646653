package standintest

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

// Each fault, in place of keys and of a token.
func TestFaults(t *testing.T) {
	tests := []struct {
		name    string
		fault   Fault
		status  int
		header  string // name: value
		body    string // a prefix
		err     error
		took    time.Duration // or longer
		honest  bool
		timeout time.Duration // of the client; 0: a minute
	}{
		{name: "none", status: 200, header: "Content-Type: application/json; charset=utf-8", body: "{", honest: true},
		{name: "status", fault: Status(503), status: 503, header: "Content-Type: text/plain; charset=utf-8", body: "Service Unavailable " + Canary},
		{name: "answer", fault: Answer(418, "text/x", "tea"), status: 418, header: "Content-Type: text/x", body: "tea"},
		{name: "throttle", fault: Throttle("soon, maybe"), status: 429, header: "Retry-After: soon, maybe", body: "Too Many Requests"},
		{name: "redirect", fault: Redirect(elsewhere), status: 307, header: "Location: " + elsewhere, body: "Temporary Redirect"},
		{name: "nested", fault: WithHeader("X-A", "1", Delay(50*time.Millisecond)), status: 200, header: "X-A: 1", body: "{", took: 50 * time.Millisecond, honest: true},
		{name: "huge", fault: Huge(3<<20 + 1), status: 200, body: strings.Repeat(" ", 3<<20+1), honest: true},
		{name: "hang", fault: Hang(), err: context.DeadlineExceeded, took: 50 * time.Millisecond, timeout: 50 * time.Millisecond},
		{name: "hang up", fault: HangUp(), err: io.EOF},
		{name: "truncated", fault: Truncated(), status: 200, body: "{", err: io.ErrUnexpectedEOF},
	}
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		for i, test := range tests {
			s.Tenant.Misbehave(test.fault)
			s.IMS.Misbehave(test.fault)
			name, value, _ := strings.Cut(test.header, ": ")
			for _, request := range []func(context.Context, *http.Client, *Standin) answer{fetchKeys, requestGrant} {
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), cmp.Or(test.timeout, time.Minute))
				got := request(ctx, client, s)
				cancel()
				if got.status != test.status || !errors.Is(got.err, test.err) || !strings.HasPrefix(got.body, test.body) || got.header.Get(name) != value {
					t.Errorf("%s: got %+v, want %d %v %s %.100q", test.name, got, test.status, test.err, test.header, test.body)
				}
				usable := s.IMS.Valid(got.token()) || strings.HasSuffix(got.body, string(s.Tenant.JWKS()))
				if took := time.Since(start); took < test.took || usable != test.honest {
					t.Errorf("%s: usable: %v, after %v; want %v, after %v", test.name, usable, took, test.honest, test.took)
				}
			}
			if keys, grants := s.Tenant.Requests(), s.IMS.Requests(); keys != i+1 || grants != i+1 {
				t.Errorf("%s: counted %d and %d requests, want %d: no client repeats one by itself", test.name, keys, grants, i+1)
			}
		}
		s.IMS.Misbehave(Redirect(elsewhere))
		if got := requestGrant(t.Context(), &http.Client{Transport: client.Transport}, s); !s.IMS.Valid(got.token()) {
			t.Errorf("a redirect that is followed: got %+v, want a token", got)
		}
	})
}
