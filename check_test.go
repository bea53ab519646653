package main

import (
	"context"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/check"
	"itwin-token-server/internal/problem"
	"itwin-token-server/internal/standin/standintest"
)

// wantCheck runs check, with a user token if it is not empty, and wants words in the report.
// No report may have a secret.
func wantCheck(
	t *testing.T, s *standintest.Standin, environ []string, token string, ok bool, words ...string,
) {
	t.Helper()
	s.IMS.SetClient("service-x", trickySecret)
	p := program{args: []string{"check"}, environ: settingsOf(s, environ...), transport: s.Transport()}
	secrets := append(s.IMS.Issued(), strings.TrimSpace(trickySecret), "hunter2", "Jane", "jane.doe")
	if token != "" {
		p.args = append(p.args, token)
		secrets = append(secrets, strings.Split(token, ".")[1:]...)
	}
	report, stderr, err := runOnce(p)
	if (err == nil) != ok || stderr != "" {
		t.Errorf("check ends with %v; stderr is %q:\n%s", err, stderr, report)
	}
	text := strings.Join(strings.Fields(report), " ")
	for _, want := range words {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, report)
		}
	}
	for _, secret := range secrets {
		if secret != "" && strings.Contains(report, secret) {
			t.Errorf("the report has %q:\n%s", secret, report)
		}
	}
}

func TestCheckSettings(t *testing.T) {
	s := standintest.New(t)
	wantCheck(t, s, nil, "", true, "ok settings complete", "-- a user token none given")
	wantCheck(t, s, []string{prefix + "AUTH0_AUDIENCE="}, "", true,
		"!! settings "+prefix+"AUTH0_AUDIENCE is not set", "ok a grant at IMS")
	wrong := []string{prefix + "CLIENT_ID=", prefix + "AUTHORITY=https://jane:hunter2@x.test"}
	wantCheck(t, s, wrong, s.Tenant.AccessToken(testAudience), false,
		"no settings "+prefix+"CLIENT_ID:", prefix+"AUTHORITY:",
		"-- Auth0 and IMS not checked: correct the settings first", "any settings: go run . demo",
		"-- a user token not checked")
}

// An expired certificate is wrong for sure, but the server starts with it: a clock may be
// wrong, and a renewal may come.
func TestCheckExpiredCertificate(t *testing.T) {
	dir, web := tlsFiles(t)
	cert, key := prefix+"TLS_CERT_FILE="+dir+"/cert", prefix+"TLS_KEY_FILE="+dir+"/key"
	synctest.Test(t, func(t *testing.T) {
		s := standintest.New(t)
		wantCheck(t, s, []string{cert, key}, "", true, "ok settings complete")
		time.Sleep(time.Until(web.Certificate().NotAfter) + time.Second)
		wantCheck(t, s, []string{cert, key}, "", false, "no settings "+prefix+"TLS_CERT_FILE:")
	})
}

func TestCheckUpstream(t *testing.T) {
	for _, tt := range []struct {
		auth0, ims standintest.Fault
		setting    string
		want       []string
	}{
		{auth0: standintest.Hang(), want: []string{
			"no Auth0's keys tenant.auth0.test: no answer within 10s", prefix + "AUTH0_DOMAIN: it",
			"ok a grant", "no a user token would be refused: " + problem.NoKeys.Text}},
		{setting: "AUTH0_DOMAIN=tennant.auth0.test", want: []string{
			"no Auth0's keys tennant.auth0.test: no such host", prefix + "AUTH0_DOMAIN: it",
			"no a user token would be refused", `issuer is "https://tenant.auth0.test/"`}},
		{setting: "AUTH0_DOMAIN=" + strings.Repeat("company-", 6) + "x.us.auth0.com", want: []string{
			"no a user token", "accepts 71 characters, not shown only"}},
		{ims: standintest.Hang(), want: []string{
			"no a grant at IMS ims.bentley.test: no answer within 10s", prefix + "AUTHORITY"}},
		{setting: "CLIENT_SECRET=hunter2", want: []string{
			"no a grant at IMS ims.bentley.test: invalid_client", "ok a user token"}},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := standintest.New(t)
			s.Tenant.Misbehave(tt.auth0)
			s.IMS.Misbehave(tt.ims)
			token := s.Tenant.AccessToken(testAudience)
			wantCheck(t, s, []string{prefix + tt.setting}, token, false, tt.want...)
		})
	}
}

// What is around a token is refused where the server would refuse it.
func TestCheckFormsOfTokens(t *testing.T) {
	s := standintest.New(t)
	good := s.Tenant.AccessToken(testAudience)
	const accepted = "ok a user token would be accepted"
	for _, token := range []string{good, " bearer  " + good + "\n", "Authorization: Bearer " + good,
		"Authorization:\tBearer " + good} {
		wantCheck(t, s, nil, token, true, accepted)
	}
	for token, refused := range map[string]*problem.Problem{
		`"` + good + `"`:        problem.Quoted,
		"Bearer Bearer " + good: problem.TwoSchemes,
		"DPoP " + good:          problem.OtherScheme,
		"Bearer: " + good:       problem.OtherScheme,
		"Bearer:" + good:        problem.OtherScheme,
		"Bearer\t" + good:       problem.OtherScheme,
	} {
		wantCheck(t, s, nil, token, false, "no as given would be refused: "+refused.Text, accepted)
	}
	wantCheck(t, s, nil, "[object Object]", false, "no a user token", problem.EmptyValue.Text)
}

