package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"itwin-token-server/internal/problem"
	"itwin-token-server/internal/standin/standintest"
)

// wantVerify verifies a token twice, since the second time it may be found in the cache, and
// wants the problem each time, nil for none.
func (s *testServer) wantVerify(name, token string, want *problem.Problem) {
	s.t.Helper()
	for range 2 {
		if err := s.verify(token); err != want {
			s.t.Errorf("verify(%s) = %v, want %v", name, err, want)
		}
	}
}

// wantAtOnce is wantVerify in a bubble, where a token that waits for nothing takes no time.
func (s *testServer) wantAtOnce(name, token string, want *problem.Problem) {
	s.t.Helper()
	start := time.Now()
	s.wantVerify(name, token, want)
	if took := time.Since(start); took != 0 {
		s.t.Errorf("verify(%s) took %v, want it at once", name, took)
	}
}

// wantClaim wants the problem for an access token with each of the values as a claim; nil
// deletes it.
func (s *testServer) wantClaim(claim string, want *problem.Problem, values ...any) {
	s.t.Helper()
	for _, v := range values {
		token := s.userToken(standintest.Claims{claim: v})
		s.wantVerify(fmt.Sprintf("%s %q", claim, v), token, want)
	}
}

// wantField is wantClaim for a field of the header.
func (s *testServer) wantField(field string, want *problem.Problem, values ...any) {
	s.t.Helper()
	for _, v := range values {
		s.wantVerify(fmt.Sprintf("%s %q", field, v), s.withHeader(standintest.Claims{field: v}), want)
	}
}

// withHeader returns an access token with a changed header; nil deletes a field.
func (s *testServer) withHeader(change standintest.Claims) string {
	return s.Tenant.Sign(change, s.Tenant.Claims(testAudience))
}

// ofNextKey signs with the tenant's next key. After Rotate the server has not seen this key.
func (s *testServer) ofNextKey() string {
	return s.Tenant.SignWith(s.Tenant.NextKey(), nil, s.Tenant.Claims(testAudience))
}

// withJSON appends the text to an access token's claims. It need not be valid; of a repeated
// name the last counts.
func (s *testServer) withJSON(more string) string {
	return s.sign(strings.TrimSuffix(s.claims(), "}") + "," + more + "}")
}

// claims are those of an access token, as JSON.
func (s *testServer) claims() string {
	return string(must(json.Marshal(s.Tenant.Claims(testAudience))))
}

// sign signs any text as claims, by RS256 with the tenant's key.
func (s *testServer) sign(claims string) string {
	signed := base64url(`{"alg":"RS256","kid":"`+s.Tenant.Key().ID+`"}`) + "." + base64url(claims)
	signature := must(jwt.SigningMethodRS256.Sign(signed, s.Tenant.Key().Private))
	return signed + "." + base64url(string(signature))
}

