package telemetry

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"
)

// hostile is what a caller may send in the hope that the log repeats it.
var hostile = []struct{ name, text, printable string }{
	{"nothing odd", "auth0|65a1f0", "auth0|65a1f0"},
	{"nothing", "", ""},
	{"a line of its own", "x\nlevel=INFO msg=getToken status=200", `"x\nlevel=INFO msg=getToken status=200"`},
	{"carriage return", "x\ry", `"x\ry"`},
	{"both", "x\r\n\r\ny", `"x\r\n\r\ny"`},
	{"NUL", "x\x00y", `"x\x00y"`},
	{"escape: clear the screen", "\x1b[2J\x1b[H", `"\x1b[2J\x1b[H"`},
	{"escape: the window's title", "\x1b]0;x\x07", `"\x1b]0;x\a"`},
	{"C1: the escape in one character", "\u009b2J", `"\u009b2J"`},
	{"C1, as a raw byte", "\x9b2J", `"\x9b2J"`},
	{"C1: next line", "x\u0085y", `"x\u0085y"`},
	{"backspaces", "\b\b\bx", `"\b\b\bx"`},
	{"DEL", "x\x7f", `"x\x7f"`},
	{"line separator", "x\u2028y\u2029", `"x\u2028y\u2029"`},
	{"right to left", "x\u202egnp.exe", `"x\u202egnp.exe"`},
	{"isolates", "\u2066x\u2069", `"\u2066x\u2069"`},
	{"a letter that looks like another", "аdmin", `"\u0430dmin"`},
	{"byte order mark", "\ufeffx", `"\ufeffx"`},
	{"not UTF-8", "\xff\xfe\xc3(", `"\xff\xfe\xc3("`},
	{"beyond 16 bits", "\U0001f600", `"\U0001f600"`},
	{"quotes", `x" status="200`, `x" status="200`},
	{"a backslash", `x\ny`, `x\ny`},
	{"braces", `{"level":"ERROR"}`, `{"level":"ERROR"}`},
	{"10 KB", strings.Repeat("x", 10_000), strings.Repeat("x", 128)},
	{"10 KB of escapes", strings.Repeat("\x1b", 10_000), `"` + strings.Repeat(`\x1b`, 128) + `"`},
	{"a letter cut in two", strings.Repeat("x", 127) + "é", `"` + strings.Repeat("x", 127) + `\xc3"`},
}

func TestPrintable(t *testing.T) {
	for _, test := range hostile {
		if got := Printable(test.text); got != test.printable {
			t.Errorf("%s: Printable = %s, want %s", test.name, got, test.printable)
		}
	}
}

func TestSubject(t *testing.T) {
	for _, test := range hostile {
		if got := Subject(test.text); got != test.printable {
			t.Errorf("%s: Subject = %s, want %s", test.name, got, test.printable)
		}
	}
	for sub, want := range map[string]string{ // the hashes by sha256sum
		"email|jane.doe@example.com": "sha256:f6df4825ac2d",
		"@":                          "sha256:c3641f8544d7",
		strings.Repeat("x", 200) + "@example.com": "sha256:33de22a47665",
		"\x1b[31m@\n": "sha256:71a0b4ccbd68",
	} {
		if got := Subject(sub); got != want {
			t.Errorf("Subject(%.40q) = %q, want %q", sub, got, want)
		}
	}
}

// A caller's text makes no line of its own and nothing that a terminal obeys.
func TestOneLineOfPrintableASCII(t *testing.T) {
	for _, format := range []string{"text", "json"} {
		for _, test := range hostile {
			var b bytes.Buffer
			NewLog(&b, format, slog.LevelInfo).Info("getToken", "path", Printable(test.text), "sub", Subject(test.text))
			line := b.String()
			if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
				t.Errorf("%s, %s: got %q, want one line", format, test.name, line)
			}
			outside := func(r rune) bool { return r < ' ' || r > '~' || r == utf8.RuneError }
			if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), outside) {
				t.Errorf("%s, %s: got %q, want printable ASCII", format, test.name, line)
			}
			if len(line) > 3000 { // 2 values of 128 bytes, each at most 4 letters long, escaped once more
				t.Errorf("%s, %s: a line of %d bytes", format, test.name, len(line))
			}
		}
	}
}

func TestNew(t *testing.T) {
	var b bytes.Buffer
	log := NewLog(&b, "json", slog.LevelWarn)
	log.Info("not this")
	log.Warn("this", "sub", Printable("x\u009b\n"), "n", 7)
	var line struct {
		Level, Msg, Sub string
		N               int
	}
	if err := json.Unmarshal(b.Bytes(), &line); err != nil {
		t.Fatalf("%q: %v", b.String(), err)
	}
	if line.Level != "WARN" || line.Msg != "this" || line.Sub != `"x\u009b\n"` || line.N != 7 {
		t.Errorf("got %+v", line)
	}

	b.Reset()
	level := new(slog.LevelVar)
	log = NewLog(&b, "text", level)
	log.Debug("not this")
	level.Set(slog.LevelDebug)
	log.Debug("this", "sub", Printable("x y\n"))
	if _, got, _ := strings.Cut(b.String(), " "); got != `level=DEBUG msg=this sub="\"x y\\n\""`+"\n" {
		t.Errorf("got %q", got)
	}
}
