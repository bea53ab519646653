package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/fresh"
	"itwin-token-server/internal/standin"
	"itwin-token-server/internal/upstream"
)

// oneGrant makes one grant.
func oneGrant(t *testing.T, s *standin.Standin, change func(*config)) (string, time.Duration, error) {
	t.Helper()
	c := testConfig(s)
	if change != nil {
		change(&c)
	}
	return grant(t.Context(), c, s.Transport())
}

func TestGrant(t *testing.T) {
	s := standin.ForTest(t)
	access, life, err := oneGrant(t, s, nil)
	if err != nil || !s.IMS.Valid(access) || life != time.Hour {
		t.Errorf("grant = a valid token: %v, %v, %v; want true, 1h, no error", s.IMS.Valid(access), life, err)
	}
}

func TestSecretsArriveUnchanged(t *testing.T) {
	s := standin.ForTest(t)
	for _, text := range []string{
		`+/=:%&$#"`, `a b`, ` lead and trail `, `100%25`, `pa$WORD`, `it's`, `"quoted"`, `back\slash\n`, `a+b/c==`, "é€😀", `#comment`, `a=b&c=d`,
	} {
		id := "id with " + text
		s.IMS.SetClient(id, text)
		file := filepath.Join(t.TempDir(), "secret")
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for from, change := range map[string]func(*config){
			"settings": func(c *config) { c.ClientID, c.ClientSecret = id, newSecret(text) },
			"file":     func(c *config) { c.ClientID, c.ClientSecret, c.SecretFile = id, secret{}, file },
		} {
			if _, _, err := oneGrant(t, s, change); err != nil {
				t.Errorf("grant with the secret %q from %s = %v, want a token", text, from, err)
			}
		}
	}
}

func TestARotatedSecretFileNeedsNoRestart(t *testing.T) {
	s := standin.ForTest(t)
	file := filepath.Join(t.TempDir(), "secret")
	change := func(c *config) { c.ClientSecret, c.SecretFile = secret{}, file }
	id := s.IMS.ClientID()
	for _, text := range []string{"one", "two"} {
		s.IMS.SetClient(id, text)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, _, err := oneGrant(t, s, change); err != nil {
			t.Errorf("grant with the secret %s = %v, want a token", text, err)
		}
	}
	os.Remove(file)
	_, _, err := oneGrant(t, s, change)
	if err == nil || !strings.HasPrefix(err.Error(), "ITM_TOKEN_SERVER_CLIENT_SECRET_FILE: want ") {
		t.Errorf("grant without the file = %v, want the setting named", err)
	}
	if got := problemOf(err).status; got != 502 {
		t.Errorf("status %d, want 502", got)
	}
}

func TestRefusedGrants(t *testing.T) {
	s := standin.ForTest(t)
	oauthError := func(code string) standin.Fault {
		return standin.Answer(400, "application/json", `{"error":`+code+`,"error_description":"`+standin.Canary+`"}`)
	}
	for _, tt := range []struct {
		name   string
		change func(*config)
		fault  standin.Fault
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
		{"an unknown error code", nil, oauthError(`"` + standin.Canary + `"`), "status 400 without a known error code: check ITM_TOKEN_SERVER_AUTHORITY", upstream.Refused},
		{"an error code that is a number", nil, oauthError("7"), "status 400 without a known error code: check ITM_TOKEN_SERVER_AUTHORITY", upstream.Refused},
		{"503", nil, standin.Status(503), "status 503", upstream.Refused},
		{"429", nil, standin.Status(429), "status 429", upstream.Throttled},
		{"404", nil, standin.Status(404), "status 404 without a known error code: check ITM_TOKEN_SERVER_AUTHORITY", upstream.Refused},
		{"throttled", nil, standin.Throttle("12"), "asked to wait 12 s", upstream.Throttled},
		{"HTML", nil, standin.Answer(200, "text/html", "<p>"+standin.Canary), "check ITM_TOKEN_SERVER_AUTHORITY", upstream.Nonsense},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.IMS.Misbehave(tt.fault)
			_, _, err := oneGrant(t, s, tt.change)
			var failed *upstream.Error
			if !errors.As(err, &failed) || failed.Kind != tt.kind || !strings.HasPrefix(failed.Text, "ims.bentley.test: ") || !strings.Contains(failed.Text, tt.names) {
				t.Errorf("grant = %v, want ims.bentley.test: … %s … (%s)", err, tt.names, tt.kind)
			}
			if strings.Contains(err.Error(), standin.Canary) {
				t.Errorf("grant = %v, with IMS's own text", err)
			}
		})
	}
}

