package main

import (
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/standin"
	"itwin-token-server/internal/upstream"
)

// A checkCase is one run of check: what is wrong, and what the report says.
type checkCase struct {
	name    string
	spoil   func(*standin.Standin)
	environ []string                               // added to complete settings
	token   func(*standin.Standin) string          // nil: none is given
	typed   func(token string) (arg, stdin string) // nil: the token is the argument
	want    []string                               // in the report; lines that begin with "no" are all that may fail
}

// runCheckCase runs check and verifies what holds for every report.
func runCheckCase(t *testing.T, s *standin.Standin, transport http.RoundTripper, c checkCase) string {
	t.Helper()
	p := program{args: []string{"check"}, environ: settingsOf(s, c.environ...), dir: t.TempDir(), transport: transport}
	token := ""
	if c.token != nil {
		token = c.token(s)
		argument, stdin := token, ""
		if c.typed != nil {
			argument, stdin = c.typed(token)
		}
		p.args, p.stdin = append(p.args, argument), strings.NewReader(stdin)
	}
	report, stderr, err := runOnce(p)
	fails := false
	for _, want := range c.want {
		fails = fails || strings.HasPrefix(want, "no ")
		if !strings.Contains(strings.Join(strings.Fields(report), " "), want) {
			t.Errorf("%s: the report lacks %q:\n%s", c.name, want, report)
		}
	}
	if fails != errors.Is(err, errReported) || err != nil && !fails || stderr != "" {
		t.Errorf("%s: check ended with %v and logged %q; want a failure: %v\n%s", c.name, err, stderr, fails, report)
	}
	secrets := append([]string{strings.TrimSpace(awkward), standin.Canary, "hunter2", "Jane Doe", "jane.doe"}, s.IMS.Issued()...)
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 20 {
			secrets = append(secrets, part)
		}
	}
	for _, secret := range secrets {
		if strings.Contains(report, secret) {
			t.Errorf("%s: the report has %q:\n%s", c.name, secret, report)
		}
	}
	for line := range strings.Lines(report) {
		if len([]rune(line)) > 101 {
			t.Errorf("%s: wider than 100 columns: %s", c.name, line)
		}
	}
	return report
}

func runCheckCases(t *testing.T, cases []checkCase) {
	t.Helper()
	for _, c := range cases {
		synctest.Test(t, func(t *testing.T) {
			s := standin.ForTest(t)
			s.IMS.SetClient("service-x", awkward)
			if c.spoil != nil {
				c.spoil(s)
			}
			runCheckCase(t, s, s.Transport(), c)
		})
	}
}

func goodToken(s *standin.Standin) string { return s.Tenant.AccessToken(testAudience) }

func TestCheckReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := standin.ForTest(t)
		s.IMS.SetClient("service-x", awkward)
		golden(t, "check", steady(runCheckCase(t, s, s.Transport(), checkCase{
			name: "expired", token: func(s *standin.Standin) string {
				return s.Tenant.AccessToken(testAudience, standin.Claims{"exp": time.Now().Add(-2 * time.Hour).Unix()})
			},
			want: []string{"no a user token would be refused: expired."},
		})))
	})
}

func TestCheckSettings(t *testing.T) {
	runCheckCases(t, []checkCase{
		{name: "complete", want: []string{"ok settings complete", "ok Auth0's keys 2 for RS256", "ok a grant at IMS", "-- a user token none given"}},
		{name: "nothing set", environ: []string{prefix + "CLIENT_ID=", prefix + "CLIENT_SECRET=", prefix + "AUTH0_DOMAIN="},
			want: []string{"no settings ITM_TOKEN_SERVER_CLIENT_ID:", "no settings ITM_TOKEN_SERVER_CLIENT_SECRET:", "no settings ITM_TOKEN_SERVER_AUTH0_DOMAIN:", "-- Auth0 and IMS not asked"}},
		{name: "no audience", environ: []string{prefix + "AUTH0_AUDIENCE="}, want: []string{"!! settings ITM_TOKEN_SERVER_AUTH0_AUDIENCE is not set", "ok a grant at IMS"}},
		{name: "a password in a URL", environ: []string{prefix + "AUTHORITY=https://jane:hunter2@ims.bentley.com"}, want: []string{"no settings ITM_TOKEN_SERVER_AUTHORITY:"}},
		{name: "no secret file", environ: []string{prefix + "CLIENT_SECRET=", prefix + "CLIENT_SECRET_FILE=hunter2+/="}, want: []string{"no settings ITM_TOKEN_SERVER_CLIENT_SECRET_FILE:"}},
		{name: "PORT", environ: []string{prefix + "PORT=", "PORT=8080"}, want: []string{`ITM_TOKEN_SERVER_PORT "8080" (PORT in the environment)`}},
	})
}

