package check

import (
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/upstream"
)

func TestReadToken(t *testing.T) {
	for _, tt := range []struct{ argument, stdin, want string }{
		{argument: " a.b.c\n", want: "a.b.c"},
		{argument: "-", stdin: "\t Bearer a.b.c\r\nx", want: "Bearer a.b.c"},
		{argument: "-", stdin: "undefined", want: "undefined"},
		{argument: "-"},
		{argument: " ''"},
	} {
		stdin := strings.NewReader(tt.stdin)
		got, err := ReadToken([]string{tt.argument}, stdin, io.Discard)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("ReadToken(%q, %q) = %q, %v, want %q", tt.argument, tt.stdin, got, err, tt.want)
		}
	}
}

// A user at a terminal is asked, and presses Enter, not Ctrl-D.
func TestReadTokenAtATerminal(t *testing.T) {
	device, err := os.Open(os.DevNull) // a character device, as a terminal is
	if err != nil {
		t.Fatal(err)
	}
	defer device.Close()
	var prompt strings.Builder
	ReadToken([]string{"-"}, device, &prompt)
	if !strings.Contains(prompt.String(), "press Enter") {
		t.Errorf("the prompt is %q", &prompt)
	}
	synctest.Test(t, func(t *testing.T) { // fails at once if this waits for more than a line
		stdin, user := io.Pipe()
		go io.WriteString(user, "a.b.c\n")
		if got, err := ReadToken([]string{"-"}, stdin, io.Discard); got != "a.b.c" {
			t.Errorf("read %q, %v, want the line", got, err)
		}
	})
}

// If IMS was not reached, or another server answered, AUTHORITY may be wrong. An answer of
// IMS's own is not about that.
func TestAdviceAboutAuthority(t *testing.T) {
	for kind, want := range map[upstream.Kind]bool{
		upstream.Unreachable: true, upstream.Slow: true, upstream.Nonsense: true,
		upstream.Refused: false, upstream.Throttled: false,
	} {
		var text strings.Builder
		report := Report{W: &text}
		report.Grant(time.Hour, &upstream.Error{Kind: kind, Text: "x"})
		if got := strings.Contains(text.String(), "AUTHORITY"); got != want || !report.Failed {
			t.Errorf("%s: advice about AUTHORITY is %v, want %v:\n%s", kind, got, want, &text)
		}
	}
}