func base64url(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// signedPart is the part of a token that its signature covers.
func signedPart(token string) string { return token[:strings.LastIndexByte(token, '.')] }

// forge returns the token with another signature.
func forge(token, signature string) string { return signedPart(token) + "." + base64url(signature) }

func TestGoodTokens(t *testing.T) {
	s := newServer(t, nil)
	s.wantVerify("an access token", s.userToken(), nil)
	s.wantVerify("an ID token", s.Tenant.IDToken(testClient), nil)
	s.wantVerify("of the next key", s.ofNextKey(), nil)
	s.wantClaim("permissions", nil, slices.Repeat([]string{"read:items"}, 380)) // 6 KiB

	s = newServer(t, func(c *config) { c.Audiences = nil })
	s.wantClaim("aud", nil, nil, "https://other.example", []string{"a", "b"})
}

func TestClaims(t *testing.T) {
	testServing(t, nil, func(t *testing.T, s *testServer) {
		now, issuer := time.Now().Unix(), "https://"+s.Tenant.Domain()
		s.wantClaim("exp", nil, now-29, float64(now)+0.5, 1<<53)
		s.wantClaim("exp", problem.NoExpiry, nil)
		s.wantClaim("exp", problem.Expired, 0, -1, now-3600, now-30)
		s.wantClaim("exp", problem.Claims, "4102444800", []int64{now + 3600}, true)
		s.wantClaim("exp", problem.Claims, 1<<53+2) // the next float64
		for _, claim := range []string{"nbf", "iat"} {
			s.wantClaim(claim, nil, nil, 0, now+30)
			s.wantClaim(claim, problem.NotYet, now+31)
			s.wantClaim(claim, problem.Claims, "0", 1e19, -1e19)
		}
		s.wantClaim("iss", problem.Issuer, nil, "", 1, []string{issuer + "/"}, issuer, issuer+"//")
		s.wantClaim("iss", problem.Issuer, issuer+".evil.example/", strings.ToUpper(issuer)+"/")
		s.wantClaim("aud", nil, testAudience, testClient, []string{"a", testAudience})
		s.wantClaim("aud", problem.Audience, nil, "", []string{}, 1, "other", testAudience+"/")
		s.wantClaim("aud", problem.Claims, []any{1, testAudience})
		s.wantClaim("sub", nil, nil, 7)
	})
}

// Numbers may have any form that JSON allows; only the times are converted. Names match
// exactly. Of several problems the one that explains the others counts.
func TestClaimsInJSON(t *testing.T) {
	s := newServer(t, nil)
	const digits = "123456789012345678901234567890"
	wantEach := func(want *problem.Problem, texts ...string) {
		t.Helper()
		for _, text := range texts {
			s.wantVerify(text, s.withJSON(text), want)
		}
	}
	wantEach(nil, `"x":-0,"y":[{"z":1e-7}]`, `"x":-1E+3`, `"x":[9e-323]`, `"x":1e400`, `"x":`+digits)
	wantEach(nil, `"exp":4.1e9`, `"exp":4102444800.0`+digits, `"nbf":1e-7`, `"iat":1.7e+9`)
	wantEach(problem.Expired, `"exp":1e-7`, `"exp":4102444800,"exp":1`, `"aud":"other","exp":1`)
	wantEach(problem.Claims, `"exp":1e19`, `"exp":1e400`, `"nbf":-1e400`, `"iat":`+digits)
	wantEach(problem.Malformed, `"exp":NaN`, `"x":01`, `"x":.5`)
	wantEach(problem.NoExpiry, `"exp":null`, `"exp":null,"EXP":4102444800`)
	wantEach(problem.Issuer, `"iss":"x","ISS":"`+s.Tenant.Issuer()+`"`)
	wantEach(problem.Issuer, `"iss":"https://other/","exp":1`)
}

func TestHeaders(t *testing.T) {
	testServing(t, nil, func(t *testing.T, s *testServer) {
		s.wantField("alg", problem.Algorithm, nil, "none", "NONE", "nOnE", "rs256")
		s.wantField("kid", problem.NoKeyID, nil, "", json.RawMessage("null"))
		s.wantField("kid", problem.UnknownKey, "../../dev/null", "unknown")
		s.wantField("kid", problem.Signature, s.Tenant.NextKey().ID)
		s.wantField("crit", problem.Malformed, []string{}, []string{"exp"}, "", "exp")
		s.wantField("typ", nil, nil, "JWT", "jwt", "AT+JWT", "application/at+jwt", "Application/JWT")
		s.wantField("typ", problem.Type, "", "logout+jwt", "application/", "x/jwt")
		s.wantField("jku", nil, s.Tenant.Issuer()+"elsewhere")
		s.wantField("x5u", nil, s.Tenant.Issuer()+"elsewhere")
		s.wantField("x", nil, strings.Repeat("x", 400), json.RawMessage("null")) // null: as empty
		s.wantField("x", problem.TooLong, strings.Repeat("x", 500))
		for _, field := range []string{"alg", "kid", "typ", "jwk", "x5c", "x"} { // must be strings
			s.wantField(field, problem.Malformed, 1, json.RawMessage("1e400"), true, []string{"RS256"})
		}
		s.wantField("Kid", nil, "unknown") // another field
		twoAlgs := base64url(`{"alg":"RS256","alg":"none"}`) + ".e30.AA"
		s.wantVerify("two algs", twoAlgs, problem.Algorithm)
		// One for the keys. They are less than 10 s old, so unknown kids caused no other.
		if s.Tenant.Requests() != 1 {
			t.Errorf("%d requests to the tenant, want 1: no URL is followed", s.Tenant.Requests())
		}
	})
}

func TestForgedTokens(t *testing.T) {
	s := newServer(t, nil)
	key, stranger := s.Tenant.Key().Private, must(rsa.GenerateKey(rand.Reader, 2048))
	// The public key as the secret of an HMAC, for verifiers that take the token's word
	// for the algorithm.
	pkix := must(x509.MarshalPKIXPublicKey(&key.PublicKey))
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix})
	for _, test := range []struct {
		method jwt.SigningMethod
		key    any
		want   *problem.Problem
	}{
		{jwt.SigningMethodRS256, stranger, problem.Signature},
		{jwt.SigningMethodRS256, s.Tenant.NextKey().Private, problem.Signature},
		{jwt.SigningMethodPS256, key, problem.Algorithm},
		{jwt.SigningMethodRS384, key, problem.Algorithm},
		{jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, problem.Algorithm},
		{jwt.SigningMethodHS256, asPEM, problem.Algorithm},
	} {
		token := jwt.NewWithClaims(test.method, jwt.MapClaims(s.Tenant.Claims(testAudience)))
		token.Header["kid"] = s.Tenant.Key().ID
		s.wantVerify(test.method.Alg(), must(token.SignedString(test.key)), test.want)
	}

	token, other := s.userToken(), s.userToken(standintest.Claims{"sub": "auth0|another"})
	signature := string(must(base64.RawURLEncoding.DecodeString(token[len(signedPart(token))+1:])))
	for _, wrong := range []string{"", signature[1:], signature + signature, "forged"} {
		s.wantVerify("another signature", forge(token, wrong), problem.Signature)
	}
	s.wantVerify("another token's", forge(other, signature), problem.Signature)
}

