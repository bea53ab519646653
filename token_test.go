package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/fresh"
	"itwin-token-server/internal/standin/standintest"
	"itwin-token-server/internal/upstream"
)

func TestGrant(t *testing.T) {
	s := standintest.New(t)
	var got url.Values
	s.IMS.Misbehave(func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
		r.ParseForm()
		got = r.Form
		honest.ServeHTTP(w, r)
	})
	access, lifetime, err := grant(t.Context(), testConfig(s), s.Transport())
	if err != nil || !s.IMS.Valid(access) || lifetime != time.Hour {
		t.Errorf("grant = %q, %v, %v; want a valid token for an hour", access, lifetime, err)
	}
	if want := "grant_type=client_credentials&scope=itwin-platform"; got.Encode() != want {
		t.Errorf("the form is %s, want %s and no secret", got.Encode(), want)
	}
}

// Without the encoding a secret with a plus, a percent sign or a colon would arrive as
// another one (RFC 6749 §2.3.1).
func TestClientIDAndSecretAreFormEncoded(t *testing.T) {
	s := standintest.New(t)
	var id, secret string // as they are sent
	s.IMS.Misbehave(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		id, secret, _ = r.BasicAuth()
	})
	for _, test := range []struct{ text, want string }{
		{"service-x", "service-x"},
		{"+/=:%&", "%2B%2F%3D%3A%25%26"},
		{" a b ", "+a+b+"},
		{`"it's" $WORD\n#`, "%22it%27s%22+%24WORD%5Cn%23"},
		{"é€", "%C3%A9%E2%82%AC"},
	} {
		c := testConfig(s)
		c.ClientID, c.ClientSecret = test.text, newSecret(test.text)
		grant(t.Context(), c, s.Transport())
		if id != test.want || secret != test.want {
			t.Errorf("%q is sent as ID %q and secret %q, want %q", test.text, id, secret, test.want)
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
	html := standintest.Answer(200, "text/html", "<p>"+standintest.Canary)
	for _, test := range []struct {
		name  string
		fault standintest.Fault
		kind  upstream.Kind
		words string
	}{
		{"client", oauthError(`"invalid_client"`), upstream.Refused, "check " + prefix + "CLIENT_ID"},
		{"scope", oauthError(`"invalid_scope"`), upstream.Refused, "set " + prefix + "SCOPE"},
		{"type", oauthError(`"unauthorized_client"`), upstream.Refused, "an application of type Service"},
		{"type again", oauthError(`"invalid_grant"`), upstream.Refused, "an application of type Service"},
		{"server", oauthError(`"unsupported_grant_type"`), upstream.Refused, "that server has no"},
		{"protocol", oauthError(`"invalid_request"`), upstream.Refused, "check " + prefix + "AUTHORITY"},
		{"unknown", oauthError(`"` + standintest.Canary + `"`), upstream.Refused, "400 without a known"},
		{"no string", oauthError("7"), upstream.Refused, "status 400 without a known error code"},
		{"404", standintest.Status(404), upstream.Refused, "status 404 without a known error code"},
		{"503", standintest.Status(503), upstream.Refused, "status 503: IMS has a problem"},
		{"429", standintest.Throttle("12"), upstream.Throttled, "asked to wait 12 s"},
		{"client and pause", paused, upstream.Refused, "make a new one (asked to wait 12 s)"},
		{"HTML", html, upstream.Nonsense, "check " + prefix + "AUTHORITY"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s.IMS.Misbehave(test.fault)
			_, _, err := grant(t.Context(), testConfig(s), s.Transport())
			failed, ok := errors.AsType[*upstream.Error](err)
			if !ok || failed.Kind != test.kind || !strings.Contains(failed.Text, test.words) {
				t.Errorf("grant = %v, want … %s … (%s)", err, test.words, test.kind)
			}
			if err != nil && strings.Contains(err.Error(), standintest.Canary) {
				t.Errorf("grant = %v, with IMS's own text", err)
			}
		})
	}
}