func TestParseGrant(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		life       time.Duration // 0: refused
	}{
		{"whole", `{"access_token":"a","token_type":"Bearer","expires_in":3600}`, time.Hour},
		{"type in lower case", `{"access_token":"a","token_type":"bearer","expires_in":60}`, time.Minute},
		{"no type", `{"access_token":"a","expires_in":60}`, time.Minute},
		{"no expires_in", `{"access_token":"a"}`, 5 * time.Minute},
		{"expires_in null", `{"access_token":"a","expires_in":null}`, 5 * time.Minute},
		{"expires_in a string", `{"access_token":"a","expires_in":"3599"}`, 3599 * time.Second},
		{"expires_in a fraction", `{"access_token":"a","expires_in":1.5}`, 1500 * time.Millisecond},
		{"expires_in 1", `{"access_token":"a","expires_in":1}`, time.Second},
		{"expires_in under 1", `{"access_token":"a","expires_in":0.99}`, 0},
		{"expires_in 1e-7", `{"access_token":"a","expires_in":1e-7}`, 0},
		{"expires_in true", `{"access_token":"a","expires_in":true}`, 0},
		{"expires_in Infinity", `{"access_token":"a","expires_in":"Infinity"}`, 0},
		{"expires_in hexadecimal", `{"access_token":"a","expires_in":"0x1p4"}`, 0},
		{"expires_in with an underscore", `{"access_token":"a","expires_in":"1_000"}`, 0},
		{"expires_in with a sign", `{"access_token":"a","expires_in":"+60"}`, 0},
		{"expires_in with a space", `{"access_token":"a","expires_in":" 60"}`, 0},
		{"expires_in a fraction as a string", `{"access_token":"a","expires_in":"60.5"}`, 0},
		{"expires_in a string of years", `{"access_token":"a","expires_in":"99999999999"}`, 24 * time.Hour},
		{"expires_in of years", `{"access_token":"a","expires_in":1e300}`, 24 * time.Hour},
		{"expires_in 0", `{"access_token":"a","expires_in":0}`, 0},
		{"expires_in negative", `{"access_token":"a","expires_in":-1}`, 0},
		{"expires_in too much for a number", `{"access_token":"a","expires_in":1e400}`, 0},
		{"expires_in NaN", `{"access_token":"a","expires_in":"NaN"}`, 0},
		{"expires_in an empty string", `{"access_token":"a","expires_in":""}`, 0},
		{"expires_in words", `{"access_token":"a","expires_in":"an hour"}`, 0},
		{"expires_in a list", `{"access_token":"a","expires_in":[60]}`, 0},
		{"another type", `{"access_token":"a","token_type":"mac","expires_in":60}`, 0},
		{"no token", `{"token_type":"Bearer","expires_in":60}`, 0},
		{"an empty token", `{"access_token":"","expires_in":60}`, 0},
		{"a token with a space", `{"access_token":"a b","expires_in":60}`, 0},
		{"a token with a newline", `{"access_token":"a\nb","expires_in":60}`, 0},
		{"a token with DEL", `{"access_token":"a\u007fb","expires_in":60}`, 0},
		{"a token beyond ASCII", `{"access_token":"é","expires_in":60}`, 0},
		{"a token that is a number", `{"access_token":7,"expires_in":60}`, 0},
		{"a list", `[]`, 0},
		{"null", `null`, 0},
		{"nothing", ``, 0},
		{"two answers", `{"access_token":"a"}{"access_token":"b"}`, 0},
	} {
		access, life, err := parseGrant(upstream.Answer{Host: "ims.test", Body: []byte(tt.body)})
		if life != tt.life || (err == nil) != (tt.life > 0) || (err == nil) != (access == "a") {
			t.Errorf("parseGrant(%s) = %q, %v, %v; want a life of %v", tt.name, access, life, err, tt.life)
		}
	}
}

// runTokens returns tokens that are renewed until the test ends.
func runTokens(t *testing.T, s *standin.Standin) *fresh.Value[itwinToken] {
	t.Helper()
	tokens := newTokens(testConfig(s), s.Transport(), nil)
	background(t, tokens.Run)
	return tokens
}

func getToken(tokens *fresh.Value[itwinToken]) (itwinToken, time.Duration, error) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), maxWait)
	defer cancel()
	token, err := tokens.Get(ctx)
	return token, time.Since(begun), err
}

