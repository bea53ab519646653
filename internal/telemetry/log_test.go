package telemetry

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

// hostile is what a caller may send in the hope that the log repeats it.
var hostile = []struct{ name, text, printable string }{
	{"nothing odd", "auth0|65a1f0", "auth0|65a1f0"},
	{"nothing", "", ""},
	{"a line of its own", "x\nlevel=INFO msg=getToken status=200", `"x\nlevel=INFO msg=getToken status=200"`},
	{"carriage return", "x\ry", `"x\ry"`},
	{"NUL", "x\x00y", `"x\x00y"`},
	{"escape: clear the screen", "\x1b[2J\x1b[H", `"\x1b[2J\x1b[H"`},
	{"C1: the escape in one character", "\u009b2J", `"\u009b2J"`},
	{"C1, as a raw byte", "\x9b2J", `"\x9b2J"`},
	{"DEL", "x\x7f", `"x\x7f"`},
	{"line separator", "x\u2028y\u2029", `"x\u2028y\u2029"`},
	{"right to left", "x\u202egnp.exe", `"x\u202egnp.exe"`},
	{"a letter that looks like another", "аdmin", `"\u0430dmin"`},
	{"not UTF-8", "\xff\xfe\xc3(", `"\xff\xfe\xc3("`},
	{"quotes", `x" status="200`, `x" status="200`},
	{"10 KB", strings.Repeat("x", 10_000), strings.Repeat("x", 128)},
	{"10 KB of escapes", strings.Repeat("\x1b", 10_000), `"` + strings.Repeat(`\x1b`, 128) + `"`},
	{"a letter cut in two", strings.Repeat("x", 127) + "é", `"` + strings.Repeat("x", 127) + `\xc3"`},
}

func TestSubjectIsPrintable(t *testing.T) {
	for _, test := range hostile {
		if got := Subject(test.text); got != test.printable {
			t.Errorf("%s: Subject = %s, want %s", test.name, got, test.printable)
		}
	}
}

func TestSubjectHashesAnEMailAddress(t *testing.T) {
	for sub, want := range map[string]string{ // the hashes by sha256sum
		"email|jane.doe@example.com":              "sha256:f6df4825ac2d",
		"\x1b[31m@\n":                             "sha256:71a0b4ccbd68",
		strings.Repeat("x", 200) + "@example.com": "sha256:33de22a47665",
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
			NewLog(&b, format, slog.LevelInfo).Info("getToken", "sub", Subject(test.text))
			line, ended := strings.CutSuffix(b.String(), "\n")
			if !ended || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("%s, %s: got %q, want one line of printable ASCII", format, test.name, line)
			}
			if len(line) > 1500 { // 128 bytes, each at most 4 letters long, escaped once more
				t.Errorf("%s, %s: a line of %d bytes", format, test.name, len(line))
			}
		}
	}
}

func TestNewLog(t *testing.T) {
	level := new(slog.LevelVar)
	for format, want := range map[string]string{
		"text": `level=DEBUG msg=this sub="\"x\\n\""`,
		"json": `"level":"DEBUG","msg":"this","sub":"\"x\\n\""}`,
	} {
		var b bytes.Buffer
		log := NewLog(&b, format, level)
		level.Set(slog.LevelInfo)
		log.Debug("not this")
		level.Set(slog.LevelDebug)
		log.Debug("this", "sub", Subject("x\n"))
		if got := b.String(); strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, want+"\n") {
			t.Errorf("%s: got %q, want one line that ends with %q", format, got, want)
		}
	}
}