func TestCheckAuth0(t *testing.T) {
	tenant := func(fault standin.Fault) func(*standin.Standin) {
		return func(s *standin.Standin) { s.Tenant.Misbehave(fault) }
	}
	domain := "The host is that of ITM_TOKEN_SERVER_AUTH0_DOMAIN"
	unknown := []string{prefix + "AUTH0_DOMAIN=tennant.auth0.test"}
	cases := []checkCase{
		{name: "hang", spoil: tenant(standin.Hang()), want: []string{"no Auth0's keys tenant.auth0.test: no answer within 10s", domain}},
		{name: "slow", spoil: tenant(standin.Delay(9 * time.Second)), want: []string{"ok Auth0's keys"}},
		{name: "refused", spoil: func(s *standin.Standin) { s.Tenant.Stop() }, token: goodToken,
			want: []string{"no Auth0's keys tenant.auth0.test: connection refused", domain, "-- a user token not checked"}},
		{name: "404", spoil: tenant(standin.Status(404)), want: []string{"no Auth0's keys tenant.auth0.test: status 404", domain}},
		{name: "throttled", spoil: tenant(standin.Throttle("12")), want: []string{"no Auth0's keys tenant.auth0.test:", "asked to wait 12 s"}},
		{name: "no such host", environ: unknown, want: []string{"no Auth0's keys tennant.auth0.test: no such host", domain, "ok a grant at IMS"}},
		{name: "no such host, and the token has the right one", environ: unknown, token: goodToken,
			want: []string{"no Auth0's keys", "no a user token would be refused: wrong issuer", "set ITM_TOKEN_SERVER_AUTH0_DOMAIN to tenant.auth0.test"}},
		{name: "no network", environ: append(unknown, prefix+"AUTHORITY=https://ims.bently.test"),
			want: []string{"no Auth0's keys", "no a grant at IMS", "!! network neither host can be reached: this machine's network may be down"}},
	}
	for _, nonsense := range standin.Nonsense() {
		cases = append(cases, checkCase{name: nonsense.Name, spoil: tenant(nonsense.Fault), want: []string{"no Auth0's keys tenant.auth0.test: ", domain, "ok a grant at IMS"}})
	}
	runCheckCases(t, cases)
}

func TestCheckIMS(t *testing.T) {
	ims := func(fault standin.Fault) func(*standin.Standin) {
		return func(s *standin.Standin) { s.IMS.Misbehave(fault) }
	}
	authority := "The host is that of ITM_TOKEN_SERVER_AUTHORITY"
	cases := []checkCase{
		{name: "wrong secret", environ: []string{prefix + "CLIENT_SECRET=hunter2"}, want: []string{"no a grant at IMS ims.bentley.test: invalid_client: check ITM_TOKEN_SERVER_CLIENT_ID"}},
		{name: "wrong scope", environ: []string{prefix + "SCOPE=itwinjs imodels:read"}, want: []string{"no a grant at IMS ims.bentley.test: invalid_scope: set ITM_TOKEN_SERVER_SCOPE"}},
		{name: "refused", spoil: func(s *standin.Standin) { s.IMS.Stop() }, want: []string{"no a grant at IMS ims.bentley.test: connection refused", authority}},
		{name: "hang", spoil: ims(standin.Hang()), want: []string{"no a grant at IMS ims.bentley.test: no answer within 10s", authority}},
		{name: "throttled", spoil: ims(standin.Throttle("12")), want: []string{"no a grant at IMS", "asked to wait 12 s"}},
		{name: "no such host", environ: []string{prefix + "AUTHORITY=https://ims.bently.test"}, want: []string{"no a grant at IMS ims.bently.test: no such host", authority}},
		{name: "no expires_in", spoil: func(s *standin.Standin) { s.IMS.SetExpiresIn(nil) }, want: []string{"ok a grant at IMS an iTwin token that lives 5m0s"}},
	}
	for _, nonsense := range standin.Nonsense() {
		cases = append(cases, checkCase{name: nonsense.Name, spoil: ims(nonsense.Fault), want: []string{"ok Auth0's keys", "no a grant at IMS ims.bentley.test: "}})
	}
	runCheckCases(t, cases)
}