func TestShortTokensAndASlowIMS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := standin.ForTest(t)
		const life = 20 * time.Second
		s.IMS.SetLife(life)
		s.IMS.Misbehave(standin.Delay(time.Second))
		tokens := runTokens(t, s)
		getToken(tokens)
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
		if n := s.IMS.Requests(); n < 60 || n > 67 || s.IMS.MostAtOnce() != 1 {
			t.Errorf("%d grants, %d at once; want 60 to 67, one at a time", n, s.IMS.MostAtOnce())
		}
	})
}

func TestTheTokenServesUntilItsLastSecondsWhenIMSIsDown(t *testing.T) {
	for _, tt := range []struct{ life, last time.Duration }{
		{time.Hour, 5 * time.Second}, {20 * time.Second, 2 * time.Second}, {50 * time.Second, 5 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := standin.ForTest(t)
			s.IMS.SetLife(tt.life)
			tokens := runTokens(t, s)
			getToken(tokens)
			s.IMS.Stop()
			time.Sleep(tt.life - tt.last - time.Millisecond)
			if _, took, err := getToken(tokens); err != nil || took != 0 {
				t.Errorf("life %v: before the last %v: a token after %v, %v; want one at once", tt.life, tt.last, took, err)
			}
			time.Sleep(time.Millisecond)
			_, _, err := getToken(tokens)
			if got := problemOf(err).status; got != 503 {
				t.Errorf("life %v: in the last %v: %v, status %d; want 503", tt.life, tt.last, err, got)
			}
			time.Sleep(minRetry) // the fetch that this request brought forward fails too
			synctest.Wait()
			if err := s.IMS.Restart(); err != nil {
				t.Fatal(err)
			}
			getToken(tokens) // brings the next fetch forward
			time.Sleep(minRetry)
			if _, took, err := getToken(tokens); err != nil || took != 0 {
				t.Errorf("life %v: after IMS's return: a token after %v, %v; want one at once", tt.life, took, err)
			}
		})
	}
}

// minRetry is a little more than the least time between two grants.
const minRetry = time.Second + time.Millisecond

func TestAHangingIMSKeepsCallersTenSecondsAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := standin.ForTest(t)
		s.IMS.Misbehave(standin.Hang())
		tokens := runTokens(t, s)
		for range 100 {
			_, took, err := getToken(tokens)
			if got := problemOf(err).status; took > maxWait || got != 504 {
				t.Fatalf("%v after %v, status %d; want 504 within %v", err, took, got, maxWait)
			}
			time.Sleep(700 * time.Millisecond)
		}
	})
}

// The lifetime counts from the request: IMS may have issued the token at any
// moment after it.
func TestASlowGrantDoesNotExtendTheToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := standin.ForTest(t)
		s.IMS.SetLife(time.Minute)
		s.IMS.Misbehave(standin.Delay(8 * time.Second))
		token, _, err := getToken(runTokens(t, s))
		if err != nil {
			t.Fatal(err)
		}
		if left := time.Until(token.expiry); left != 52*time.Second {
			t.Errorf("%v left after a grant of 8 s, want 52 s", left)
		}
	})
}

func TestFingerprint(t *testing.T) {
	token := newItwinToken("a-token", time.Now())
	sum := sha256.Sum256([]byte("a-token"))
	if want := hex.EncodeToString(sum[:])[:12]; token.fingerprint != want {
		t.Errorf("fingerprint %q, want %q", token.fingerprint, want)
	}
}

// FuzzGrant checks that whatever IMS answers, an accepted token can be sent in a
// header and lives for a second at least, and that no error has IMS's text.
func FuzzGrant(f *testing.F) {
	f.Add(200, []byte(`{"access_token":"a","token_type":"Bearer","expires_in":3600}`))
	f.Add(200, []byte(`{"access_token":"a b","expires_in":"1e9"}`))
	f.Add(200, []byte(`{"access_token":"`+standin.Canary+`","token_type":"mac"}`))
	f.Add(400, []byte(`{"error":"invalid_client","error_description":"`+standin.Canary+`"}`))
	f.Add(400, []byte(`{"error":"`+standin.Canary+`"}`))
	f.Add(503, []byte(`<html>`+standin.Canary))
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
			if !errors.As(err, &failed) || strings.Contains(err.Error(), standin.Canary) {
				t.Fatalf("an answer of %q makes the error %v", body, err)
			}
		}
	})
}
