package upstream

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

// ask requests the host's keys.
func ask(ctx context.Context, transport http.RoundTripper, host string) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/.well-known/jwks.json", nil)
	if err != nil {
		return Answer{}, err
	}
	return Do(transport, req)
}

// wantError wants an [*Error] of the kind that names the host and has these words.
func wantError(t *testing.T, err error, kind Kind, host, words string) {
	t.Helper()
	got, ok := errors.AsType[*Error](err)
	if !ok || got.Kind != kind || !strings.HasPrefix(got.Text, host+": ") || !strings.Contains(got.Text, words) {
		t.Errorf("got the error %#v\nwant %s with %q and %q", err, kind, host, words)
	}
	if err != nil && strings.Contains(err.Error(), standintest.Canary) {
		t.Errorf("the error %q repeats what upstream sent", err)
	}
}

// Faults behave alike over sockets and in the process.
func TestFaults(t *testing.T) {
	tooLong := strings.Repeat("x", maxBody+1)
	paused := func(fault standintest.Fault) standintest.Fault {
		return standintest.WithHeader("Retry-After", "12", fault)
	}
	sockets, inProcess := standintest.Start(t), standintest.New(t)
	for _, test := range []struct {
		name  string
		fault standintest.Fault
		kind  Kind
		words string
	}{
		{"truncated", standintest.Truncated(), Nonsense, "cut short"},
		{"32 MiB", standintest.Huge(32 << 20), Nonsense, "longer than 1 MiB"},
		{"one byte over the bound", standintest.Answer(200, "text/plain", tooLong), Nonsense, "longer than 1 MiB"},
		{"redirect", standintest.Redirect("https://" + standintest.Canary + "/"), Nonsense, "status 307: redirects"},
		{"not modified", standintest.Status(304), Nonsense, "status 304: redirects"},
		{"hang-up", standintest.HangUp(), Unreachable, "connection failed"},
		{"redirect with a pause", paused(standintest.Redirect("/elsewhere")), Throttled, "asked to wait 12 s"},
		{"too long, with a pause", paused(standintest.Answer(503, "", tooLong)), Throttled, "asked to wait 12 s"},
	} {
		sockets.Tenant.Misbehave(test.fault)
		before := sockets.Tenant.Requests()
		answer, err := ask(t.Context(), Transport(sockets.Pool()), sockets.Tenant.Domain())
		wantError(t, err, test.kind, sockets.Tenant.Domain(), test.words)
		if asked := sockets.Tenant.Requests() - before; asked != 1 || len(answer.Body) != 0 {
			t.Errorf("%s: %d requests, and %d bytes beside the error; want 1 and none", test.name, asked, len(answer.Body))
		}
		synctest.Test(t, func(t *testing.T) {
			inProcess.Tenant.Misbehave(test.fault)
			_, err := ask(t.Context(), inProcess.Transport(), inProcess.Tenant.Domain())
			wantError(t, err, test.kind, inProcess.Tenant.Domain(), test.words)
		})
	}
	sockets.Tenant.Stop()
	_, err := ask(t.Context(), Transport(sockets.Pool()), sockets.Tenant.Domain())
	wantError(t, err, Unreachable, sockets.Tenant.Domain(), "connection refused")
	_, err = ask(t.Context(), inProcess.Transport(), "nowhere.test")
	wantError(t, err, Unreachable, "nowhere.test", "no such host")
}

// Any other answer is the caller's to judge.
func TestAnswers(t *testing.T) {
	s := standintest.Start(t)
	transport := Transport(s.Pool())
	whole := strings.Repeat("x", maxBody)
	for _, test := range []struct {
		name   string
		fault  standintest.Fault
		status int
		body   string
	}{
		{"honest", nil, 200, string(s.Tenant.JWKS())},
		{"as long as allowed", standintest.Answer(200, "text/plain", whole), 200, whole},
		{"no content", standintest.Answer(204, "", ""), 204, ""},
		{"refusal", standintest.Answer(403, "text/plain", "no"), 403, "no"},
		{"labelled as gzip", standintest.WithHeader("Content-Encoding", "gzip", standintest.Answer(200, "", "plain")), 200, "plain"},
	} {
		s.Tenant.Misbehave(test.fault)
		got, err := ask(t.Context(), transport, s.Tenant.Domain())
		if got.Status != test.status || string(got.Body) != test.body || got.Host != s.Tenant.Domain() || got.Pause != 0 || err != nil {
			t.Errorf("%s: got %d and %d bytes (%v), want %d and %d", test.name, got.Status, len(got.Body), err, test.status, len(test.body))
		}
	}
	s.Tenant.Misbehave(standintest.WithHeader("X-A", strings.Repeat("a", 128<<10), standintest.Status(200)))
	_, err := ask(t.Context(), transport, s.Tenant.Domain())
	wantError(t, err, Unreachable, s.Tenant.Domain(), "connection failed")
}

