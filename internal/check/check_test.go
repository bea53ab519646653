package check

import (
	"context"
	"io"
	"os"
	"strings"
	"testing"

	"itwin-token-server/internal/problem"
)

// What was given is sent as the header of an app that has it, and without what is around it.
func TestForms(t *testing.T) {
	for _, tt := range []struct{ given, header, bare string }{
		{"a.b.c", "Bearer a.b.c", "a.b.c"},
		{"BEARER  a.b.c", "BEARER  a.b.c", "a.b.c"},
		{"authorization:Bearer a.b.c", "Bearer a.b.c", "a.b.c"},
		{`'"Bearer a.b.c"'`, `Bearer '"Bearer a.b.c"'`, "a.b.c"},
		{"“a.b.c”", "Bearer “a.b.c”", "a.b.c"},
		{"Bearer Bearer x", "Bearer Bearer x", "x"},
		{"DPoP a.b.c", "DPoP a.b.c", "a.b.c"},
		{"a.b c.d", "Bearer a.b c.d", "a.b c.d"},
		{"[object Object]", "Bearer [object Object]", "[object Object]"},
	} {
		if got := header(tt.given); got != tt.header {
			t.Errorf("header(%s) = %q, want %q", tt.given, got, tt.header)
		}
		if got := bare(tt.given); got != tt.bare {
			t.Errorf("bare(%s) = %q, want %q", tt.given, got, tt.bare)
		}
	}
}

func TestReadToken(t *testing.T) {
	for _, tt := range []struct{ argument, stdin, want string }{
		{argument: " a.b.c ", want: "a.b.c"},
		{argument: "-", stdin: "\r\n Bearer a.b\n.c\r\n", want: "Bearer a.b .c"},
		{argument: "-", stdin: "undefined\n", want: "undefined"},
		{argument: "-"},
		{argument: ""},
		{argument: `""`},
	} {
		stdin := strings.NewReader(tt.stdin)
		got, err := ReadToken(t.Context(), []string{tt.argument}, stdin, io.Discard)
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
	ReadToken(t.Context(), []string{"-"}, device, &prompt)
	if !strings.Contains(prompt.String(), "press Enter") {
		t.Errorf("the prompt is %q", &prompt)
	}
	stdin, user := io.Pipe()
	go io.WriteString(user, "a.b.c\n") // and nothing more
	if got := readLine(stdin); got != "a.b.c\n" {
		t.Errorf("read %q, want the line", got)
	}
}

func TestInterruptedFindingsAreNotWritten(t *testing.T) {
	var text strings.Builder
	report := Report{W: &text}
	report.Keys(context.Canceled)
	report.Grant(0, context.Canceled)
	report.Token("a.b.c", func(string) *problem.Problem { return problem.Canceled })
	if text.Len() > 0 || report.Failed {
		t.Errorf("the report has findings:\n%s", &text)
	}
}

func TestShown(t *testing.T) {
	for _, tt := range []struct {
		claim any
		want  string
	}{
		{nil, "missing"},
		{[]any{}, "missing"},
		{[]any{"a", "b"}, `"a b"`},
		{"\x1b\u202e", `"\x1b\u202e"`},
		{strings.Repeat("a b ", 50), `"` + strings.Repeat("a b ", 32) + `"`},
		{strings.Repeat("a", 41), "41 characters, not shown"},
		{"jane@x", "6 characters, not shown"},
	} {
		if got := shown(tt.claim); got != tt.want {
			t.Errorf("shown(%v) = %s, want %s", tt.claim, got, tt.want)
		}
	}
}
