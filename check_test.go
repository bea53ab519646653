package main

import (
	"crypto/x509"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"itwin-token-server/internal/problem"
	"itwin-token-server/internal/standin/standintest"
	"itwin-token-server/internal/upstream"
)

// A checkCase is one run of check: what is wrong, and what the report says.
type checkCase struct {
	name    string
	spoil   func(*standintest.Standin)
	environ []string                          // added to complete settings
	token   func(*standintest.Standin) string // nil: none is given
	want    []string                          // in the report; lines that begin with "no" are all that may fail
	golden  bool                              // the whole report is in testdata
}

// runCheckCase runs check and verifies what holds for every report.
func runCheckCase(t *testing.T, s *standintest.Standin, transport http.RoundTripper, c checkCase) {
	t.Helper()
	p := program{args: []string{"check"}, environ: settingsOf(s, c.environ...), dir: t.TempDir(), transport: transport}
	secrets := []string{strings.TrimSpace(awkward), standintest.Canary, "hunter2", "Jane", "jane.doe", "\x1b"}
	if c.token != nil {
		p.args = append(p.args, c.token(s))
		for part := range strings.SplitSeq(p.args[1], ".") {
			if len(part) > 20 {
				secrets = append(secrets, part)
			}
		}
	}
	report, stderr, err := runOnce(p)
	text, fails := strings.Join(strings.Fields(report), " ")+"\n", false
	for _, want := range c.want {
		fails = fails || strings.HasPrefix(want, "no ")
		if !strings.Contains(text, want) {
			t.Errorf("%s: the report lacks %q:\n%s", c.name, want, report)
		}
	}
	if fails != errors.Is(err, errReported) || err != nil && !fails || stderr != "" {
		t.Errorf("%s: check ended with %v and logged %q; want a failure: %v\n%s", c.name, err, stderr, fails, report)
	}
	for _, secret := range append(secrets, s.IMS.Issued()...) {
		if strings.Contains(report, secret) {
			t.Errorf("%s: the report has %q:\n%s", c.name, secret, report)
		}
	}
	if c.golden {
		golden(t, "check", report)
	}
}

func runCheckCases(t *testing.T, cases []checkCase) {
	t.Helper()
	for _, c := range cases {
		synctest.Test(t, func(t *testing.T) { // the clock begins at 2000-01-01T00:00:00Z
			s := standintest.New(t)
			s.IMS.SetClient("service-x", awkward)
			if c.spoil != nil {
				c.spoil(s)
			}
			runCheckCase(t, s, s.Transport(), c)
		})
	}
}

func goodToken(s *standintest.Standin) string { return s.Tenant.AccessToken(testAudience) }

func TestCheckSettings(t *testing.T) {
	runCheckCases(t, []checkCase{
		{name: "complete", want: []string{"ok settings complete", "ok Auth0's keys fetched from", "ok a grant at IMS an iTwin token valid for 1h0m0s", "-- a user token none given"}},
		{name: "nothing set", environ: []string{prefix + "CLIENT_ID=", prefix + "CLIENT_SECRET=", prefix + "AUTH0_DOMAIN="},
			want: []string{"no settings ITM_TOKEN_SERVER_CLIENT_ID:", " ITM_TOKEN_SERVER_CLIENT_SECRET:", " ITM_TOKEN_SERVER_AUTH0_DOMAIN:", "-- Auth0 and IMS not checked: correct the settings first (go run . demo needs none)\n"}},
		{name: "no audience", environ: []string{prefix + "AUTH0_AUDIENCE="}, want: []string{"!! settings ITM_TOKEN_SERVER_AUTH0_AUDIENCE is not set", "ok a grant at IMS"}},
		{name: "a password in a URL", environ: []string{prefix + "AUTHORITY=https://jane:hunter2@ims.bentley.com"}, want: []string{"no settings ITM_TOKEN_SERVER_AUTHORITY:"}},
	})
}

