package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/standin/standintest"
	"itwin-token-server/internal/upstream"
)

// The form has no secret. Without its encoding a secret with a plus, a percent sign or a
// colon would arrive as another one (RFC 6749 §2.3.1).
func TestGrant(t *testing.T) {
	s := standintest.New(t)
	const wantForm = "grant_type=client_credentials&scope=itwin-platform"
	var form, id, secret string // as they are sent
	s.IMS.Misbehave(func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
		r.ParseForm()
		form = r.Form.Encode()
		id, secret, _ = r.BasicAuth()
		honest.ServeHTTP(w, r)
	})
	for _, test := range []struct{ text, want string }{
		{"+/=:%&", "%2B%2F%3D%3A%25%26"},
		{" a b ", "+a+b+"},
		{`"it's" $WORD\n#é`, "%22it%27s%22+%24WORD%5Cn%23%C3%A9"},
	} {
		c := testConfig(s)
		c.ClientID, c.ClientSecret = test.text, newSecret(test.text)
		s.IMS.SetClient(test.text, test.text)
		access, lifetime, err := grant(t.Context(), c, s.Transport())
		if err != nil || !s.IMS.Valid(access) || lifetime != time.Hour {
			t.Errorf("grant = %q, %v, %v; want a valid token for an hour", access, lifetime, err)
		}
		if id != test.want || secret != test.want || form != wantForm {
			t.Errorf("%q is sent as %q and %q, want %q; with %s", test.text, id, secret, test.want, form)
		}
	}
}

func TestRefusedGrants(t *testing.T) {
	s := standintest.New(t)
	oauthError := func(code string) standintest.Fault {
		body := fmt.Sprintf(`{"error":%s,"error_description":%q}`, code, standintest.Canary)
		return standintest.Answer(400, "application/json", body)
	}
	paused := standintest.WithHeader("Retry-After", "12", oauthError(`"invalid_client"`))
	for _, test := range []struct {
		fault standintest.Fault
		kind  upstream.Kind
		words string
	}{
		{oauthError(`"invalid_client"`), upstream.Refused, "check " + prefix + "CLIENT_ID"},
		{oauthError(`"invalid_scope"`), upstream.Refused, "set " + prefix + "SCOPE"},
		{oauthError(`"unauthorized_client"`), upstream.Refused, "an application of type Service"},
		{oauthError(`"invalid_grant"`), upstream.Refused, "an application of type Service"},
		{oauthError(`"unsupported_grant_type"`), upstream.Refused, "that server has no"},
		{oauthError(`"invalid_request"`), upstream.Refused, "check " + prefix + "AUTHORITY"},
		{oauthError(`"` + standintest.Canary + `"`), upstream.Refused, "400 without a known"},
		{oauthError("7"), upstream.Refused, "status 400 without a known error code"},
		{standintest.Status(503), upstream.Refused, "status 503: IMS has a problem"},
		{standintest.Throttle("12"), upstream.Throttled, "asked to wait 12 s"},
		{paused, upstream.Refused, "make a new one (asked to wait 12 s)"},
		{standintest.Answer(200, "text/html", "<p>"), upstream.Nonsense, "check " + prefix + "AUTHORITY"},
	} {
		s.IMS.Misbehave(test.fault)
		_, _, err := grant(t.Context(), testConfig(s), s.Transport())
		failed, ok := errors.AsType[*upstream.Error](err)
		if !ok || failed.Kind != test.kind || !strings.Contains(failed.Text, test.words) ||
			strings.Contains(failed.Text, standintest.Canary) {
			t.Errorf("grant = %v, want %s (%s), and not IMS's own text", err, test.words, test.kind)
		}
	}
}

func TestParseGrant(t *testing.T) {
	wantLifetime := func(body string, want time.Duration) { // 0: an error
		t.Helper()
		access, lifetime, err := parseGrant(upstream.Answer{Host: "ims.test", Body: []byte(body)})
		if (err == nil) != (want > 0) || lifetime != want || (access == "a") != (want > 0) {
			t.Errorf("parseGrant(%s) = %q, %v, %v; want a, %v", body, access, lifetime, err, want)
		}
	}
	wantLifetime(`{"access_token":"a","token_type":"bEARER"}`, 5*time.Minute)
	for _, body := range []string{
		`{"access_token":"a","token_type":"mac"}`, `{"access_token":"a"}{"access_token":"b"}`,
		`{"access_token":"a b"}`, `{"access_token":"a\nb"}`, `{"access_token":"a\u007fb"}`,
		`{"access_token":"é"}`, `{"access_token":""}`, `{"access_token":7}`, `{"expires_in":60}`,
		`[]`, `null`, ``,
	} {
		wantLifetime(body, 0)
	}
	for expiresIn, lifetime := range map[string]time.Duration{
		`60`: time.Minute, `"60"`: time.Minute, `1`: time.Second, `1.5`: 1500 * time.Millisecond,
		`null`: 5 * time.Minute, `1e300`: 24 * time.Hour,
		`"99999999999"`: 24 * time.Hour, `"` + strings.Repeat("9", 400) + `"`: 24 * time.Hour,
		`0`: 0, `0.99`: 0, `1e-7`: 0, `-1`: 0, `true`: 0, `[60]`: 0, `{}`: 0, `"0"`: 0, `""`: 0,
		`"Infinity"`: 0, `"NaN"`: 0, `"0x1p4"`: 0, `"1_000"`: 0, `"+60"`: 0, `" 60"`: 0, `"60.5"`: 0,
	} {
		wantLifetime(fmt.Sprintf(`{"access_token":"a","expires_in":%s}`, expiresIn), lifetime)
	}
}