// Each problem of a token has its advice; internal/check tests the advice itself.
func TestCheckTokens(t *testing.T) {
	changed := func(change standin.Claims) func(*standin.Standin) string {
		return func(s *standin.Standin) string { return s.Tenant.AccessToken(testAudience, change) }
	}
	headed := func(change standin.Claims) func(*standin.Standin) string {
		return func(s *standin.Standin) string { return s.Tenant.Sign(change, s.Tenant.Claims(testAudience)) }
	}
	fixed := func(text string) func(*standin.Standin) string {
		return func(*standin.Standin) string { return text }
	}
	refused := func(p problem, advice string) []string {
		return []string{"no a user token would be refused: " + p.text + ".", advice}
	}
	runCheckCases(t, []checkCase{
		{name: "accepted", token: goodToken, want: []string{"ok a user token would be accepted"}},
		{name: "opaque", token: func(s *standin.Standin) string { return s.Tenant.OpaqueToken() }, want: refused(errNotJWT, "request the audience "+testAudience)},
		{name: "another API", token: changed(standin.Claims{"aud": "https://other.example.com"}), want: refused(errAudience, "add https://other.example.com to ITM_TOKEN_SERVER_AUTH0_AUDIENCE")},
		{name: "another tenant", token: changed(standin.Claims{"iss": "https://other.us.auth0.com/"}), want: refused(errIssuer, "set ITM_TOKEN_SERVER_AUTH0_DOMAIN to other.us.auth0.com")},
		{name: "expired", token: changed(standin.Claims{"exp": 1}), want: refused(errExpired, "It expired at 1970-01-01T00:00:01Z")},
		{name: "not yet valid", token: changed(standin.Claims{"nbf": 4102444800}), want: refused(errNotYet, "It is valid from 2100-01-01T00:00:00Z")},
		{name: "scope", token: goodToken, environ: []string{prefix + "AUTH0_REQUIRED_SCOPE=read:itwin"}, want: refused(errScope, "ITM_TOKEN_SERVER_AUTH0_REQUIRED_SCOPE")},
		{name: "organization", token: changed(standin.Organization("org_2", "other")), environ: []string{prefix + "AUTH0_ORGANIZATION=org_1,acme"},
			want: refused(errOrganization, `Its org_id is "org_2" and its org_name is "other", but the server accepts org_1 or acme only (ITM_TOKEN_SERVER_AUTH0_ORGANIZATION)`)},
		{name: "unknown key", token: headed(standin.Claims{"kid": "stranger"}), want: refused(errUnknownKey, `no key "stranger"`)},
		{name: "HS256", token: headed(standin.Claims{"alg": "HS256"}), want: refused(errAlgorithm, `It is signed with "HS256"`)},
		{name: "no kid", token: headed(standin.Claims{"kid": nil}), want: refused(errNoKeyID, "copy the token whole")},
		{name: "truncated", token: func(s *standin.Standin) string { return goodToken(s)[:400] }, want: []string{"no a user token would be refused: the token is not whole."}},
		{name: "undefined", token: fixed("undefined"), want: refused(errNoUserToken, "The mistake is in the app")},
		{name: "[object Object]", token: fixed("[object Object]"), want: refused(errNoUserToken, "The mistake is in the app")},
		{name: "two schemes", token: func(s *standin.Standin) string { return "Bearer Bearer " + goodToken(s) }, want: refused(errTwoSchemes, "The mistake is in the app")},
	})
}

func TestCheckTakesATokenAsPeoplePasteIt(t *testing.T) {
	stdin := func(before, after string) func(string) (string, string) {
		return func(token string) (string, string) { return "-", before + token + after }
	}
	argument := func(before, after string) func(string) (string, string) {
		return func(token string) (string, string) { return before + token + after, "" }
	}
	var cases []checkCase
	for name, typed := range map[string]func(string) (string, string){
		"standard input":       stdin("", ""),
		"with a newline":       stdin("", "\n"),
		"from Windows":         stdin("\r\n  Bearer ", "\r\n"),
		"in quotes":            stdin(`"`, `"`+"\n"),
		"with the scheme":      argument("BEARER  ", " "),
		"the scheme in quotes": argument(`"Bearer `, `"`),
		"the whole header":     argument("Authorization: Bearer ", ""),
		"in single quotes":     argument("'", "'"),
	} {
		cases = append(cases, checkCase{name: name, token: goodToken, typed: typed, want: []string{"ok a user token would be accepted"}})
	}
	runCheckCases(t, cases)
	for _, args := range [][]string{{"check", ""}, {"check", "-"}, {"check", "Bearer "}, {"check", "TOKEN"}} {
		report, _, err := runOnce(program{args: args, dir: t.TempDir()})
		if err == nil || !strings.HasPrefix(err.Error(), "check: ") || report != "" {
			t.Errorf("%q: %q, %v; want an error and no report", args, report, err)
		}
	}
}

// Over sockets, since the in-process transport has no TLS.
func TestCheckUnknownAuthority(t *testing.T) {
	s := standin.StartForTest(t)
	s.IMS.SetClient("service-x", awkward)
	runCheckCase(t, s, upstream.Transport(x509.NewCertPool()), checkCase{name: "unknown", want: []string{"no Auth0's keys", "set SSL_CERT_FILE", "no a grant at IMS"}})
	runCheckCase(t, s, upstream.Transport(s.Pool()), checkCase{name: "known", token: goodToken, want: []string{"ok a user token would be accepted"}})
}
