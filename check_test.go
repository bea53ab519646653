package main

import (
	"context"
	"crypto/x509"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/check"
	"itwin-token-server/internal/problem"
	"itwin-token-server/internal/standin/standintest"
	"itwin-token-server/internal/upstream"
)

// wantCheck runs check with a user token, if it is not empty, and wants words in the report.
// It wants check to fail if some of them begin with "no ". No report may have a secret.
func wantCheck(t *testing.T, s *standintest.Standin, p program, token string, want ...string) {
	t.Helper()
	s.IMS.SetClient("service-x", awkward)
	p.args, p.environ = []string{"check"}, settingsOf(s, p.environ...)
	secrets := append(s.IMS.Issued(), strings.TrimSpace(awkward), "hunter2", "Jane", "jane.doe")
	if token != "" {
		p.args = append(p.args, token)
		secrets = append(secrets, strings.Split(token, ".")[1:]...)
	}
	report, stderr, err := runOnce(p)
	text, wantErr := strings.Join(strings.Fields(report), " "), error(nil)
	for _, words := range want {
		if !strings.Contains(text, words) {
			t.Errorf("the report lacks %q:\n%s", words, report)
		}
		if strings.HasPrefix(words, "no ") {
			wantErr = errReported
		}
	}
	if err != wantErr || stderr != "" {
		t.Errorf("check ends with %v, want %v; stderr is %q:\n%s", err, wantErr, stderr, report)
	}
	for _, secret := range secrets {
		if secret != "" && strings.Contains(report, secret) {
			t.Errorf("the report has %q:\n%s", secret, report)
		}
	}
}

func TestCheckSettings(t *testing.T) {
	s := standintest.New(t)
	p := program{transport: s.Transport()}
	wantCheck(t, s, p, "", "ok settings complete", "-- a user token none given")
	p.environ = []string{prefix + "CLIENT_ID=", prefix + "AUTHORITY=https://jane:hunter2@x.test"}
	wantCheck(t, s, p, "", "no settings "+prefix+"CLIENT_ID:", prefix+"AUTHORITY:",
		"-- Auth0 and IMS not checked: correct the settings first (go run . demo needs none)")
	p.environ = []string{prefix + "AUTH0_AUDIENCE="}
	wantCheck(t, s, p, "", "!! settings "+prefix+"AUTH0_AUDIENCE is not set", "ok a grant at IMS")
}

// An expired certificate is wrong for sure, but the server starts with it: a clock may be
// wrong, and a renewal may come.
func TestCheckExpiredCertificate(t *testing.T) {
	dir, web := tlsFiles(t)
	files := []string{prefix + "TLS_CERT_FILE=" + dir + "/cert", prefix + "TLS_KEY_FILE=" + dir + "/key"}
	synctest.Test(t, func(t *testing.T) {
		s := standintest.New(t)
		p := program{environ: files, transport: s.Transport()}
		wantCheck(t, s, p, "", "ok settings complete")
		time.Sleep(time.Until(web.Certificate().NotAfter) + time.Second)
		wantCheck(t, s, p, "", "no settings "+prefix+"TLS_CERT_FILE:", "-- Auth0 and IMS not checked")
	})
}

func TestCheckUpstream(t *testing.T) {
	for _, tt := range []struct {
		auth0, ims standintest.Fault
		environ    string
		want       []string
	}{
		{
			auth0: standintest.Hang(),
			want: []string{"no Auth0's keys tenant.auth0.test: no answer within 10s",
				"The host is that of " + prefix + "AUTH0_DOMAIN", "ok a grant",
				"no a user token would be refused: " + problem.NoKeys.Text},
		},
		{
			environ: prefix + "AUTH0_DOMAIN=tennant.auth0.test",
			want: []string{"no Auth0's keys tennant.auth0.test: no such host",
				"no a user token would be refused", `issuer is "https://tenant.auth0.test/"`},
		},
		{
			environ: prefix + "CLIENT_SECRET=hunter2",
			want:    []string{"no a grant at IMS ims.bentley.test: invalid_client", "ok a user token"},
		},
		{
			ims: standintest.Hang(),
			want: []string{"no a grant at IMS ims.bentley.test: no answer within 10s",
				"The host is that of " + prefix + "AUTHORITY"},
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := standintest.New(t)
			s.Tenant.Misbehave(tt.auth0)
			s.IMS.Misbehave(tt.ims)
			p := program{environ: []string{tt.environ}, transport: s.Transport()}
			wantCheck(t, s, p, s.Tenant.AccessToken(testAudience), tt.want...)
		})
	}
}