func TestCheckUpstream(t *testing.T) {
	tenant := func(fault standintest.Fault) func(*standintest.Standin) {
		return func(s *standintest.Standin) { s.Tenant.Misbehave(fault) }
	}
	ims := func(fault standintest.Fault) func(*standintest.Standin) {
		return func(s *standintest.Standin) { s.IMS.Misbehave(fault) }
	}
	domain, authority := "The host is that of ITM_TOKEN_SERVER_AUTH0_DOMAIN", "The host is that of ITM_TOKEN_SERVER_AUTHORITY"
	unknown := []string{prefix + "AUTH0_DOMAIN=tennant.auth0.test"}
	runCheckCases(t, []checkCase{
		{name: "Auth0 hangs", spoil: tenant(standintest.Hang()), want: []string{"no Auth0's keys tenant.auth0.test: no answer within 10s", domain, "ok a grant at IMS"}},
		{name: "Auth0 refuses connections", spoil: func(s *standintest.Standin) { s.Tenant.Stop() }, token: goodToken,
			want: []string{"no Auth0's keys tenant.auth0.test: connection refused", "valid for 1h0m0s no a user token not checked: " + problem.NoKeys.Text}},
		{name: "another domain than the token's", environ: unknown, token: goodToken,
			want: []string{"no Auth0's keys tennant.auth0.test: no such host", domain, "no a user token would be refused: wrong issuer", `issuer is "https://tenant.auth0.test/"`}},
		{name: "wrong secret", environ: []string{prefix + "CLIENT_SECRET=hunter2"},
			want: []string{"no a grant at IMS ims.bentley.test: invalid_client: check ITM_TOKEN_SERVER_CLIENT_ID", "make a new one. -- a user token"}},
		{name: "IMS refuses connections", spoil: func(s *standintest.Standin) { s.IMS.Stop() }, want: []string{"no a grant at IMS ims.bentley.test: connection refused", authority + ": Bentley's is https://ims.bentley.com. --"}},
		{name: "IMS hangs", spoil: ims(standintest.Hang()), want: []string{"no a grant at IMS ims.bentley.test: no answer within 10s", authority}},
		{name: "no network", environ: append(unknown, prefix+"AUTHORITY=https://ims.bently.test"),
			want: []string{"no Auth0's keys", "no a grant at IMS", "!! network neither answered: look at this machine first"}},
	})
}

