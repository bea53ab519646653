package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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

// oneGrant makes one grant.
func oneGrant(t *testing.T, s *standintest.Standin, change func(*config)) (string, time.Duration, error) {
	t.Helper()
	c := testConfig(s)
	if change != nil {
		change(&c)
	}
	return grant(t.Context(), c, s.Transport())
}

func TestGrant(t *testing.T) {
	s := standintest.New(t)
	s.IMS.Misbehave(func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
		if _, _, basic := r.BasicAuth(); !basic || r.PostFormValue("client_secret") != "" {
			t.Error("the secret is not in HTTP Basic alone")
		}
		honest.ServeHTTP(w, r)
	})
	access, life, err := oneGrant(t, s, nil)
	if err != nil || !s.IMS.Valid(access) || life != time.Hour {
		t.Errorf("grant = a valid token: %v, %v, %v; want true, 1h, no error", s.IMS.Valid(access), life, err)
	}
}

func TestSecretsArriveUnchanged(t *testing.T) {
	s := standintest.New(t)
	file := filepath.Join(t.TempDir(), "secret")
	for _, text := range []string{
		`+/=:%&$#"`, `a b`, ` lead and trail `, `100%25`, `pa$WORD`, `it's`, `"quoted"`, `back\slash\n`, `a+b/c==`, "é€😀", `#comment`, `a=b&c=d`,
	} {
		id := "id with " + text
		s.IMS.SetClient(id, text)
		write(t, filepath.Dir(file), "secret", text+"\n")
		for from, change := range map[string]func(*config){
			"settings": func(c *config) { c.ClientID, c.ClientSecret = id, newSecret(text) },
			"file":     func(c *config) { c.ClientID, c.ClientSecret, c.SecretFile = id, secret{}, file },
		} {
			if _, _, err := oneGrant(t, s, change); err != nil {
				t.Errorf("grant with the secret %q from %s = %v, want a token", text, from, err)
			}
		}
	}
	os.Remove(file)
	_, _, err := oneGrant(t, s, func(c *config) { c.SecretFile = file })
	if err == nil || !strings.HasPrefix(err.Error(), prefix+"CLIENT_SECRET_FILE: ") {
		t.Errorf("grant without the file = %v, want the setting named", err)
	}
}

func TestRefusedGrants(t *testing.T) {
	s := standintest.New(t)
	oauthError := func(code string) standintest.Fault {
		return standintest.Answer(400, "application/json", `{"error":`+code+`,"error_description":"`+standintest.Canary+`"}`)
	}
	for _, tt := range []struct {
		name   string
		change func(*config)
		fault  standintest.Fault
		names  string // what the error names: IMS's error code, a setting, or the status
		kind   upstream.Kind
	}{
		{"wrong secret", func(c *config) { c.ClientSecret = newSecret("wrong") }, nil, "invalid_client: check ITM_TOKEN_SERVER_CLIENT_ID", upstream.Refused},
		{"wrong client", func(c *config) { c.ClientID = "wrong" }, nil, "invalid_client: check ITM_TOKEN_SERVER_CLIENT_ID", upstream.Refused},
		{"wrong scope", func(c *config) { c.Scope = "imodels:read" }, nil, "invalid_scope: set ITM_TOKEN_SERVER_SCOPE", upstream.Refused},
		{"an application of another type", nil, oauthError(`"unauthorized_client"`), "unauthorized_client: use an application of type Service", upstream.Refused},
		{"an application of another type, in other words", nil, oauthError(`"invalid_grant"`), "invalid_grant: use an application of type Service", upstream.Refused},
		{"another server", nil, oauthError(`"unsupported_grant_type"`), "unsupported_grant_type: check ITM_TOKEN_SERVER_AUTHORITY", upstream.Refused},
		{"another protocol", nil, oauthError(`"invalid_request"`), "invalid_request: check ITM_TOKEN_SERVER_AUTHORITY", upstream.Refused},
		{"an unknown error code", nil, oauthError(`"` + standintest.Canary + `"`), "status 400 without a known error code: check ITM_TOKEN_SERVER_AUTHORITY", upstream.Refused},
		{"an error code that is a number", nil, oauthError("7"), "status 400 without a known error code: check ITM_TOKEN_SERVER_AUTHORITY", upstream.Refused},
		{"503", nil, standintest.Status(503), "status 503: IMS has a problem", upstream.Refused},
		{"429", nil, standintest.Status(429), "status 429", upstream.Throttled},
		{"404", nil, standintest.Status(404), "status 404 without a known error code: check ITM_TOKEN_SERVER_AUTHORITY", upstream.Refused},
		{"throttled", nil, standintest.Throttle("12"), "asked to wait 12 s", upstream.Throttled},
		{"HTML", nil, standintest.Answer(200, "text/html", "<p>"+standintest.Canary), "check ITM_TOKEN_SERVER_AUTHORITY", upstream.Nonsense},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.IMS.Misbehave(tt.fault)
			_, _, err := oneGrant(t, s, tt.change)
			var failed *upstream.Error
			if !errors.As(err, &failed) || failed.Kind != tt.kind || !strings.HasPrefix(failed.Text, "ims.bentley.test: ") || !strings.Contains(failed.Text, tt.names) {
				t.Errorf("grant = %v, want ims.bentley.test: … %s … (%s)", err, tt.names, tt.kind)
			}
			if strings.Contains(err.Error(), standintest.Canary) {
				t.Errorf("grant = %v, with IMS's own text", err)
			}
		})
	}
}

