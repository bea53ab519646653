package telemetry

import (
	"bytes"
	"context"
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
	never := func() time.Time { return time.Time{} }
	return New(Config{
		Log:         NewLog(w, "text", level),
		Version:     `v1.0 "x" \`,
		Statuses:    map[string]int{"ok": 200, "expired": 401, "itwin_slow": 504, "no_keys": 503},
		TokenExpiry: never,
		KeysFetched: never,
	})
}

// wantLog wants these new lines in the log, without their times.
func wantLog(t *testing.T, log *bytes.Buffer, want string) {
	t.Helper()
	_, got, _ := strings.Cut(log.String(), " ")
	log.Reset()
	if got != want+"\n" {
		t.Errorf("logged %q, want the line %q", got, want)
	}
}

func TestRequest(t *testing.T) {
	connected := t.Context()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		ctx     context.Context
		request Request
		series  string
		line    string
	}{
		{connected, Request{200, "ok", 412 * time.Microsecond, "auth0|65a1f0", "1a2b3c4d5e6f"},
			`{status="200",reason="ok"}`,
			"level=INFO msg=getToken status=200 ms=0.412 sub=auth0|65a1f0 token=1a2b3c4d5e6f"},
		{connected, Request{200, "ok", 1234567, "", "1a2b3c4d5e6f"},
			`{status="200",reason="ok"}`,
			"level=INFO msg=getToken status=200 ms=1.235 token=1a2b3c4d5e6f"},
		{connected, Request{401, "expired", 100, "", ""},
			`{status="401",reason="expired"}`,
			"level=INFO msg=getToken status=401 ms=0 reason=expired"},
		{connected, Request{503, "no_keys", 10 * time.Second, "", ""},
			`{status="503",reason="no_keys"}`,
			"level=WARN msg=getToken status=503 ms=10000 reason=no_keys"},
		{gone, Request{504, "itwin_slow", 3 * time.Second, "auth0|65a1f0", ""},
			`{status="504",reason="itwin_slow"}`,
			"level=INFO msg=getToken status=504 ms=3000 reason=itwin_slow sub=auth0|65a1f0"},
		{connected, Request{418, "unforeseen", 100, "", ""},
			`{status="500",reason="other"}`,
			"level=INFO msg=getToken status=418 ms=0 reason=unforeseen"},
	} {
		var log bytes.Buffer
		o := newObserver(&log, slog.LevelInfo)
		o.Request(test.ctx, test.request)
		wantLog(t, &log, test.line)
		wantSeries(t, o, "requests_total"+test.series+" 1", "request_duration_seconds_count 1")
	}
}

// A request is counted though the level leaves out its line, or the disk is full.
func TestRequestsWithoutALine(t *testing.T) {
	_, full := io.Pipe()
	full.Close() // writing to it is an error from now on
	for level, lost := range map[slog.Level]int{slog.LevelInfo: 1, slog.LevelError: 0} {
		o := newObserver(full, level)
		o.Request(t.Context(), Request{Status: 200, Reason: "ok"})
		wantSeries(t, o, `requests_total{status="200",reason="ok"} 1`,
			fmt.Sprint("log_lines_lost_total ", lost))
	}
}

func TestFetches(t *testing.T) {
	failed := func(kind upstream.Kind) error { return &upstream.Error{Kind: kind, Text: "ims.test"} }
	const warning = `level=WARN msg="cannot fetch iTwin token" error=`
	var log bytes.Buffer
	o := newObserver(&log, slog.LevelDebug)
	for _, step := range []struct {
		err  error
		line string
	}{
		{failed(upstream.Refused), warning + "ims.test ms=250"},
		{nil, `level=INFO msg="got iTwin token" ms=250`},
		{nil, `level=DEBUG msg="renewed iTwin token" ms=250`},
		{failed(upstream.Throttled), warning + "ims.test ms=250"},
		{failed(upstream.Nonsense), warning + "ims.test ms=250"},
		{failed(upstream.Slow), warning + "ims.test ms=250"},
		{failed("unforeseen"), warning + "ims.test ms=250"},
		{fmt.Errorf("%w", failed(upstream.Unreachable)), warning + "ims.test ms=250"},
		{errors.New("secret.txt: no such file"), warning + `"secret.txt: no such file" ms=250`},
		{nil, `level=INFO msg="got iTwin token" ms=250`}, // the end of an outage
	} {
		o.Grant(250*time.Millisecond, step.err)
		wantLog(t, &log, step.line)
	}
	o.KeyFetch(time.Second, nil)
	wantLog(t, &log, `level=INFO msg="got Auth0 keys" ms=1000`)

	for _, result := range []string{
		"refused", "throttled", "nonsense", "slow", "unreachable", "secret", "other",
	} {
		wantSeries(t, o, fmt.Sprintf("grants_total{result=%q} 1", result))
	}
	wantSeries(t, o, `grants_total{result="ok"} 3`, `key_fetches_total{result="ok"} 1`,
		`grant_duration_seconds_bucket{le="0.1"} 0`, `grant_duration_seconds_bucket{le="0.25"} 10`,
		"grant_duration_seconds_sum 2.5", "key_fetch_duration_seconds_sum 1")
}

// What a caller may send in the hope that the log repeats it.
func TestSubject(t *testing.T) {
	for _, test := range []struct{ name, sub, want string }{
		{"nothing odd", "auth0|65a1f0", "auth0|65a1f0"},
		{"nothing", "", ""},
		{"a line of its own", "x\nlevel=INFO msg=getToken", `"x\nlevel=INFO msg=getToken"`},
		{"escape: clear the screen", "\x1b[2J\x1b[H", `"\x1b[2J\x1b[H"`},
		{"C1: the escape in one character", "\u009b2J", `"\u009b2J"`},
		{"C1, as a raw byte", "\x9b2J", `"\x9b2J"`},
		{"line separator", "x\u2028y\u2029", `"x\u2028y\u2029"`},
		{"right to left", "x\u202egnp.exe", `"x\u202egnp.exe"`},
		{"not UTF-8", "\xff\xfe\xc3(", `"\xff\xfe\xc3("`},
		{"quotes", `x" status="200`, `x" status="200`},
		{"10 KB", strings.Repeat("x", 10_000), strings.Repeat("x", 128)},
		{"10 KB of escapes", strings.Repeat("\x1b", 10_000), `"` + strings.Repeat(`\x1b`, 128) + `"`},
		{"cut in a letter", strings.Repeat("x", 127) + "é", `"` + strings.Repeat("x", 127) + `\xc3"`},
		// The hashes are sha256sum's.
		{"an e-mail address", "email|jane.doe@example.com", "sha256:f6df4825ac2d"},
		{"an @ and escapes", "\x1b[31m@\n", "sha256:71a0b4ccbd68"},
		{"a long address", strings.Repeat("x", 200) + "@example.com", "sha256:33de22a47665"},
	} {
		if got := Subject(test.sub); got != test.want {
			t.Errorf("%s: Subject = %s, want %s", test.name, got, test.want)
		}
		for _, format := range []string{"text", "json"} {
			var b bytes.Buffer
			NewLog(&b, format, slog.LevelInfo).Info("getToken", "sub", Subject(test.sub))
			line, ended := strings.CutSuffix(b.String(), "\n")
			if !ended || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("%s: %s: %q, want one line of printable ASCII", test.name, format, line)
			}
		}
	}
}

func TestNewLog(t *testing.T) {
	for format, want := range map[string]string{
		"text": "level=DEBUG msg=this sub=x\n",
		"json": `"level":"DEBUG","msg":"this","sub":"x"}` + "\n",
	} {
		var b bytes.Buffer
		level := new(slog.LevelVar)
		log := NewLog(&b, format, level)
		log.Debug("not this")
		level.Set(slog.LevelDebug)
		log.Debug("this", "sub", "x")
		if got := b.String(); !strings.HasSuffix(got, want) || strings.Contains(got, "not this") {
			t.Errorf("%s: got %q, want one line that ends with %q", format, got, want)
		}
	}
}