// Each problem has its advice: what the token has, what the server accepts, and
// where to change it.
func TestCheckTokens(t *testing.T) {
	changed := func(change standintest.Claims) func(*standintest.Standin) string {
		return func(s *standintest.Standin) string { return s.Tenant.AccessToken(testAudience, change) }
	}
	headed := func(change standintest.Claims) func(*standintest.Standin) string {
		return func(s *standintest.Standin) string { return s.Tenant.Sign(change, s.Tenant.Claims(testAudience)) }
	}
	fixed := func(text string) func(*standintest.Standin) string {
		return func(*standintest.Standin) string { return text }
	}
	opaque := func(s *standintest.Standin) string { return s.Tenant.OpaqueToken() }
	refused := func(p *problem.Problem, advice ...string) []string {
		return append(advice, "no a user token would be refused: "+p.Text+".")
	}
	scope := []string{prefix + "AUTH0_REQUIRED_SCOPE=read:itwin"}
	organization := []string{prefix + "AUTH0_ORGANIZATION=org_1,acme"}
	runCheckCases(t, []checkCase{
		{name: "accepted", token: goodToken, want: []string{"ok a user token would be accepted"}},
		{name: "opaque", token: opaque, want: refused(problem.NotJWT, "request the audience of your API", testAudience, "Applications, APIs")},
		{name: "opaque, any audience", token: opaque, environ: []string{prefix + "AUTH0_AUDIENCE="}, want: refused(problem.NotJWT, "request the audience of your API")},
		{name: "another tenant", token: changed(standintest.Claims{"iss": "https://other.us.auth0.com/"}),
			want: refused(problem.Issuer, `"https://other.us.auth0.com/", but the server accepts https://tenant.auth0.test/`, "set ITM_TOKEN_SERVER_AUTH0_DOMAIN")},
		{name: "an escape in the issuer", token: changed(standintest.Claims{"iss": "urn:x\x1b[2J\u009b"}), want: refused(problem.Issuer, `"urn:x\x1b[2J\u009b"`)},
		{name: "no issuer", token: changed(standintest.Claims{"iss": nil}), want: refused(problem.Issuer, "issuer is missing")},
		{name: "another API", token: func(s *standintest.Standin) string { return s.Tenant.AccessToken("https://x.example") }, environ: []string{prefix + "AUTH0_AUDIENCE=an-app,an-api"},
			want: refused(problem.Audience, `"https://x.example", but the server accepts "an-app,an-api"`, "ITM_TOKEN_SERVER_AUTH0_AUDIENCE")},
		{name: "an ID token", token: func(s *standintest.Standin) string { return s.Tenant.IDToken("other-app") }, want: refused(problem.Audience, `"other-app"`)},
		{name: "expired", token: changed(standintest.Claims{"exp": 946677600}), want: refused(problem.Expired, "1999-12-31T22:00:00Z", "2000-01-01T00:00:00Z"), golden: true},
		{name: "not yet valid", token: changed(standintest.Claims{"nbf": 946688400}), want: refused(problem.NotYet, "2000-01-01T01:00:00Z", "set the clock")},
		{name: "issued later", token: changed(standintest.Claims{"iat": 946688400}), want: refused(problem.NotYet, "2000-01-01T01:00:00Z")},
		{name: "another scope", token: changed(standintest.Claims{"scope": "openid", "permissions": []string{"write"}}), environ: scope,
			want: refused(problem.Scope, `"openid"`, `"write"`, `ITM_TOKEN_SERVER_AUTH0_REQUIRED_SCOPE is "read:itwin"`)},
		{name: "no scope", token: changed(standintest.Claims{"scope": nil}), environ: scope, want: refused(problem.Scope, "scope is missing")},
		{name: "another organization", token: changed(standintest.Organization("org_2", "other")), environ: organization,
			want: refused(problem.Organization, `"org_2"`, `"other"`, `"org_1,acme"`, "ITM_TOKEN_SERVER_AUTH0_ORGANIZATION")},
		{name: "no organization", token: goodToken, environ: organization, want: refused(problem.Organization, "org_id is missing")},
		{name: "unknown key", token: headed(standintest.Claims{"kid": "k\n1"}), want: refused(problem.UnknownKey, `no key "k\n1"`)},
		{name: "unknown key, and Auth0 goes down after the first fetch", token: headed(standintest.Claims{"kid": "new"}), spoil: func(s *standintest.Standin) {
			s.IMS.Misbehave(func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
				s.Tenant.Stop()
				honest.ServeHTTP(w, r)
			})
		}, want: []string{"no a user token not checked: " + problem.KeysOutdated.Text}},
		{name: "HS256", token: headed(standintest.Claims{"alg": "HS256"}), want: refused(problem.Algorithm, `"HS256"`, "RS256")},
		{name: "no kid", token: headed(standintest.Claims{"kid": nil}), want: refused(problem.NoKeyID, "copy the token whole")},
		{name: "too many permissions", token: changed(standintest.Claims{"permissions": slices.Repeat([]string{"x"}, 600)}), want: refused(problem.TooLong, "too many claims or permissions")},
		{name: "truncated", token: func(s *standintest.Standin) string { return goodToken(s)[:400] }, want: []string{"no a user token would be refused: the token is not a well-formed JWT", "copy the token whole"}},
		{name: "opaque, and the audience may be a secret", token: opaque, environ: []string{prefix + "AUTH0_AUDIENCE=" + strings.Repeat("x", 66)}, want: refused(problem.NotJWT, "AUDIENCE is 66 characters, not shown")},
		{name: "with a space", token: func(s *standintest.Standin) string { return goodToken(s)[:400] + " " + goodToken(s)[400:] }, want: []string{"no a user token would be refused: the token is not a well-formed JWT"}},
		{name: "a part of a curl line", token: fixed("-H x"), want: []string{"no a user token would be refused: the token is not a well-formed JWT"}},
		{name: "undefined", token: fixed("undefined"), want: refused(problem.EmptyValue, "The mistake is in the app")},
		{name: "two schemes", token: fixed("Bearer Bearer x"), want: refused(problem.TwoSchemes, "The mistake is in the app")},
	})
}

func TestCheckReadsTheTokenFromStandardInput(t *testing.T) {
	s := standintest.New(t)
	s.IMS.SetClient("service-x", awkward)
	report, _, err := runOnce(program{args: []string{"check", "-"}, environ: settingsOf(s), transport: s.Transport(), stdin: strings.NewReader("Bearer " + goodToken(s) + "\n")})
	if err != nil || !strings.Contains(report, "would be accepted") {
		t.Errorf("check - with a good token: %v\n%s", err, report)
	}
}

// Over sockets, since the in-process transport has no TLS.
func TestCheckUnknownAuthority(t *testing.T) {
	s := standintest.Start(t)
	s.IMS.SetClient("service-x", awkward)
	runCheckCase(t, s, upstream.Transport(x509.NewCertPool(), version), checkCase{name: "unknown", want: []string{"no Auth0's keys", "SSL_CERT_FILE", "no a grant at IMS"}})
	runCheckCase(t, s, upstream.Transport(s.Pool(), version), checkCase{name: "known", token: goodToken, want: []string{"ok a user token would be accepted"}})
}