func TestParseGrant(t *testing.T) {
	const refused = 0 * time.Second
	for life, bodies := range map[time.Duration][]string{
		time.Hour: {`{"access_token":"a","token_type":"Bearer","expires_in":3600}`},
		time.Minute: {
			`{"access_token":"a","token_type":"bearer","expires_in":60}`, `{"access_token":"a","expires_in":60}`, `{"access_token":"a","expires_in":"60"}`,
		},
		1500 * time.Millisecond: {`{"access_token":"a","expires_in":1.5}`},
		time.Second:             {`{"access_token":"a","expires_in":1}`},
		5 * time.Minute:         {`{"access_token":"a"}`, `{"access_token":"a","expires_in":null}`},
		24 * time.Hour:          {`{"access_token":"a","expires_in":"99999999999"}`, `{"access_token":"a","expires_in":1e300}`},
		refused: {
			`{"access_token":"a","token_type":"mac","expires_in":60}`, `{"token_type":"Bearer","expires_in":60}`, `{"access_token":"","expires_in":60}`,
			`{"access_token":"a b","expires_in":60}`, `{"access_token":"a\nb","expires_in":60}`, `{"access_token":"a\u007fb","expires_in":60}`,
			`{"access_token":"é","expires_in":60}`, `{"access_token":7,"expires_in":60}`, `[]`, `null`, ``, `{"access_token":"a"}{"access_token":"b"}`,
		},
	} {
		for _, body := range bodies {
			wantGrant(t, body, life)
		}
	}
	for _, expires := range []string{
		`0.99`, `1e-7`, `0`, `-1`, `1e400`, `true`, `[60]`, `{}`, `"Infinity"`, `"NaN"`, `"0x1p4"`, `"1_000"`, `"+60"`, `" 60"`, `"60.5"`, `"0x10"`,
		`""`, `"0"`, `"an hour"`,
	} {
		wantGrant(t, fmt.Sprintf(`{"access_token":"a","expires_in":%s}`, expires), refused)
	}
}

// wantGrant wants the token a with the lifetime, or an error with none.
func wantGrant(t *testing.T, body string, want time.Duration) {
	t.Helper()
	access, life, err := parseGrant(upstream.Answer{Host: "ims.test", Body: []byte(body)})
	if accepted := want > 0; (err == nil) != accepted || accepted && (life != want || access != "a") {
		t.Errorf("parseGrant(%s) = %q, %v, %v; want a life of %v", body, access, life, err, want)
	}
}

// renewing runs a test in a bubble with a token that is renewed. IMS issues tokens of
// the life, each after the delay.
func renewing(t *testing.T, life, delay time.Duration, test func(s *standintest.Standin, tokens *fresh.Value[*itwinToken])) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := standintest.New(t)
		s.IMS.SetLife(life)
		if delay > 0 {
			s.IMS.Misbehave(standintest.Delay(delay))
		}
		tokens := newTokens(testConfig(s), s.Transport(), nil)
		background(t, tokens.Run)
		getToken(tokens)
		test(s, tokens)
	})
}

func getToken(tokens *fresh.Value[*itwinToken]) (*itwinToken, time.Duration, error) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), maxWait)
	defer cancel()
	token, err := tokens.Get(ctx)
	return token, time.Since(begun), err
}