func TestARequestEndsAfterTenSecondsOrWithItsContext(t *testing.T) {
	s := standintest.New(t)
	const never = time.Hour
	for _, test := range []struct {
		name            string
		fault           standintest.Fault
		cancel, timeout time.Duration // of the caller's context
		want            time.Duration
	}{
		{"hang", standintest.Hang(), never, never, 10 * time.Second},
		{"a late answer", standintest.Delay(10*time.Second + time.Millisecond), never, never, 10 * time.Second},
		{"a byte a second", standintest.Drip(time.Second), never, never, 10 * time.Second},
		{"canceled before the answer", standintest.Hang(), 3 * time.Second, never, 3 * time.Second},
		{"canceled within the answer", standintest.Drip(time.Second), 3 * time.Second, never, 3 * time.Second},
		{"a deadline means a slow upstream, too", standintest.Hang(), never, 2 * time.Second, 2 * time.Second},
		{"in time", standintest.Delay(10*time.Second - time.Millisecond), never, never, 10*time.Second - time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			s.Tenant.Misbehave(test.fault)
			ctx, cancel := context.WithTimeout(t.Context(), test.timeout)
			defer time.AfterFunc(test.cancel, cancel).Stop()
			defer cancel()
			begun := time.Now()
			_, err := ask(ctx, s.Transport(), s.Tenant.Domain())
			if took := time.Since(begun); took != test.want {
				t.Errorf("%s: took %v, want %v", test.name, took, test.want)
			}
			var want error // if it was canceled, or in time
			if test.cancel != never {
				want = context.Canceled
			} else if test.name != "in time" {
				wantError(t, err, Slow, s.Tenant.Domain(), "within 10s")
				return
			}
			if err != want {
				t.Errorf("%s: %v, want %v", test.name, err, want)
			}
		})
	}
}

// A pause is asked for by any answer but 200.
// A date counts from when the answer has been read.
func TestAPauseUntilADateWithASlowBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := standintest.New(t)
		s.Tenant.Misbehave(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
			w.Header().Set("Retry-After", time.Now().Add(12*time.Second).UTC().Format(http.TimeFormat))
			w.WriteHeader(503)
			w.(http.Flusher).Flush()
			time.Sleep(8 * time.Second)
		})
		if got, err := ask(t.Context(), s.Transport(), s.Tenant.Domain()); err != nil || got.Pause != 4*time.Second {
			t.Errorf("a pause of %v (%v), want 4s", got.Pause, err)
		}
	})
}

func TestPauses(t *testing.T) {
	s := standintest.New(t)
	for _, test := range []struct {
		status int
		header string
		want   time.Duration
		kind   Kind
	}{
		{200, "12", 0, Refused},
		{204, "12", 12 * time.Second, Throttled},
		{400, "12", 12 * time.Second, Throttled},
		{503, "Sat, 01 Jan 2000 00:00:12 GMT", 12 * time.Second, Throttled}, // the bubble's clock begins 12 s before
		{429, "soon", 0, Throttled},
		{503, "soon", 0, Refused},
	} {
		synctest.Test(t, func(t *testing.T) {
			s.Tenant.Misbehave(standintest.WithHeader("Retry-After", test.header, standintest.Status(test.status)))
			answer, err := ask(t.Context(), s.Transport(), s.Tenant.Domain())
			failed := answer.Errorf(Refused, "no")
			wantError(t, failed, test.kind, s.Tenant.Domain(), "no")
			pause := failed.(*Error).RetryAfter()
			if err != nil || pause != test.want || strings.Contains(failed.Error(), "asked to wait 12 s") != (test.want > 0) {
				t.Errorf("status %d, Retry-After %q: %q, a pause of %v (%v); want %v", test.status, test.header, failed, pause, err, test.want)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 700_000_000, time.UTC)
	for value, want := range map[string]time.Duration{
		"1": time.Second, "0": 0, "300": maxPause, "301": maxPause, "99999999999999999999": maxPause, "007": 7 * time.Second,
		"": 0, "-1": 0, "+1": 0, "1.5": 0, "1e3": 0, "1_0": 0, "12s": 0, "soon": 0, "٣": 0, "20000000000000000000A": 0,
		"Fri, 02 Jan 2026 03:04:17 GMT":  11300 * time.Millisecond,
		"Friday, 02-Jan-26 03:04:17 GMT": 11300 * time.Millisecond,
		"Fri Jan  2 03:04:17 2026":       11300 * time.Millisecond,
		"Fri, 02 Jan 2026 03:04:05 GMT":  0, // past
		"Fri, 02 Jan 2099 03:04:05 GMT":  maxPause,
		"2026-01-02T03:04:17Z":           0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("retryAfter(%q) = %v, want %v", value, got, want)
		}
	}
	err := Answer{Host: "a.test", Status: 503, Pause: 11300 * time.Millisecond}.Errorf(Refused, "later")
	wantError(t, err, Throttled, "a.test", "asked to wait 12 s")
}

func FuzzRetryAfter(f *testing.F) {
	for _, value := range []string{"12", "-1", "99999999999999999999", "Fri, 02 Jan 2026 03:04:17 GMT", "12, 13", " 12"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got := retryAfter(value, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
		_, err := http.ParseTime(value)
		nonsense := err != nil && strings.Trim(value, "0123456789") != ""
		if got < 0 || got > maxPause || nonsense && got != 0 {
			t.Errorf("retryAfter(%q) = %v, want 0 to %v, and 0 for nonsense", value, got, maxPause)
		}
	})
}
