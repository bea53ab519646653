package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/standin"
)

// faulty is what a stand-in may do, and the error that follows.
var faulty = []struct {
	name  string
	fault standin.Fault
	kind  Kind
	words string
}{
	{"truncated", standin.Truncated(), Nonsense, "cut short"},
	{"32 MiB", standin.Huge(32 << 20), Nonsense, "longer than 1 MiB"},
	{"one byte over the bound", standin.Answer(200, "text/plain", strings.Repeat("x", maxBody+1)), Nonsense, "longer than 1 MiB"},
	{"redirect on the same host", standin.Redirect("/elsewhere"), Nonsense, "status 307: redirects"},
	{"redirect to another host", standin.Redirect("https://" + standin.Canary + "/"), Nonsense, "status 307: redirects"},
	{"redirect without a target", standin.Answer(302, "", ""), Nonsense, "status 302: redirects"},
	{"not modified", standin.Status(304), Nonsense, "status 304: redirects"},
	{"hang-up", standin.HangUp(), Unreachable, "connection broken"},
	{"redirect with a pause", standin.WithHeader("Retry-After", "12", standin.Redirect("/elsewhere")), Throttled, "asked to wait 12 s"},
	{"too long, with a pause", standin.WithHeader("Retry-After", "12", standin.Answer(503, "", strings.Repeat("x", maxBody+1))), Throttled, "asked to wait 12 s"},
}

func TestFaultsOverSockets(t *testing.T) {
	s := standin.StartForTest(t)
	for _, test := range faulty {
		s.Tenant.Misbehave(test.fault)
		before := s.Tenant.Requests()
		answer, err := ask(t.Context(), Transport(s.Pool()), s.Tenant.Domain())
		wantError(t, err, test.kind, s.Tenant.Domain(), test.words)
		if len(answer.Body) != 0 {
			t.Errorf("%s: %d bytes beside the error, want none", test.name, len(answer.Body))
		}
		if asked := s.Tenant.Requests() - before; asked != 1 {
			t.Errorf("%s: %d requests, want one", test.name, asked)
		}
	}
	s.Tenant.Stop()
	_, err := ask(t.Context(), Transport(s.Pool()), s.Tenant.Domain())
	wantError(t, err, Unreachable, s.Tenant.Domain(), "connection refused")
}

func TestFaultsInProcess(t *testing.T) {
	s := standin.ForTest(t)
	for _, test := range faulty {
		synctest.Test(t, func(t *testing.T) {
			s.Tenant.Misbehave(test.fault)
			_, err := ask(t.Context(), s.Transport(), s.Tenant.Domain())
			wantError(t, err, test.kind, s.Tenant.Domain(), test.words)
		})
	}
	_, err := ask(t.Context(), s.Transport(), "nowhere.test")
	wantError(t, err, Unreachable, "nowhere.test", "no such host")
}

// Any other answer is the caller's to judge.
func TestAnswers(t *testing.T) {
	s := standin.StartForTest(t)
	whole := strings.Repeat("x", maxBody)
	for _, test := range []struct {
		name   string
		fault  standin.Fault
		status int
		body   string
	}{
		{"honest", nil, 200, string(s.Tenant.JWKS())},
		{"empty", standin.Answer(200, "", ""), 200, ""},
		{"as long as allowed", standin.Answer(200, "text/plain", whole), 200, whole},
		{"no content", standin.Answer(204, "", ""), 204, ""},
		{"refusal", standin.Answer(403, "text/plain", "no"), 403, "no"},
		{"trouble", standin.Answer(503, "text/plain", "later"), 503, "later"},
		{"labelled as gzip", func(http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Encoding", "gzip")
				io.WriteString(w, "asked for: "+r.Header.Get("Accept-Encoding"))
			})
		}, 200, "asked for: "},
	} {
		s.Tenant.Misbehave(test.fault)
		got, err := ask(t.Context(), Transport(s.Pool()), s.Tenant.Domain())
		if got.Status != test.status || string(got.Body) != test.body || got.Host != s.Tenant.Domain() || got.RetryAfter != 0 || err != nil {
			t.Errorf("%s: got %d and %d bytes (%v), want %d and %d", test.name, got.Status, len(got.Body), err, test.status, len(test.body))
		}
	}
}

func TestSlowAnswersEndAfterTenSeconds(t *testing.T) {
	s := standin.ForTest(t)
	for _, test := range []struct {
		name  string
		fault standin.Fault
	}{
		{"hang", standin.Hang()},
		{"a late answer", standin.Delay(10*time.Second + time.Millisecond)},
		{"a byte a second", standin.Drip(time.Second)},
	} {
		synctest.Test(t, func(t *testing.T) {
			s.Tenant.Misbehave(test.fault)
			begun := time.Now()
			_, err := ask(t.Context(), s.Transport(), s.Tenant.Domain())
			wantError(t, err, Slow, s.Tenant.Domain(), "within 10s")
			if took := time.Since(begun); took != 10*time.Second {
				t.Errorf("%s: took %v, want 10s", test.name, took)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) {
		s.Tenant.Misbehave(standin.Delay(10*time.Second - time.Millisecond))
		if _, err := ask(t.Context(), s.Transport(), s.Tenant.Domain()); err != nil {
			t.Errorf("an answer in time: got the error %v, want none", err)
		}
	})
}

func TestTheCallersContextEndsTheRequest(t *testing.T) {
	s := standin.ForTest(t)
	for name, fault := range map[string]standin.Fault{"before the answer": standin.Hang(), "within it": standin.Drip(time.Second)} {
		synctest.Test(t, func(t *testing.T) {
			s.Tenant.Misbehave(fault)
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(3*time.Second, cancel)
			begun := time.Now()
			_, err := ask(ctx, s.Transport(), s.Tenant.Domain())
			if err != context.Canceled || time.Since(begun) != 3*time.Second {
				t.Errorf("%s: got %v after %v, want %v after 3s", name, err, time.Since(begun), context.Canceled)
			}
		})
	}
	synctest.Test(t, func(t *testing.T) { // a deadline means a slow upstream, whoever set it
		s.Tenant.Misbehave(standin.Hang())
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		_, err := ask(ctx, s.Transport(), s.Tenant.Domain())
		wantError(t, err, Slow, s.Tenant.Domain(), "within 10s")
	})
}

func TestHugeHeader(t *testing.T) {
	s := standin.StartForTest(t)
	s.Tenant.Misbehave(func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-A", strings.Repeat("a", 128<<10))
		})
	})
	_, err := ask(t.Context(), Transport(s.Pool()), s.Tenant.Domain())
	wantError(t, err, Unreachable, s.Tenant.Domain(), "connection broken")
}

