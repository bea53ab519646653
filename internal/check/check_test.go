package check

import (
	"errors"
	"strings"
	"testing"
	"time"

	"itwin-token-server/internal/dotenv"
	"itwin-token-server/internal/problem"
	"itwin-token-server/internal/upstream"
)

func TestReport(t *testing.T) {
	unreachable := &upstream.Error{Kind: upstream.Unreachable, Text: "x: no such host"}
	refused := &upstream.Error{Kind: upstream.Refused, Text: "x: status 503"}
	for _, tt := range []struct {
		name                  string
		settings, keys, grant error
		refused               *problem.Problem
		token                 string
		want                  []string // lines that begin with "no" are all that may fail
	}{
		{name: "all ok", token: "a.b.c", want: []string{"ok settings", "!! settings careful", "ok Auth0's keys", "ok a grant at IMS an iTwin token valid for 1h0m0s", "ok a user token"}},
		{name: "no token", want: []string{"-- a user token none given"}},
		{name: "settings", settings: errors.New("A: want x\nB: want y"), token: "a.b.c", want: []string{"no settings A: want x B: want y", "-- Auth0 and IMS not checked"}},
		{name: "no keys", keys: refused, refused: problem.NoKeys, token: "a.b.c", want: []string{"no Auth0's keys x: status 503.", "ITM_TOKEN_SERVER_AUTH0_DOMAIN", "no a user token not checked: Auth0"}},
		{name: "IMS unreachable", grant: unreachable, want: []string{"no a grant at IMS x: no such host.", "ITM_TOKEN_SERVER_AUTHORITY"}},
		{name: "IMS refuses", grant: refused, want: []string{"no a grant at IMS x: status 503. --"}},
		{name: "no network", keys: unreachable, grant: unreachable, want: []string{"no Auth0's keys", "!! network neither answered"}},
		{name: "refused", refused: problem.Expired, token: "a.b.c", want: []string{"no a user token would be refused: expired. It expired at"}},
		{name: "truncated", refused: problem.Malformed, token: "eyJhbGciOiJSUzI1NiJ9.eyJ", want: []string{"no a user token would be refused: the token is not a well-formed JWT. It is not what Auth0 issued"}},
	} {
		var report strings.Builder
		found := &dotenv.Findings{Settings: []dotenv.Setting{{Name: "NAME", Shown: `"value"`, Source: ".env"}, {Name: "OTHER", Shown: "not set"}}, Warnings: []string{"careful"}}
		r := Report{W: &report}
		if r.Settings(found, tt.settings); tt.settings == nil {
			r.Keys("https://tenant.test/", tt.keys)
			r.Grant(time.Hour, tt.grant)
			r.Token(tt.token, tt.refused)
		}
		text, fails := strings.Join(strings.Fields(report.String()), " "), false
		for _, want := range append(tt.want, `NAME "value" (.env) OTHER not set`) {
			fails = fails || strings.HasPrefix(want, "no ")
			if !strings.Contains(text, want) {
				t.Errorf("%s: the report lacks %q:\n%s", tt.name, want, &report)
			}
		}
		if r.Failed != fails {
			t.Errorf("%s: failed %v, want %v:\n%s", tt.name, r.Failed, fails, &report)
		}
	}
}

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
