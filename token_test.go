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

// oneGrant makes one grant with a caller's patience.
func oneGrant(t *testing.T, s *standin.Standin, change func(*config)) (string, time.Duration, error) {
	t.Helper()
	c := testConfig(s)
	if change != nil {
		change(&c)
	}
	return grant(t.Context(), c, s.Transport())
}

func TestGrant(t *testing.T) {
	s := standins(t)
	access, life, err := oneGrant(t, s, nil)
	if err != nil || !s.IMS.Valid(access) || life != time.Hour {
		t.Errorf("grant = a valid token: %v, %v, %v; want true, 1h, no error", s.IMS.Valid(access), life, err)
	}
}

func TestSecretsArriveUnharmed(t *testing.T) {
	s := standins(t)
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
	s := standins(t)
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
	s := standins(t)
	for _, tt := range []struct {
		name   string
		change func(*config)
		fault  standin.Fault
		want   string // the text from the host on
		kind   upstream.Kind
	}{
		{"wrong secret", func(c *config) { c.ClientSecret = newSecret("wrong") }, nil, ": want a token, got invalid_client: " + advice["invalid_client"], upstream.Refused},
		{"wrong client", func(c *config) { c.ClientID = "wrong" }, nil, ": want a token, got invalid_client: " + advice["invalid_client"], upstream.Refused},
		{"wrong scope", func(c *config) { c.Scope = "imodels:read" }, nil, ": want a token, got invalid_scope: " + advice["invalid_scope"], upstream.Refused},
		{"an application of another type", nil, standin.Answer(400, "application/json", `{"error":"unauthorized_client"}`), ": want a token, got unauthorized_client: " + advice["unauthorized_client"], upstream.Refused},
		{"an error code of its own", nil, standin.Answer(400, "application/json", `{"error":"`+standin.Canary+`"}`), ": want a token, got status 400 without a known error code: check ITM_TOKEN_SERVER_AUTHORITY", upstream.Refused},
		{"an error code that is no text", nil, standin.Answer(400, "application/json", `{"error":7}`), ": want a token, got status 400 without a known error code: check ITM_TOKEN_SERVER_AUTHORITY", upstream.Refused},
		{"trouble", nil, standin.Status(503), ": want a token, got status 503: IMS has trouble: try again later", upstream.Refused},
		{"too many", nil, standin.Status(429), ": want a token, got status 429: IMS has trouble: try again later", upstream.Throttled},
		{"not there", nil, standin.Status(404), ": want a token, got status 404 without a known error code: check ITM_TOKEN_SERVER_AUTHORITY", upstream.Refused},
		{"HTML", nil, standin.Answer(200, "text/html", "<p>"+standin.Canary), ": want a token as JSON, got something else: check ITM_TOKEN_SERVER_AUTHORITY", upstream.Nonsense},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s.IMS.Behave()
			if tt.fault != nil {
				s.IMS.Misbehave(tt.fault)
			}
			_, _, err := oneGrant(t, s, tt.change)
			var failed *upstream.Error
			if !errors.As(err, &failed) || failed.Kind != tt.kind || failed.Text != "ims.bentley.test"+tt.want {
				t.Errorf("grant = %v, want ims.bentley.test%s (%s)", err, tt.want, tt.kind)
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
		access, life, err := parseGrant("ims.test", []byte(tt.body))
		if life != tt.life || (err == nil) != (tt.life > 0) || (err == nil) != (access == "a") {
			t.Errorf("parseGrant(%s) = %q, %v, %v; want a life of %v", tt.name, access, life, err, tt.life)
		}
	}
}

// runTokens runs the token's owner until the test's end.
func runTokens(t *testing.T, s *standin.Standin) *fresh.Value[*itwinToken] {
	t.Helper()
	tokens := newTokens(testConfig(s), s.Transport(), nil)
	owner(t, tokens.Run)
	return tokens
}

func getToken(tokens *fresh.Value[*itwinToken]) (*itwinToken, time.Duration, error) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	token, err := tokens.Get(ctx)
	return token, time.Since(begun), err
}

func TestShortTokensAndASlowIMS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := standins(t)
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
			if left := time.Until(token.expires); left < life*4/10 {
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
			s := standins(t)
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
			if err := s.IMS.Restart(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(minRetry)
			if _, took, err := getToken(tokens); err != nil || took != 0 {
				t.Errorf("life %v: after IMS's return: a token after %v, %v; want one at once", tt.life, took, err)
			}
		})
	}
}

// minRetry is a little more than the least time between two grants.
const minRetry = time.Second + time.Millisecond

func TestAHangingIMSKeepsNobodyOverTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := standins(t)
		s.IMS.Misbehave(standin.Hang())
		tokens := runTokens(t, s)
		for range 100 {
			_, took, err := getToken(tokens)
			if got := problemOf(err).status; took > patience || got != 504 {
				t.Fatalf("%v after %v, status %d; want 504 within %v", err, took, got, patience)
			}
			time.Sleep(700 * time.Millisecond)
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

// FuzzGrant holds that whatever IMS answers, a token that is taken can stand in
// a header and lives for a while, and that no text of IMS's is in an error.
func FuzzGrant(f *testing.F) {
	f.Add(200, []byte(`{"access_token":"a","token_type":"Bearer","expires_in":3600}`))
	f.Add(200, []byte(`{"access_token":"a b","expires_in":"1e9"}`))
	f.Add(200, []byte(`{"access_token":"`+standin.Canary+`","token_type":"mac"}`))
	f.Add(400, []byte(`{"error":"invalid_client","error_description":"`+standin.Canary+`"}`))
	f.Add(400, []byte(`{"error":"`+standin.Canary+`"}`))
	f.Add(503, []byte(`<html>`+standin.Canary))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		access, life, err := parseGrant("ims.test", body)
		if err == nil && (access == "" || strings.ContainsAny(access, " \r\n\t\x00") || life <= 0 || life > maxLife) {
			t.Fatalf("parseGrant(%q) = %q, %v", body, access, life)
		}
		for _, err := range []error{err, refusedGrant(upstream.Answer{Host: "ims.test", Status: status, Body: body})} {
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