func TestParseGrant(t *testing.T) {
	for _, test := range []struct {
		body string
		want time.Duration // the lifetime; 0: it is refused
	}{
		{`{"access_token":"a","token_type":"Bearer","expires_in":3600}`, time.Hour},
		{`{"access_token":"a","token_type":"bearer"}`, 5 * time.Minute},
		{`{"access_token":"a","token_type":"mac"}`, 0},
		{`{"access_token":"a b"}`, 0}, {`{"access_token":"a\nb"}`, 0},
		{`{"access_token":"a\u007fb"}`, 0}, {`{"access_token":"é"}`, 0},
		{`{"access_token":""}`, 0}, {`{"access_token":7}`, 0}, {`{"expires_in":60}`, 0},
		{`[]`, 0}, {`null`, 0}, {``, 0},
		{`{"access_token":"a"}{"access_token":"b"}`, 0},
	} {
		wantGrant(t, test.body, test.want)
	}
	for expiresIn, want := range map[string]time.Duration{
		`60`: time.Minute, `"60"`: time.Minute, `1`: time.Second, `1.5`: 1500 * time.Millisecond,
		`null`: 5 * time.Minute, `1e300`: 24 * time.Hour,
		`"99999999999"`: 24 * time.Hour, `"` + strings.Repeat("9", 400) + `"`: 24 * time.Hour,
		`0`: 0, `0.99`: 0, `1e-7`: 0, `-1`: 0, `true`: 0, `[60]`: 0, `{}`: 0, `"0"`: 0, `""`: 0,
		`"Infinity"`: 0, `"NaN"`: 0, `"0x1p4"`: 0, `"1_000"`: 0, `"+60"`: 0, `" 60"`: 0, `"60.5"`: 0,
	} {
		wantGrant(t, fmt.Sprintf(`{"access_token":"a","expires_in":%s}`, expiresIn), want)
	}
}

// wantGrant wants the token a with the lifetime, or if that is 0, an error.
func wantGrant(t *testing.T, body string, want time.Duration) {
	t.Helper()
	access, lifetime, err := parseGrant(upstream.Answer{Host: "ims.test", Body: []byte(body)})
	if (err == nil) != (want > 0) || lifetime != want || (access == "a") != (want > 0) {
		t.Errorf("parseGrant(%s) = %q, %v, %v; want a, %v", body, access, lifetime, err, want)
	}
}

// FuzzGrant checks that whatever IMS answers, an accepted token can be sent in a header
// and lives for a second at least, and that no error has IMS's text.
func FuzzGrant(f *testing.F) {
	f.Add(200, []byte(`{"access_token":"a","token_type":"Bearer","expires_in":3600}`))
	f.Add(200, []byte(`{"access_token":"a b","expires_in":"1e9"}`))
	f.Add(400, []byte(`{"error":"invalid_client","error_description":"`+standintest.Canary+`"}`))
	f.Add(400, []byte(`{"error":"`+standintest.Canary+`"}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		answer := upstream.Answer{Host: "ims.test", Status: status, Body: body}
		access, lifetime, err := parseGrant(answer)
		if err == nil && (!isToken(access) || lifetime < time.Second || lifetime > maxLifetime) {
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
func testTokens(
	t *testing.T, lifetime, delay time.Duration,
	test func(s *standintest.Standin, tokens *fresh.Value[*itwinToken]),
) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := standintest.New(t)
		s.IMS.SetLife(lifetime)
		if delay > 0 {
			s.IMS.Misbehave(standintest.Delay(delay))
		}
		tokens := newTokens(testConfig(s), s.Transport(), nil)
		background(t, tokens.Run)
		tokens.Get(t.Context())
		test(s, tokens)
	})
}

func TestShortTokensAndASlowIMS(t *testing.T) {
	const life = 20 * time.Second
	testTokens(t, life, time.Second, func(s *standintest.Standin, tokens *fresh.Value[*itwinToken]) {
		for range 6000 { // ten minutes
			begun := time.Now()
			token, err := tokens.Get(t.Context())
			if took := time.Since(begun); err != nil || took > 0 {
				t.Fatalf("a token after %v (%v), want one at once", took, err)
			}
			if left := time.Until(token.expiry); left < life*4/10 {
				t.Fatalf("a token with %v left, want at least 40%% of %v", left, life)
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
		testTokens(t, life, 0, func(s *standintest.Standin, tokens *fresh.Value[*itwinToken]) {
			s.IMS.Misbehave(standintest.HangUp())
			time.Sleep(life - last - time.Millisecond)
			if _, err := tokens.Get(t.Context()); err != nil {
				t.Errorf("of %v, before the last %v: %v, want the token", life, last, err)
			}
			time.Sleep(time.Millisecond)
			if _, err := tokens.Get(t.Context()); err == nil {
				t.Errorf("of %v, in the last %v: a token, want an error", life, last)
			}
		})
	}
}

// The lifetime counts from the request: IMS may have issued the token at any moment
// after it.
func TestASlowGrantDoesNotExtendTheToken(t *testing.T) {
	testTokens(t, time.Minute, 8*time.Second,
		func(_ *standintest.Standin, tokens *fresh.Value[*itwinToken]) {
			if left := time.Until(tokens.Last().expiry); left != 52*time.Second {
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
		if err := os.WriteFile(c.SecretFile, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
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