func TestMalformedTokens(t *testing.T) {
	s := newServer(t, nil)
	token := s.userToken()
	parts := strings.Split(token, ".")
	header, claims, signature := parts[0], parts[1], parts[2]
	for _, malformed := range []string{
		"", "..", "." + claims + "." + signature, header + ".." + signature, "a.b.c.d.e",
		token[:100], token + ".", token + "...", token + " ", strings.Repeat(".", 8<<10),
		header + ". " + claims + "." + signature,             // a space in it
		header + "==." + claims + "." + signature,            // padding
		signedPart(token) + ".+/" + signature[2:],            // the other alphabet
		token[:len(token)-1] + string(token[len(token)-1]+1), // loose last bits
		s.sign("[" + s.claims() + "]"), s.sign(`"claims"`), s.sign("{"), s.sign("\xff\xfe{}"),
	} {
		s.wantVerify(fmt.Sprintf("%.200q", malformed), malformed, problem.Malformed)
	}
}

// Only an opaque token is told to request an audience.
func TestTokensThatAreNoJWT(t *testing.T) {
	s := newServer(t, nil)
	s.wantVerify("opaque", s.Tenant.OpaqueToken(), problem.NotJWT)
	s.wantVerify("of an older tenant", "hH0xJtqyUnpgqLHaLQvnJWBT-GVkoy_1", problem.NotJWT)
	encrypted := base64url(`{"alg":"RSA-OAEP-256","enc":"A256GCM"}`) + ".key.iv.text.tag"
	s.wantVerify("encrypted", encrypted, problem.Encrypted)
	s.wantVerify("a secret", "hH0xJtqyUnpgqLHaLQvnJWBT+GVkoy/1", problem.Malformed)
}

func TestOrganizations(t *testing.T) {
	s := newServer(t, func(c *config) { c.Organizations = []string{"org_1", "acme"} })
	for _, test := range []struct {
		id, name any
		want     *problem.Problem
	}{
		{id: "org_1", name: "", want: nil},
		{id: "org_2", name: "acme", want: nil},
		{id: "org_2", name: "ACME", want: nil},
		{id: nil, name: nil, want: problem.Organization},
		{id: "ORG_1", name: "", want: problem.Organization},
		{id: "org_2", name: "org_1", want: problem.Organization}, // a name is no ID
		{id: "org_2", name: "ORG_1", want: problem.Organization},
		{id: "acme", name: "", want: problem.Organization},
		{id: []string{"org_1"}, name: []string{"acme"}, want: problem.Organization},
	} {
		token := s.userToken(standintest.Claims{"org_id": test.id, "org_name": test.name})
		s.wantVerify(fmt.Sprintf("org_id %q, org_name %q", test.id, test.name), token, test.want)
	}
	s.wantClaim("ORG_ID", problem.Organization, "org_1")
}

