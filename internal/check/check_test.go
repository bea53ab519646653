package check

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/dotenv"
	"itwin-token-server/internal/standin"
	"itwin-token-server/internal/upstream"
)

const api = "http://tokenserver.sample.bentley.com"

func expected(s *standin.Standin) Expected {
	return Expected{Issuer: s.Tenant.Issuer(), Audiences: []string{api, "an-app"}, Scopes: []string{"read"}, Organizations: []string{"org_1", "acme"}}
}

// Advice names what the token has, what the server accepts and where to change
// it, and shows nothing that could end a line or name a person.
func TestAdvice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the clock begins at 2000-01-01T00:00:00Z
		s := standin.ForTest(t)
		access := func(change standin.Claims) string { return s.Tenant.AccessToken(api, change) }
		for _, tt := range []struct {
			name   string
			advice Advice
			token  string
			want   []string
		}{
			{"opaque", Opaque, s.Tenant.OpaqueToken(), []string{"the audience " + api + " or an-app", "Applications, APIs"}},
			{"another tenant", Issuer, access(standin.Claims{"iss": "https://other.us.auth0.com/"}), []string{"ITM_TOKEN_SERVER_AUTH0_DOMAIN to other.us.auth0.com", s.Tenant.Issuer()}},
			{"another issuer", Issuer, access(standin.Claims{"iss": "urn:x\x1b[2J"}), []string{`"urn:x\x1b[2J"`, s.Tenant.Issuer()}},
			{"no issuer", Issuer, access(standin.Claims{"iss": nil}), []string{"issuer is missing"}},
			{"an ID token", Audience, s.Tenant.IDToken("other-app"), []string{"ID token for the application other-app", "add other-app to ITM_TOKEN_SERVER_AUTH0_AUDIENCE"}},
			{"another API", Audience, access(standin.Claims{"aud": "https://x.example"}), []string{"access token for the API https://x.example", "request the audience " + api}},
			{"another API, at+jwt", Audience, s.Tenant.ATJWT("https://x.example"), []string{"access token for the API https://x.example,"}},
			{"userinfo is left out", Audience, access(standin.Claims{"aud": []string{"https://x.example", s.Tenant.Issuer() + "userinfo"}}), []string{"for the API https://x.example,"}},
			{"its ID token would be accepted", Audience, access(standin.Claims{"aud": "https://x.example", "azp": "an-app"}), []string{"send its ID token instead"}},
			{"no audience", Audience, access(standin.Claims{"aud": nil}), []string{"no audience"}},
			{"expired", Expired, access(standin.Claims{"exp": 946677600}), []string{"1999-12-31T22:00:00Z", "2000-01-01T00:00:00Z"}},
			{"expired at an impossible time", Expired, access(standin.Claims{"exp": -1}), []string{"an impossible time"}},
			{"not yet valid", NotYet, access(standin.Claims{"nbf": 946688400}), []string{"2000-01-01T01:00:00Z", "set the clock"}},
			{"issued later", NotYet, access(standin.Claims{"iat": 946688400}), []string{"2000-01-01T01:00:00Z"}},
			{"unknown key", UnknownKey, s.Tenant.Sign(standin.Claims{"kid": "k\n1"}, nil), []string{`no key "k\n1"`}},
			{"scope", Scope, access(standin.Claims{"scope": "openid", "permissions": []string{"write"}}), []string{`"openid write"`, `requires "read"`, "ITM_TOKEN_SERVER_AUTH0_REQUIRED_SCOPE"}},
			{"no scope", Scope, access(standin.Claims{"scope": nil}), []string{"scope is missing"}},
			{"organization", Organization, access(standin.Organization("org_2", "other")), []string{`"org_2"`, `"other"`, "org_1 or acme", "ITM_TOKEN_SERVER_AUTH0_ORGANIZATION"}},
			{"no organization", Organization, access(nil), []string{"org_id is missing"}},
			{"algorithm", Algorithm, s.Tenant.Sign(standin.Claims{"alg": "HS256"}, nil), []string{`"HS256"`, "RS256"}},
			{"no token", Client, "undefined", []string{"in the app"}},
			{"anything else", Damaged, "a.b.c", []string{"copy the token"}},
		} {
			got := tt.advice(parse(tt.token), expected(s))
			for _, want := range tt.want {
				if !strings.Contains(got, want) {
					t.Errorf("%s: %q lacks %q", tt.name, got, want)
				}
			}
			if strings.ContainsAny(got, "\n\x1b") || strings.Contains(got, "Jane") {
				t.Errorf("%s: %q shows what it must not", tt.name, got)
			}
		}
	})
}