func TestShortTokensAndASlowIMS(t *testing.T) {
	const life = 20 * time.Second
	renewing(t, life, time.Second, func(s *standintest.Standin, tokens *fresh.Value[*itwinToken]) {
		for range 6000 { // ten minutes
			token, took, err := getToken(tokens)
			if err != nil || took != 0 {
				t.Fatalf("a token after %v, %v; want one at once", took, err)
			}
			if left := time.Until(token.expiry); left < life*4/10 {
				t.Fatalf("a token with %v left, want at least 40%% of %v", left, life)
			}
			time.Sleep(100 * time.Millisecond)
		}
		// Renewed after 9 to 10 s: 60 to 67 times.
		if n := s.IMS.Requests(); n < 60 || n > 67 {
			t.Errorf("%d grants, want 60 to 67", n)
		}
	})
}

func TestTheTokenServesUntilItsLastSecondsWhenIMSIsDown(t *testing.T) {
	for life, last := range map[time.Duration]time.Duration{time.Hour: 5 * time.Second, 20 * time.Second: 2 * time.Second, 50 * time.Second: 5 * time.Second} {
		renewing(t, life, 0, func(s *standintest.Standin, tokens *fresh.Value[*itwinToken]) {
			s.IMS.Misbehave(standintest.HangUp())
			time.Sleep(life - last - time.Millisecond)
			if _, took, err := getToken(tokens); err != nil || took != 0 {
				t.Errorf("life %v: before the last %v: a token after %v, %v; want one at once", life, last, took, err)
			}
			time.Sleep(time.Millisecond)
			if token, _, err := getToken(tokens); err == nil {
				t.Errorf("life %v: in the last %v: a token with %v left, want an error", life, last, time.Until(token.expiry))
			}
		})
	}
}

// The lifetime counts from the request: IMS may have issued the token at any
// moment after it.
func TestASlowGrantDoesNotExtendTheToken(t *testing.T) {
	renewing(t, time.Minute, 8*time.Second, func(_ *standintest.Standin, tokens *fresh.Value[*itwinToken]) {
		if left := time.Until(tokens.Last().expiry); left != 52*time.Second {
			t.Errorf("%v left after a grant of 8 s, want 52 s", left)
		}
	})
}

// FuzzGrant checks that whatever IMS answers, an accepted token can be sent in a
// header and lives for a second at least, and that no error has IMS's text.
func FuzzGrant(f *testing.F) {
	f.Add(200, []byte(`{"access_token":"a","token_type":"Bearer","expires_in":3600}`))
	f.Add(200, []byte(`{"access_token":"a b","expires_in":"1e9"}`))
	f.Add(200, []byte(`{"access_token":"`+standintest.Canary+`","token_type":"mac"}`))
	f.Add(400, []byte(`{"error":"invalid_client","error_description":"`+standintest.Canary+`"}`))
	f.Add(400, []byte(`{"error":"`+standintest.Canary+`"}`))
	f.Add(503, []byte(`<html>`+standintest.Canary))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		answer := upstream.Answer{Host: "ims.test", Status: status, Body: body}
		access, life, err := parseGrant(answer)
		if err == nil && (access == "" || strings.ContainsAny(access, " \r\n\t\x00") || life < time.Second || life > maxLifetime) {
			t.Fatalf("parseGrant(%q) = %q, %v", body, access, life)
		}
		for _, err := range []error{err, grantError(answer)} {
			if err == nil {
				continue
			}
			var failed *upstream.Error
			if !errors.As(err, &failed) || strings.Contains(err.Error(), standintest.Canary) {
				t.Fatalf("an answer of %q makes the error %v", body, err)
			}
		}
	})
}

func TestARotatedSecretNeedsNoRestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	synctest.Test(t, func(t *testing.T) {
		s := standintest.New(t)
		c := testConfig(s)
		c.ClientSecret, c.SecretFile = secret{}, file
		rotate := func(text string) {
			s.IMS.SetClient(c.ClientID, text)
			write(t, filepath.Dir(file), "secret", text+"\n")
		}
		rotate("old")
		tokens := newTokens(c, s.Transport(), nil)
		background(t, tokens.Run)
		getToken(tokens)
		rotate("new")
		time.Sleep(2 * time.Hour)
		if _, _, err := getToken(tokens); err != nil {
			t.Errorf("two hours after the rotation: %v, want a token", err)
		}
	})
}