// FuzzGrant checks that whatever IMS answers, an accepted token can be sent in a header
// and lives for a second at least, and that no error has IMS's text.
func FuzzGrant(f *testing.F) {
	f.Add(200, []byte(`{"access_token":"a","token_type":"Bearer","expires_in":3600}`))
	f.Add(200, []byte(`{"access_token":"a b","expires_in":"1e9"}`))
	f.Add(400, []byte(`{"error":"`+standintest.Canary+`"}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		answer := upstream.Answer{Host: "ims.test", Status: status, Body: body}
		access, lifetime, err := parseGrant(answer)
		usable := usableToken.MatchString(access)
		if err == nil && (!usable || lifetime < time.Second || lifetime > maxLifetime) {
			t.Fatalf("parseGrant(%q) = %q, %v", body, access, lifetime)
		}
		for _, err := range []error{err, refusal(answer)} {
			if err != nil && strings.Contains(err.Error(), standintest.Canary) {
				t.Fatalf("an answer of %q makes the error %v", body, err)
			}
		}
	})
}

// testTokens runs a test in a bubble, with a token that is kept fresh. IMS issues tokens
// of the lifetime, each after the delay.
func testTokens(t *testing.T, lifetime, delay time.Duration, test func(s *testServer)) {
	synctest.Test(t, func(t *testing.T) {
		s := newIdleServer(t, nil)
		s.IMS.SetLife(lifetime)
		s.IMS.Misbehave(standintest.Delay(delay))
		background(t, s.tokens.Run)
		s.tokens.Get(t.Context())
		test(s)
	})
}

func TestShortTokensAndASlowIMS(t *testing.T) {
	const life = 20 * time.Second
	testTokens(t, life, time.Second, func(s *testServer) {
		for range 6000 { // ten minutes
			begun := time.Now()
			token, err := s.tokens.Get(t.Context())
			took := time.Since(begun)
			if err != nil || took > 0 || time.Until(token.expiry) < life*4/10 {
				t.Fatalf("%v (%v) after %v, want a token at once with 40%% left", token, err, took)
			}
			time.Sleep(100 * time.Millisecond)
		}
		if n := s.IMS.Requests(); n < 60 || n > 67 { // one in 9 to 10 s
			t.Errorf("%d grants, want 60 to 67", n)
		}
	})
}

func TestTheTokenServesUntilItsLastSecondsWhenIMSIsDown(t *testing.T) {
	for life, last := range map[time.Duration]time.Duration{
		time.Hour: 5 * time.Second, 50 * time.Second: 5 * time.Second, 20 * time.Second: 2 * time.Second,
	} {
		testTokens(t, life, 0, func(s *testServer) {
			s.IMS.Misbehave(standintest.HangUp())
			time.Sleep(life - last - time.Millisecond)
			if _, err := s.tokens.Get(t.Context()); err != nil {
				t.Errorf("of %v, before the last %v: %v, want the token", life, last, err)
			}
			time.Sleep(time.Millisecond)
			if _, err := s.tokens.Get(t.Context()); err == nil {
				t.Errorf("of %v, in the last %v: a token, want an error", life, last)
			}
		})
	}
}

// The lifetime counts from the request: IMS may have issued the token at any moment
// after it.
func TestASlowGrantDoesNotExtendTheToken(t *testing.T) {
	testTokens(t, time.Minute, 8*time.Second, func(s *testServer) {
		if left := time.Until(s.tokens.Last().expiry); left != 52*time.Second {
			t.Errorf("%v left after a grant of 8 s, want 52 s", left)
		}
	})
}

func TestTheSecretsFileIsReadForEachGrant(t *testing.T) {
	s := standintest.New(t)
	c := testConfig(s)
	c.ClientSecret, c.SecretFile = secret{}, filepath.Join(t.TempDir(), "secret")
	for _, text := range []string{"old", "new"} {
		s.IMS.SetClient(c.ClientID, text)
		must(0, os.WriteFile(c.SecretFile, []byte(text), 0o600))
		if _, _, err := grant(t.Context(), c, s.Transport()); err != nil {
			t.Errorf("the %s secret: %v, want a token", text, err)
		}
	}
	os.Remove(c.SecretFile)
	_, _, err := grant(t.Context(), c, s.Transport())
	if err == nil || !strings.HasPrefix(err.Error(), prefix+"CLIENT_SECRET_FILE: ") {
		t.Errorf("grant without the file = %v, want the setting named", err)
	}
}