// Each problem has its advice: what the token has, what the server accepts, and where to
// change it.
func TestCheckTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the clock is at 2000-01-01T00:00:00Z
		s := standintest.New(t)
		with := func(claims standintest.Claims) string {
			return s.Tenant.AccessToken(testAudience, claims)
		}
		withHeader := func(header standintest.Claims) string {
			return s.Tenant.Sign(header, s.Tenant.Claims(testAudience))
		}
		good, expired := with(nil), with(standintest.Claims{"exp": 946677600})
		issued, _, _ := grant(t.Context(), testConfig(s), s.Transport())
		const accepted, organization = "ok a user token would be accepted", prefix + "AUTH0_ORGANIZATION="
		const scope = prefix + "AUTH0_REQUIRED_SCOPE=read:itwin"
		for _, tt := range []struct {
			token, environ string
			refused        *problem.Problem // nil: accepted
			advice         []string
		}{
			{good, "", nil, []string{accepted}},
			{" bearer  " + good + "\n", "", nil, []string{accepted}},
			{"Authorization: Bearer " + good, "", nil, []string{accepted}},
			{`"` + good + `"`, "", problem.Quoted, []string{"no as given", accepted}},
			{"Bearer Bearer " + good, "", problem.TwoSchemes, []string{"no as given", accepted}},
			{"'" + expired + "'", "", problem.Quoted, []string{"no a user token would be refused: expired"}},
			{"DPoP " + good, "", problem.OtherScheme, nil},
			{"null", "", problem.EmptyValue, nil},
			{good[:400], "", problem.Malformed, []string{"pbpaste | go run . check -"}},
			{s.Tenant.OpaqueToken(), "", problem.NotJWT, []string{"request the audience", testAudience}},
			{expired, "", problem.Expired, []string{"1999-12-31T22:00:00Z", "2000-01-01T00:00:00Z"}},
			{with(standintest.Claims{"nbf": 946688400}), "", problem.NotYet, []string{"2000-01-01T01:00:00Z"}},
			{with(standintest.Claims{"iat": 946688400}), "", problem.NotYet, []string{"2000-01-01T01:00:00Z"}},
			{with(standintest.Claims{"iss": "https://other.us.auth0.com/"}), "", problem.Issuer,
				[]string{`"https://other.us.auth0.com/"`, "accepts https://tenant.auth0.test/"}},
			{with(standintest.Claims{"iss": s.IMS.URL()}), "", problem.Issuer, []string{"an iTwin token"}},
			{s.Tenant.AccessToken("https://x"), "", problem.Audience, []string{`"https://x `, testAudience}},
			{s.Tenant.IDToken("x"), "", problem.Audience, []string{"seems to be an ID token", `"x"`}},
			{s.Tenant.AccessToken(strings.Repeat("hunter2", 6)), "", problem.Audience, nil},
			{with(standintest.Claims{"permissions": []string{"a", "b"}}), scope, problem.Scope,
				[]string{`"openid profile email"`, `"a b"`, `REQUIRED_SCOPE is "read:itwin"`}},
			{s.Tenant.IDToken(testAudience), scope, problem.Scope, []string{"seems to be an ID token"}},
			{with(standintest.Organization("org_2", "b")), organization + "org_1,a", problem.Organization,
				[]string{`"org_2"`, `"b"`, `"org_1,a"`}},
			{withHeader(standintest.Claims{"kid": "k\n1"}), "", problem.UnknownKey, []string{`key "k\n1"`}},
			{withHeader(standintest.Claims{"alg": "HS256"}), "", problem.Algorithm, []string{`"HS256"`}},
		} {
			want := tt.advice
			if tt.refused != nil {
				want = append(want, "no ", "would be refused: "+tt.refused.Text)
			}
			p := program{environ: []string{tt.environ}, transport: s.Transport()}
			wantCheck(t, s, p, tt.token, want...)
		}
		p := program{transport: s.Transport()} // by another key, so the server may see that first
		wantCheck(t, s, p, issued, "no a user token would be refused", "It is an iTwin token")
	})
}