func TestRequiredScopes(t *testing.T) {
	s := newServer(t, func(c *config) { c.RequiredScopes = []string{"it:read", "it:write"} })
	for _, test := range []struct {
		scope, permissions any
		want               *problem.Problem
	}{
		{scope: "openid it:write it:read", want: nil},
		{permissions: []string{"it:read", "it:write"}, want: nil},
		{scope: "it:read", permissions: []string{"it:write"}, want: nil},
		{want: problem.Scope},
		{scope: "it:read it:write2", want: problem.Scope},
		{scope: "it:read", permissions: []string{"it:write2"}, want: problem.Scope},
		{scope: []string{"it:read", "it:write"}, want: problem.Scope},
		{permissions: "it:read it:write", want: problem.Scope},
	} {
		change := standintest.Claims{"scope": test.scope, "permissions": test.permissions}
		token := s.userToken(change)
		s.wantVerify(fmt.Sprint(change), token, test.want)
		// A token without a valid signature is not told about scopes.
		s.wantVerify("forged", forge(token, "forged"), problem.Signature)
	}
}

// Whatever is in a token with an unknown key, callers with known keys never wait, the
// keys are fetched six times a minute at most, and a rotation is seen within 15 s.
func TestUnknownKeys(t *testing.T) {
	testServing(t, nil, func(t *testing.T, s *testServer) {
		s.wantVerify("known key", s.userToken(), nil)
		s.Tenant.Misbehave(standintest.Delay(time.Second)) // so a caller with an unknown key waits 1 s
		later, start := "", time.Now()
		for second := range 60 {
			switch second {
			case 30:
				s.Tenant.Rotate()
				later = s.ofNextKey()
			case 45:
				s.wantAtOnce("new key", later, nil)
			}
			// This is in the middle of a fetch, if the unknown key causes one.
			time.AfterFunc(time.Second/2, func() { s.wantAtOnce("known key", s.userToken(), nil) })
			unknown := standintest.Claims{"kid": rand.Text()}
			s.wantVerify("unknown key", s.withHeader(unknown), problem.UnknownKey)
			s.wantVerify("without an issuer", s.Tenant.Sign(unknown, nil), problem.Issuer)
			time.Sleep(time.Until(start.Add(time.Duration(second+1) * time.Second)))
		}
		if n, took := s.Tenant.Requests(), time.Since(start); n > 6 || took != time.Minute {
			t.Errorf("%d fetches in %v, want 6 at most, in a minute", n, took)
		}
	})
}

// A key that is new while the tenant is down is no fault of the caller, whose app would
// sign the user out after a 401.
func TestUnknownKeyDuringAnOutage(t *testing.T) {
	for name, fault := range map[string]standintest.Fault{
		"hang up":  standintest.HangUp(),
		"too slow": standintest.Hang(),
		"nonsense": standintest.Answer(200, "text/html", "<p>"),
	} {
		testServing(t, nil, func(t *testing.T, s *testServer) {
			known := s.userToken()
			s.wantAtOnce("known key", known, nil)
			time.Sleep(10 * time.Second)
			s.Tenant.Rotate()
			s.Tenant.Misbehave(fault)
			token := s.ofNextKey()
			for range 20 {
				start := time.Now()
				err := s.verify(token)
				if took := time.Since(start); err != problem.KeysOutdated || took > 3*time.Second {
					t.Errorf("%s: verify(new key) = %v after %v, want %v within 3s",
						name, err, took, problem.KeysOutdated)
				}
				s.wantAtOnce(name+": known key", known, nil)
				time.Sleep(5 * time.Second)
			}
			s.Tenant.Behave()
			time.Sleep(32 * time.Second) // 35 s are promised, of which a caller may wait 3
			s.wantVerify(name+": new key after the outage", token, nil)
		})
	}
}

// A fetch of the same keys changes nothing. A new key is seen when a token with it comes,
// and a revoked one is refused.
func TestRotation(t *testing.T) {
	testServing(t, nil, func(t *testing.T, s *testServer) {
		token := s.userToken()
		s.wantAtOnce("current key", token, nil)
		keys := s.users.keys.Last()
		time.Sleep(time.Hour)
		if n := s.Tenant.Requests(); n < 12 || s.users.keys.Last() != keys {
			t.Errorf("%d fetches, want 12 or more that change nothing", n)
		}
		s.Tenant.Rotate()
		time.Sleep(10 * time.Second) // keys this old are fetched again
		s.wantAtOnce("new key", s.ofNextKey(), nil)
		s.wantAtOnce("former key", token, nil)
		s.Tenant.Revoke()
		time.Sleep(15 * time.Minute)
		s.wantAtOnce("revoked key", token, problem.UnknownKey)
	})
}