// Each problem has its advice: what the token has, what the server accepts, and where to
// change it.
func TestCheckRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the clock is at 2000-01-01T00:00:00Z
		const app, otherApp = "aB3dE5fG7hJ9kL1mN3pQ5rS7tU9vW1xY", "J7qXk2vTn0WmR4yLs8BcZp1DhG5eUaFi"
		s := standintest.New(t)
		environ := []string{
			prefix + "AUTH0_AUDIENCE=" + testAudience + "," + app,
			prefix + "AUTH0_REQUIRED_SCOPE=read:itwin",
			prefix + "AUTH0_ORGANIZATION=org_1,acme",
		}
		wantRefused := func(token string, refused *problem.Problem, advice ...string) {
			t.Helper()
			want := append(advice, "no a user token would be refused: "+refused.Text)
			wantCheck(t, s, environ, token, false, want...)
		}
		with := func(claim string, value any) string {
			return s.Tenant.AccessToken(testAudience, standintest.Claims{claim: value})
		}
		withHeader := func(name, value string) string {
			return s.Tenant.Sign(standintest.Claims{name: value}, s.Tenant.Claims(testAudience))
		}
		issued, _, _ := grant(t.Context(), testConfig(s), s.Transport())
		wantRefused(s.Tenant.OpaqueToken(), problem.NotJWT, "request the audience", testAudience)
		wantRefused(with("exp", 1e9)[:400], problem.Malformed, "pbpaste | go run . check -")
		wantRefused(issued, problem.Issuer, "It is an iTwin token")
		wantRefused(with("iss", "https://other.us.auth0.com/"), problem.Issuer,
			`"https://other.us.auth0.com/"`, `accepts "https://tenant.auth0.test/"`)
		wantRefused(with("aud", "https://x"), problem.Audience, `is "https://x", `, testAudience)
		wantRefused(s.Tenant.IDToken(otherApp), problem.Audience, "seems to be an ID token")
		wantRefused(with("aud", strings.Repeat("hunter2", 6)), problem.Audience, "42 characters")
		wantRefused(with("exp", 946677600), problem.Expired,
			"1999-12-31T22:00:00Z", "2000-01-01T00:00:00Z")
		wantRefused(with("nbf", 946688400), problem.NotYet, "nbf is 2000-01-01T01:00:00Z")
		wantRefused(with("iat", 946688400), problem.NotYet, "iat is 2000-01-01T01:00:00Z")
		wantRefused(withHeader("kid", "k\n1"), problem.UnknownKey, `key "k\n1"`)
		wantRefused(withHeader("alg", "HS256"), problem.Algorithm, `"HS256"`)
		wantRefused(with("org_id", "org_2"), problem.Organization,
			`org_id is "org_2"`, "org_name is missing", `"org_1,acme"`)
		environ = environ[:2] // no organization
		wantRefused(with("permissions", []string{"a", "b"}), problem.Scope,
			`"openid profile email"`, `"a b"`, `REQUIRED_SCOPE is "read:itwin"`)
		wantRefused(s.Tenant.IDToken(app), problem.Scope, "seems to be an ID token")
	})
}

// What advice says depends on words in braces, all of which must be known.
func TestAdviceIsFilledIn(t *testing.T) {
	_, found, err := loadConfig(complete(), "")
	for _, p := range problem.All() {
		var text strings.Builder
		report := check.Report{W: &text, Program: "program", Issuer: "x", Authority: "https://x"}
		report.Settings(found, err, "")
		report.Token("a.b.c", func(string) *problem.Problem { return p })
		if strings.ContainsAny(strings.ReplaceAll(text.String(), p.Text, ""), "{}") {
			t.Errorf("%s: advice has words that check does not know:\n%s", p.Reason, &text)
		}
	}
}

func TestCheckReadsStandardInput(t *testing.T) {
	s := standintest.New(t)
	s.IMS.SetClient("service-x", trickySecret)
	report, _, _ := runOnce(program{
		args: []string{"check", "-"}, environ: settingsOf(s), transport: s.Transport(),
		stdin: strings.NewReader("Bearer " + s.Tenant.AccessToken(testAudience) + "\r\n"),
	})
	golden(t, "check", report)
}

// Ctrl-C ends check at once, whatever it waits for, without findings about that.
func TestCheckInterrupted(t *testing.T) {
	for waitsFor, argument := range map[string]string{"the user": "-", "Auth0": "a.b.c"} {
		synctest.Test(t, func(t *testing.T) {
			s := standintest.New(t)
			s.Tenant.Misbehave(standintest.Hang())
			stdin, user := io.Pipe()
			defer user.Close()
			ctx, interrupt := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, interrupt)
			start, report := time.Now(), new(standintest.Log)
			err := run(ctx, program{
				args: []string{"check", argument}, environ: settingsOf(s), transport: s.Transport(),
				stdin: stdin, stdout: report, stderr: io.Discard,
			})
			took, text := time.Since(start), report.String()
			if err != errInterrupted || took != time.Second || strings.Contains(text, "\nno ") {
				t.Errorf("waiting for %s: %v after %v, %s", waitsFor, err, took, text)
			}
		})
	}
}