// What advice says depends on words in braces, all of which must be known.
func TestAdviceIsFilledIn(t *testing.T) {
	s := standintest.New(t)
	_, found, err := loadConfig(settingsOf(s), "")
	for _, p := range problem.All() {
		var text strings.Builder
		report := check.Report{W: &text, Program: "program", Issuer: "x", Authority: "https://x"}
		report.Settings(found, err)
		report.Token("a.b.c", func(string) *problem.Problem { return p })
		if strings.ContainsAny(strings.ReplaceAll(text.String(), p.Text, ""), "{}") {
			t.Errorf("%s: advice has words that check does not know:\n%s", p.Reason, &text)
		}
	}
}

func TestCheckReadsTheTokenFromStandardInput(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := standintest.New(t)
		s.IMS.SetClient("service-x", awkward)
		p := program{args: []string{"check", "-"}, environ: settingsOf(s), transport: s.Transport()}
		p.stdin = strings.NewReader("\r\n Bearer " + s.Tenant.AccessToken(testAudience) + "\r\n")
		report, _, err := runOnce(p)
		if err != nil {
			t.Errorf("check - with a good token: %v\n%s", err, report)
		}
		golden(t, "check", report)
		p.stdin = strings.NewReader(" \n")
		if report, _, err := runOnce(p); err == nil || report != "" {
			t.Errorf("check - without a token: %v\n%s", err, report)
		}
	})
}

// Ctrl-C ends check at once, whatever it waits for, without findings about that.
func TestCheckInterrupted(t *testing.T) {
	for name, tt := range map[string]struct {
		argument   string
		auth0, ims standintest.Fault
	}{
		"the user":     {argument: "-"},
		"Auth0's keys": {argument: "a.b.c", auth0: standintest.Hang()},
		"a grant":      {argument: "a.b.c", ims: standintest.Hang()},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := standintest.New(t)
			s.Tenant.Misbehave(tt.auth0)
			s.IMS.Misbehave(tt.ims)
			stdin, user := io.Pipe()
			defer user.Close()
			ctx, interrupt := context.WithCancel(t.Context())
			time.AfterFunc(time.Second, interrupt)
			start, report := time.Now(), new(strings.Builder)
			err := run(ctx, program{
				args: []string{"check", tt.argument}, environ: settingsOf(s), transport: s.Transport(),
				stdin: stdin, stdout: report, stderr: io.Discard,
			})
			if took := time.Since(start); err != check.ErrInterrupted || took != time.Second {
				t.Errorf("waiting for %s: ended with %v after %v, want interrupted, 1s", name, err, took)
			}
			if strings.Contains(report.String(), "\nno ") {
				t.Errorf("waiting for %s: findings about what was interrupted:\n%s", name, report)
			}
		})
	}
}

// Over sockets, since the in-process transport has no TLS.
func TestCheckUnknownAuthority(t *testing.T) {
	s := standintest.Start(t)
	unknown := program{transport: upstream.Transport(x509.NewCertPool(), version)}
	wantCheck(t, s, unknown, "", "no Auth0's keys", "SSL_CERT_FILE", "no a grant at IMS")
	known := program{transport: upstream.Transport(s.Pool(), version)}
	wantCheck(t, s, known, s.Tenant.AccessToken(testAudience), "ok a user token would be accepted")
}