func TestARememberedTokenExpires(t *testing.T) {
	testServing(t, nil, func(t *testing.T, s *testServer) {
		token := s.userToken(standintest.Claims{"exp": time.Now().Add(time.Minute).Unix()})
		s.wantVerify("new", token, nil)
		time.Sleep(time.Minute + 30*time.Second - time.Millisecond)
		s.wantVerify("within the leeway", token, nil)
		time.Sleep(time.Millisecond)
		s.wantVerify("past the leeway", token, problem.Expired)
	})
}

func TestKeysServeForADayWithoutTheTenant(t *testing.T) {
	testServing(t, nil, func(t *testing.T, s *testServer) {
		token := s.userToken(standintest.Claims{"exp": time.Now().Add(72 * time.Hour).Unix()})
		s.wantAtOnce("before", token, nil)
		s.Tenant.Misbehave(standintest.Status(503))
		time.Sleep(24*time.Hour - time.Millisecond)
		s.wantAtOnce("after almost a day", token, nil)
		time.Sleep(time.Millisecond)
		s.wantAtOnce("after a day", token, problem.NoKeys)
		before := s.Tenant.Requests()
		time.Sleep(5 * time.Minute) // without callers
		if n := s.Tenant.Requests() - before; n < 5*60/15 {
			t.Errorf("%d fetches in 5 min, want at least one in 15 s", n)
		}
		s.Tenant.Behave()
		time.Sleep(15 * time.Second)
		s.wantAtOnce("15 s after the tenant's return", token, nil)
	})
}

// jwt decodes a token before it verifies the signature. Refusing the worst token that
// fits takes a bounded number of allocations; [TestClaimsInJSON] sees if it converts numbers.
//
// countValues counts 9 values in an unchanged token. 380 more, or 190 empty lists, which
// count twice, are just within maxValues, and 20 more exceed it. A value takes 3 allocations
// at most and the rest about 100, so all take less than 4 for each of maxValues.
func TestExpensiveTokens(t *testing.T) {
	s := newServer(t, nil)
	list := func(count int, open, end string) string {
		return `"x":[` + strings.Repeat(open, count) + "0" + strings.Repeat(end, count) + "]"
	}
	names := `"x":0`
	for i := range 380 {
		names += fmt.Sprintf(`,"x%07d":0`, i)
	}
	for name, claims := range map[string]string{
		"names": names, "lists": list(380, "[", "]"), "objects": list(380, `{"":`, "}"),
		"empty lists": list(190, "[],", ""), "escapes": list(380, `"\u0041",`, ""),
	} {
		worst := forge(s.withJSON(claims), "forged")
		s.wantVerify(name, worst, problem.Signature)
		more := s.withJSON(claims + `,"y":["` + strings.Repeat(`","`, 20) + `"]`)
		s.wantVerify("more than "+name, more, problem.TooLong)
		if got := testing.AllocsPerRun(10, func() { s.verify(worst) }); got > 4*maxValues {
			t.Errorf("refusing %s takes %v allocations, want at most %d", name, got, 4*maxValues)
		}
	}
}

// FuzzToken checks that nothing is accepted but what the tenant signed, and that every
// refusal is one of the table.
func FuzzToken(f *testing.F) {
	s := newServer(f, nil)
	token := s.userToken()
	f.Add(token)
	f.Add(s.Tenant.OpaqueToken())
	f.Add(s.withHeader(standintest.Claims{"x5c": []string{"MIIB"}, "crit": []string{"exp"}}))
	f.Add(s.withHeader(standintest.Claims{"kid": "unknown", "typ": "application/at+jwt"}))
	f.Add(s.withJSON(`"exp":4.1e9,"nbf":1e-7,"iat":123456789012345678901234567890`))
	f.Add(s.sign(`{"exp":1e400,"x":[[[{},9e-323]]]}`))
	f.Fuzz(func(t *testing.T, other string) {
		s.t = t // failures belong to this input
		if s.verify(other) == nil && signedPart(other) != signedPart(token) {
			t.Errorf("verify(%q) passed, and the tenant did not sign it", other)
		}
	})
}
