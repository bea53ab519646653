package telemetry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"itwin-token-server/internal/upstream"
)

// newObserver returns an observer that logs to w. There has been no token and no key.
func newObserver(w io.Writer, level slog.Level) *Observer {
	return New(Config{
		Log:         NewLog(w, "text", level),
		Version:     `v1.0 "x" \`,
		Statuses:    map[string]int{"ok": 200, "expired": 401, "itwin_slow": 504, "no_keys": 503},
		TokenExpiry: func() time.Time { return time.Time{} },
		KeysFetched: func() time.Time { return time.Time{} },
	})
}

// wantLog wants a new line in the log, without its time.
func wantLog(t *testing.T, log *bytes.Buffer, want string) {
	t.Helper()
	_, got, _ := strings.Cut(log.String(), " ")
	log.Reset()
	if got != want+"\n" {
		t.Errorf("logged %q, want the line %q", got, want)
	}
}

func TestRequest(t *testing.T) {
	gone, leave := context.WithCancel(t.Context())
	leave()
	for _, test := range []struct {
		ctx     context.Context
		request Request
		line    string
	}{
		{t.Context(), Request{200, "ok", 1234567, "auth0|65a1f0", "1a2b3c4d5e6f"},
			"level=INFO msg=getToken status=200 ms=1.235 sub=auth0|65a1f0 token=1a2b3c4d5e6f"},
		{t.Context(), Request{401, "expired", 100, "", ""},
			"level=INFO msg=getToken status=401 ms=0 reason=expired"},
		{t.Context(), Request{503, "no_keys", 10 * time.Second, "", ""},
			"level=WARN msg=getToken status=503 ms=10000 reason=no_keys"},
		{gone, Request{504, "itwin_slow", 3 * time.Second, "auth0|65a1f0", ""},
			"level=INFO msg=getToken status=504 ms=3000 reason=itwin_slow sub=auth0|65a1f0"},
	} {
		var log bytes.Buffer
		newObserver(&log, slog.LevelInfo).Request(test.ctx, test.request)
		wantLog(t, &log, test.line)
	}
}

// A request is counted though its reason is not known, the level leaves out its line, or
// the disk is full.
func TestEveryRequestIsCounted(t *testing.T) {
	_, full := io.Pipe()
	full.Close() // writing to it is an error from now on
	for level, lost := range map[slog.Level]int{slog.LevelInfo: 2, slog.LevelError: 0} {
		o := newObserver(full, level)
		o.Request(t.Context(), Request{Status: 200, Reason: "ok"})
		o.Request(t.Context(), Request{Status: 418, Reason: "unforeseen"})
		wantSeries(t, o, `requests_total{status="200",reason="ok"} 1`,
			`requests_total{status="500",reason="other"} 1`, fmt.Sprint("log_lines_lost_total ", lost))
	}
}

func TestFetches(t *testing.T) {
	failed := func(kind upstream.Kind) error { return &upstream.Error{Kind: kind, Text: "ims.test"} }
	const warning = `level=WARN msg="cannot fetch iTwin token" error=ims.test ms=250`
	var log bytes.Buffer
	o := newObserver(&log, slog.LevelDebug)
	for _, step := range []struct {
		err          error
		result, line string
	}{
		{failed(upstream.Refused), "refused", warning},
		{nil, "ok", `level=INFO msg="got iTwin token" ms=250`},
		{nil, "ok", `level=DEBUG msg="renewed iTwin token" ms=250`},
		{failed(upstream.Throttled), "throttled", warning},
		{failed(upstream.Nonsense), "nonsense", warning},
		{failed(upstream.Slow), "slow", warning},
		{fmt.Errorf("%w", failed(upstream.Unreachable)), "unreachable", warning},
		{failed("unforeseen"), "other", warning},
		{errors.New("ims.test"), "secret", warning},            // the secret's file
		{nil, "ok", `level=INFO msg="got iTwin token" ms=250`}, // the end of an outage
	} {
		o.Grant(250*time.Millisecond, step.err)
		wantLog(t, &log, step.line)
		if step.err != nil {
			wantSeries(t, o, fmt.Sprintf("grants_total{result=%q} 1", step.result))
		}
	}
	o.KeyFetch(0, errors.New("not of package upstream"))
	wantSeries(t, o, `key_fetches_total{result="other"} 1`) // a key fetch reads no secret
	log.Reset()
	o.KeyFetch(time.Second, nil)
	wantLog(t, &log, `level=INFO msg="got Auth0 keys" ms=1000`)
	wantSeries(t, o, `grants_total{result="ok"} 3`, `key_fetches_total{result="ok"} 1`,
		"grant_duration_seconds_sum 2.5", "key_fetch_duration_seconds_sum 1")
}

// What a caller may send in the hope that the log repeats it.
func TestSubject(t *testing.T) {
	for _, test := range []struct{ name, sub, want string }{
		{"nothing odd", "auth0|65a1f0", "auth0|65a1f0"},
		{"a line of its own", "x\nlevel=INFO msg=getToken", `x\nlevel=INFO msg=getToken`},
		{"escape: clear the screen", "\x1b[2J\x1b[H", `\x1b[2J\x1b[H`},
		{"C1: the escape in one character, or byte", "\u009b2J\x9b2J", `\u009b2J\x9b2J`},
		{"not ASCII, right to left", "é\u202egnp.exe", `\u00e9\u202egnp.exe`},
		{"quotes", `x" status="200`, `x\" status=\"200`},
		{"10 KB", strings.Repeat("x", 10_000), strings.Repeat("x", 128)},
		{"10 KB of escapes", strings.Repeat("\x1b", 10_000), strings.Repeat(`\x1b`, 128)},
		// The hashes are sha256sum's.
		{"an e-mail address", "email|jane.doe@example.com", "sha256:f6df4825ac2d"},
		{"a long address", strings.Repeat("x", 200) + "@example.com", "sha256:33de22a47665"},
	} {
		if got := Subject(test.sub); got != test.want {
			t.Errorf("%s: Subject = %s, want %s", test.name, got, test.want)
		}
		for _, format := range []string{"text", "json"} {
			var b bytes.Buffer
			NewLog(&b, format, slog.LevelInfo).Info("getToken", "sub", Subject(test.sub))
			line, ended := strings.CutSuffix(b.String(), "\n")
			if !ended || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) ||
				json.Valid(b.Bytes()) != (format == "json") {
				t.Errorf("%s: %q, want one line of printable ASCII as %s", test.name, line, format)
			}
		}
	}
}
