package standin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestFaultsThatAnswer(t *testing.T) {
	const text = "text/plain; charset=utf-8"
	nested := func(honest http.Handler) http.Handler {
		return Delay(time.Millisecond)(Status(502)(honest))
	}
	tests := []struct {
		name   string
		fault  Fault
		status int
		header string // name: value
		body   string // a prefix
	}{
		{"status", Status(503), 503, "Content-Type: " + text, "Service Unavailable " + Canary},
		{"answer", Answer(418, "text/x", "tea"), 418, "Content-Type: text/x", "tea"},
		{"answer without a type", Answer(200, "", "<html>"), 200, "Content-Type: ", "<html>"},
		{"nested", nested, 502, "Content-Type: " + text, "Bad Gateway"},
		{"throttle", Throttle("12"), 429, "Retry-After: 12", "Too Many Requests"},
		{"throttle with nonsense", Throttle("soon, maybe"), 429, "Retry-After: soon, maybe", "Too Many Requests"},
		{"a header", WithHeader("X-Test", "1", Answer(200, "", "x")), 200, "X-Test: 1", "x"},
		{"redirect", Redirect(elsewhere), 307, "Location: " + elsewhere, "Temporary Redirect"},
	}
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		for _, test := range tests {
			s.Tenant.Misbehave(test.fault)
			s.IMS.Misbehave(test.fault)
			name, value, _ := strings.Cut(test.header, ": ")
			for _, got := range []answer{fetchKeys(t.Context(), client, s), requestGrant(t.Context(), client, s)} {
				if got.err != nil || got.status != test.status || !strings.HasPrefix(got.body, test.body) || got.header.Get(name) != value {
					t.Errorf("%s: got %+v, want %d %s %q", test.name, got, test.status, test.header, test.body)
				}
			}
		}
		if n := len(s.IMS.Issued()); n != 0 {
			t.Errorf("%d tokens were issued, want none", n)
		}
		s.Tenant.Behave()
		s.IMS.Behave()
		wantHonest(t, s, client)
	})
}

func TestFaultsThatAnswerHonestly(t *testing.T) {
	s := ForTest(t)
	const size = 3<<20 + 1
	synctest.Test(t, func(t *testing.T) {
		client := &http.Client{Transport: s.Transport()} // follows redirects
		for _, test := range []struct {
			name  string
			fault Fault
			took  func(length int) time.Duration
			size  int
		}{
			{"redirect", Redirect(elsewhere), func(int) time.Duration { return 0 }, 0},
			{"delay", Delay(time.Minute), func(int) time.Duration { return time.Minute }, 0},
			{"drip", Drip(time.Second), func(n int) time.Duration { return time.Duration(n-1) * time.Second }, 0},
			{"huge", Huge(size), func(int) time.Duration { return 0 }, size},
		} {
			s.IMS.Misbehave(test.fault)
			start := time.Now()
			got := requestGrant(t.Context(), client, s)
			if took, want := time.Since(start), test.took(len(got.body)); !s.IMS.Valid(got.token()) || took != want || len(got.body) <= test.size {
				t.Errorf("%s: %d bytes after %v (%v), want a token, more than %d bytes after %v", test.name, len(got.body), took, got.err, test.size, want)
			}
		}
		resp, err := client.PostForm(s.IMS.URL()+"/connect/token", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close() // of Huge, not read: the handler must end, or the bubble would not
	})
}

func TestHang(t *testing.T) {
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		s.Tenant.Misbehave(Hang())
		s.IMS.Misbehave(Hang())
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
		defer cancel()
		if got := requestGrant(ctx, client, s); !errors.Is(got.err, context.DeadlineExceeded) {
			t.Errorf("grant: got %+v, want %v", got, context.DeadlineExceeded)
		}
		ctx, cancel = context.WithCancel(t.Context())
		time.AfterFunc(30*time.Millisecond, cancel)
		if got := fetchKeys(ctx, client, s); !errors.Is(got.err, context.Canceled) {
			t.Errorf("keys: got %+v, want %v", got, context.Canceled)
		}
		await(t, "the handlers' end", func() bool { return s.Tenant.state.get().inFlight+s.IMS.state.get().inFlight == 0 })
	})
}

func TestFaultsThatCloseTheConnection(t *testing.T) {
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		s.Tenant.Misbehave(Truncated())
		got, whole := fetchKeys(t.Context(), client, s), string(s.Tenant.JWKS())
		if got.status != 200 || !errors.Is(got.err, io.ErrUnexpectedEOF) || got.body != whole[:len(whole)/2] {
			t.Errorf("got %+v, want half of the answer and %v", got, io.ErrUnexpectedEOF)
		}
		s.IMS.Misbehave(HangUp())
		if got := requestGrant(t.Context(), client, s); !errors.Is(got.err, io.EOF) {
			t.Errorf("got %+v, want %v", got, io.EOF)
		}
		if keys, grants := s.Tenant.Requests(), s.IMS.Requests(); keys != 1 || grants != 1 {
			t.Errorf("counted %d and %d requests, want one each: no client repeats a request by itself", keys, grants)
		}
	})
}

func TestNonsense(t *testing.T) {
	s := ForTest(t)
	if n := len(Nonsense()); n != 14 {
		t.Errorf("%d kinds of nonsense, want 14", n)
	}
	for _, nonsense := range Nonsense() {
		s.Tenant.Misbehave(nonsense.Fault)
		s.IMS.Misbehave(nonsense.Fault)
		keys, grant := fetchKeys(t.Context(), inProcess(s), s), requestGrant(t.Context(), inProcess(s), s)
		if nonsense.Name == "32 MiB" {
			if len(keys.body) <= 32<<20 || len(grant.body) <= 32<<20 {
				t.Errorf("%s: got %d and %d bytes", nonsense.Name, len(keys.body), len(grant.body))
			}
			continue
		}
		if grant.token() != "" || keys.err == nil && keys.status == 200 && parses(keys.body) {
			t.Errorf("%s: got %+v and %+v, want nothing usable", nonsense.Name, keys, grant)
		}
	}
}