// A pause is asked for by any answer but 200.
func TestRetryAfter(t *testing.T) {
	s := standin.ForTest(t)
	for _, test := range []struct {
		status int
		header string
		want   time.Duration
		kind   Kind
	}{
		{200, "12", 0, Refused},
		{204, "12", 12 * time.Second, Throttled},
		{400, "12", 12 * time.Second, Throttled},
		{429, "12", 12 * time.Second, Throttled},
		{503, "12", 12 * time.Second, Throttled},
		{429, "soon", 0, Throttled},
		{429, "", 0, Throttled},
		{503, "soon", 0, Refused},
		{503, "", 0, Refused},
	} {
		synctest.Test(t, func(t *testing.T) {
			s.Tenant.Misbehave(standin.WithHeader("Retry-After", test.header, standin.Status(test.status)))
			answer, err := ask(t.Context(), s.Transport(), s.Tenant.Domain())
			if err != nil || answer.RetryAfter != test.want {
				t.Errorf("status %d, Retry-After %q: a pause of %v (%v), want %v", test.status, test.header, answer.RetryAfter, err, test.want)
			}
			failed := wantError(t, answer.Errorf("status %d", answer.Status), test.kind, s.Tenant.Domain(), "")
			if failed.RetryAfter() != test.want || strings.Contains(failed.Text, "asked to wait 12 s") != (test.want > 0) {
				t.Errorf("status %d, Retry-After %q: %q with a pause of %v, want %v", test.status, test.header, failed, failed.RetryAfter(), test.want)
			}
		})
	}
}

func TestRetryAfterValues(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 700_000_000, time.UTC)
	for value, want := range map[string]time.Duration{
		"1": time.Second, "0": 0, "300": maxPause, "301": maxPause, "99999999999999999999": maxPause, "007": 7 * time.Second,
		"": 0, "-1": 0, "+1": 0, "1.5": 0, "1e3": 0, "0x10": 0, "1_0": 0, "12s": 0, "soon": 0, "٣": 0, "20000000000000000000A": 0,
		"Fri, 02 Jan 2026 03:04:17 GMT":   11300 * time.Millisecond,
		"Friday, 02-Jan-26 03:04:17 GMT":  11300 * time.Millisecond,
		"Fri Jan  2 03:04:17 2026":        11300 * time.Millisecond,
		"Fri, 02 Jan 2026 03:04:05 GMT":   0, // past
		"Fri, 02 Jan 2099 03:04:05 GMT":   maxPause,
		"2026-01-02T03:04:17Z":            0,
		"Fri, 02 Jan 2026 03:04:17 +0100": 0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("retryAfter(%q) = %v, want %v", value, got, want)
		}
	}
	err := Answer{Host: "a.test", Status: 503, RetryAfter: 11300 * time.Millisecond}.Errorf("later")
	wantError(t, err, Throttled, "a.test", "asked to wait 12 s")
}

func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, value := range []string{"12", "-1", "99999999999999999999", "Fri, 02 Jan 2026 03:04:17 GMT", "Friday, 02-Jan-26 03:04:17 GMT", "12, 13", " 12"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got := retryAfter(value, now)
		if got < 0 || got > maxPause {
			t.Errorf("retryAfter(%q) = %v, want 0 to %v", value, got, maxPause)
		}
		digits := value != "" && strings.Trim(value, "0123456789") == ""
		if _, err := http.ParseTime(value); err != nil && !digits && got != 0 {
			t.Errorf("retryAfter(%q) = %v, want none of nonsense", value, got)
		}
	})
}

// A flood is an answer of twice the limit that knows how much of it was read.
type flood struct{ read int }

func (f *flood) Close() error { return nil }

func (f *flood) Read(p []byte) (int, error) {
	if f.read >= 2*maxBody {
		return 0, io.EOF
	}
	f.read += len(p)
	return len(p), nil
}

func (f *flood) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: f}, nil
}

func TestNoMoreIsReadThanIsKept(t *testing.T) {
	f := new(flood)
	if _, err := ask(t.Context(), f, "upstream.test"); !errors.As(err, new(*Error)) {
		t.Errorf("an answer of twice the limit: got the error %v, want an *Error", err)
	}
	if f.read > maxBody+1 {
		t.Errorf("%d bytes are read, want at most %d", f.read, maxBody+1)
	}
}