func TestRun(t *testing.T) {
	noDNS := &upstream.Error{Kind: upstream.Unreachable, Text: "x: no such host"}
	refused := &upstream.Error{Kind: upstream.Refused, Text: "ims: status 503"}
	bad := func(err error) func(*Input) { return func(in *Input) { in.Errors = err } }
	for _, tt := range []struct {
		name   string
		change func(*Input)
		token  string
		ok     bool
		want   []string
	}{
		{"everything ok", nil, "", true, []string{"ok settings", "ok Auth0's keys 2", "ok a grant at IMS an iTwin token that lives 1h0m0s", "-- a user token"}},
		{"two settings errors", bad(errors.Join(errors.New("A: want x"), errors.New("B: want y"))), "t", false, []string{"no settings A: want x", "no settings B: want y", "-- Auth0 and IMS not asked"}},
		{"a warning", func(in *Input) { in.Warnings = []string{"careful"} }, "", true, []string{"ok settings", "!! settings careful"}},
		{"no keys", func(in *Input) { in.Keys = func(context.Context) (int, error) { return 0, refused } }, "a.b.c", false, []string{"no Auth0's keys ims: status 503.", "ITM_TOKEN_SERVER_AUTH0_DOMAIN", "-- a user token not checked"}},
		{"IMS unreachable", func(in *Input) { in.Grant = func(context.Context) (time.Duration, error) { return 0, noDNS } }, "", false, []string{"no a grant at IMS", "ITM_TOKEN_SERVER_AUTHORITY", "-- a user token"}},
		{"IMS refuses", func(in *Input) { in.Grant = func(context.Context) (time.Duration, error) { return 0, refused } }, "", false, []string{"no a grant at IMS ims: status 503. --"}},
		{"no network", func(in *Input) {
			in.Keys = func(context.Context) (int, error) { return 0, noDNS }
			in.Grant = func(context.Context) (time.Duration, error) { return 0, noDNS }
		}, "", false, []string{"!! network neither host"}},
		{"a good token", nil, "good", true, []string{"ok a user token would be accepted"}},
		{"a refused token", nil, "bad", false, []string{"no a user token would be refused: wrong. It is not what Auth0 issued"}},
		{"a truncated token", nil, "eyJhbGciOiJSUzI1NiJ9.eyJ", false, []string{"the token is not whole"}},
		{"not the token's fault", nil, "outage", false, []string{"no a user token outage. "}},
	} {
		in := Input{
			Settings: []dotenv.Setting{{Name: "NAME", Shown: `"value"`, Source: ".env"}, {Name: "OTHER", Shown: "not set"}},
			Keys:     func(context.Context) (int, error) { return 2, nil },
			Grant:    func(context.Context) (time.Duration, error) { return time.Hour, nil },
			Verify: func(_ context.Context, token string) (Advice, error) {
				switch token {
				case "good":
					return nil, nil
				case "outage":
					return nil, errors.New("outage")
				}
				return Damaged, errors.New("wrong")
			},
		}
		if tt.change != nil {
			tt.change(&in)
		}
		var report strings.Builder
		ok := Run(t.Context(), &report, in, tt.token)
		text := strings.Join(strings.Fields(report.String()), " ") + " "
		if ok != tt.ok || !strings.HasPrefix(text, `NAME "value" (.env) OTHER not set `) {
			t.Errorf("%s: Run = %v, want %v:\n%s", tt.name, ok, tt.ok, &report)
		}
		for _, want := range tt.want {
			if !strings.Contains(text, want) {
				t.Errorf("%s: the report lacks %q:\n%s", tt.name, want, &report)
			}
		}
	}
}

func TestUserToken(t *testing.T) {
	for _, tt := range []struct{ argument, stdin, want string }{
		{"a.b.c", "", "a.b.c"}, {"Bearer a.b.c", "", "a.b.c"}, {"Authorization: Bearer a.b.c", "", "a.b.c"}, {`'"a.b.c"'`, "", "a.b.c"},
		{"-", "\r\n a.b.c\n", "a.b.c"}, {"-", "", ""}, {"", "", ""}, {"Bearer ", "", ""}, {"TOKEN", "", ""}, {"Bearer Bearer x", "", "Bearer x"},
	} {
		got, err := UserToken([]string{tt.argument}, strings.NewReader(tt.stdin))
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("UserToken(%q, %q) = %q, %v, want %q", tt.argument, tt.stdin, got, err, tt.want)
		}
	}
	if got, err := UserToken(nil, nil); got != "" || err != nil {
		t.Errorf("UserToken() = %q, %v, want no token", got, err)
	}
}
