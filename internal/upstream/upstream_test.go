package upstream

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

// ok begins an answer, which ends with the connection.
const ok = "HTTP/1.1 200 OK\r\n\r\n"

// compressed returns an answer with the text compressed.
func compressed(text string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	w.Close()
	return "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + b.String()
}

func TestAnswers(t *testing.T) {
	longest := strings.Repeat("x", maxBody)
	for _, test := range []struct {
		name   string
		answer string
		status int
		body   string
	}{
		{"short", ok + "{}", 200, "{}"},
		{"as long as allowed", ok + longest, 200, longest},
		{"compressed", compressed("{}"), 200, "{}"},
		{"compressed, as long as allowed", compressed(longest), 200, longest},
		{"with a BOM", ok + "\xef\xbb\xbf{}", 200, "{}"},
		{"no content", "HTTP/1.1 204 No Content\r\n\r\n", 204, ""},
		{"a refusal", "HTTP/1.1 403 Forbidden\r\n\r\nno", 403, "no"},
		{"a pause after success", "HTTP/1.1 200 OK\r\nRetry-After: 12\r\n\r\n{}", 200, "{}"},
		{"no pause", "HTTP/1.1 503 Service Unavailable\r\nRetry-After: soon\r\n\r\n", 503, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			transport, host := newServer(t, test.answer)
			got, err := get(t.Context(), transport, host)
			if err != nil || got.Status != test.status || string(got.Body) != test.body {
				t.Errorf("got %d and %d bytes (%v), want %d and %d bytes",
					got.Status, len(got.Body), err, test.status, len(test.body))
			}
			if got.Host != host {
				t.Errorf("the host is %q, want %q", got.Host, host)
			}
		})
	}
}

func TestNonsenseAndPauses(t *testing.T) {
	status := func(status, header string) string {
		return "HTTP/1.1 " + status + " " + standintest.Canary + "\r\n" + header + "\r\n\r\n"
	}
	tooLong := strings.Repeat("x", maxBody+1)
	pause := 12 * time.Second
	for _, test := range []struct {
		name   string
		answer string
		kind   Kind
		pause  time.Duration
		words  string
	}{
		{"too long", ok + tooLong, Nonsense, 0, "longer than 1 MiB"},
		{"a gzip bomb", compressed(strings.Repeat("x", 2<<20)), Nonsense, 0, "longer than 1 MiB"},
		{"not gzip", status("200", "Content-Encoding: gzip") + "{}", Nonsense, 0, "not HTTP"},
		{"cut short", status("200", "Content-Length: 9") + "{", Nonsense, 0, "cut short"},
		{"no HTTP", standintest.Canary + "\r\n", Nonsense, 0, "not HTTP"},
		{"a broken header", status("200", standintest.Canary), Nonsense, 0, "not HTTP"},
		{"a header cut short", "HTTP/1.1 200 OK\r\nDate: ", Nonsense, 0, "cut short"},
		{"a long header", status("200", "A: "+tooLong[:128<<10]), Nonsense, 0, "not HTTP"},
		{"a broken chunk", status("200", "Transfer-Encoding: chunked") + "zz", Nonsense, 0, "not HTTP"},
		{"a redirect", status("307", "Location: https://a.test/"), Nonsense, 0, "status 307: redirects"},
		{"not modified", status("304", ""), Nonsense, 0, "status 304: redirects"},
		{"no answer", "", Unreachable, 0, "connection failed"},
		{"429", status("429", ""), Throttled, 0, "status 429"},
		{"429 with a pause", status("429", "Retry-After: 12"), Throttled, pause, "wait 12 s"},
		{"503 with a pause", status("503", "Retry-After: 12") + tooLong, Throttled, pause, "wait 12 s"},
		{"204 with a pause", status("204", "Retry-After: 12"), Throttled, pause, "wait 12 s"},
		{"a redirect with a pause", status("307", "Retry-After: 12"), Throttled, pause, "wait 12 s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			transport, host := newServer(t, test.answer)
			_, err := get(t.Context(), transport, host)
			failed := wantError(t, err, test.kind, host, test.words)
			if got := failed.RetryAfter(); got != test.pause {
				t.Errorf("a pause of %v, want %v", got, test.pause)
			}
		})
	}
}

func TestNoMoreIsReadThanIsKept(t *testing.T) {
	text := strings.NewReader(strings.Repeat("x", 2*maxBody))
	transport := roundTrip(func(*http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(text)}, nil
	})
	_, err := get(t.Context(), transport, "upstream.test")
	wantError(t, err, Nonsense, "upstream.test", "longer than 1 MiB")
	if read := 2*maxBody - text.Len(); read > maxBody+1 {
		t.Errorf("%d bytes are read, want at most %d", read, maxBody+1)
	}
}

func TestTimeout(t *testing.T) {
	s := standintest.New(t)
	tooLate := 10*time.Second + time.Millisecond
	for _, test := range []struct {
		name   string
		fault  standintest.Fault
		cancel time.Duration // when the caller cancels the request
		want   time.Duration
	}{
		{"no answer", standintest.Hang(), time.Minute, 10 * time.Second},
		{"a late answer", standintest.Delay(tooLate), time.Minute, 10 * time.Second},
		{"a byte a second", standintest.Drip(time.Second), time.Minute, 10 * time.Second},
		{"canceled before the answer", standintest.Hang(), 3 * time.Second, 3 * time.Second},
		{"canceled within the answer", standintest.Drip(time.Second), 3 * time.Second, 3 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			s.Tenant.Misbehave(test.fault)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			time.AfterFunc(test.cancel, cancel)
			begun := time.Now()
			_, err := get(ctx, s.Transport(), s.Tenant.Domain())
			if took := time.Since(begun); took != test.want {
				t.Errorf("%s: took %v, want %v", test.name, took, test.want)
			}
			if test.cancel > test.want {
				wantError(t, err, Slow, s.Tenant.Domain(), "within 10s")
			} else if err != context.Canceled {
				t.Errorf("%s: %v, want %v", test.name, err, context.Canceled)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 700_000_000, time.UTC)
	for value, want := range map[string]time.Duration{
		"0": 0, "1": time.Second, "007": 7 * time.Second, "300": maxPause, "301": maxPause,
		"99999999999999999999": maxPause, "20000000000000000000A": 0,
		"": 0, "-1": 0, "+1": 0, "1.5": 0, "1e3": 0, "1_0": 0, "12s": 0, "soon": 0, "٣": 0,

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
}

func FuzzRetryAfter(f *testing.F) {
	for _, value := range []string{"12", "-1", "Fri, 02 Jan 2026 03:04:17 GMT", "12, 13", " 12"} {
		f.Add(value)
	}
	f.Fuzz(func(t *testing.T, value string) {
		got := retryAfter(value, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
		_, notDate := http.ParseTime(value)
		_, notNumber := strconv.ParseFloat(value, 64)
		if got < 0 || got > maxPause || notDate != nil && notNumber != nil && got != 0 {
			t.Errorf("retryAfter(%q) = %v, want 0 to %v, and 0 for nonsense", value, got, maxPause)
		}
	})
}
