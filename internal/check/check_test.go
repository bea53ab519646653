package check

import (
	"strings"
	"testing"
)

func TestUserToken(t *testing.T) {
	for _, tt := range []struct{ argument, stdin, want string }{
		{"a.b.c", "", "a.b.c"}, {"BEARER  a.b.c ", "", "a.b.c"}, {"Authorization: Bearer a.b.c", "", "a.b.c"}, {`'"Bearer a.b.c"'`, "", "a.b.c"},
		{"-", "\r\n  Bearer a.b.c\r\n", "a.b.c"}, {"-", "\"a.b.c\"\n", "a.b.c"}, {"Bearer Bearer x", "", "Bearer x"},
		{"-", "", ""}, {"", "", ""}, {"Bearer ", "", ""}, {"TOKEN", "", ""},
	} {
		got, err := UserToken([]string{tt.argument}, strings.NewReader(tt.stdin))
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("UserToken(%q, %q) = %q, %v, want %q", tt.argument, tt.stdin, got, err, tt.want)
		}
	}
}
