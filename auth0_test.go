package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"itwin-token-server/internal/problem"
	"itwin-token-server/internal/standin/standintest"
)

const (
	testAudience = "http://tokenserver.sample.bentley.com"
	testClient   = "an-application-of-the-tenant"
)

// testConfig is what a user of the stand-ins would set.
func testConfig(s *standintest.Standin) config {
	return config{
		ClientID: s.IMS.ClientID(), ClientSecret: newSecret(s.IMS.ClientSecret()),
		Domain: s.Tenant.Domain(), Audiences: []string{testAudience, testClient},
		Authority: s.IMS.URL(), Scope: "itwin-platform",
	}
}

// background runs a function until the test ends.
func background(t testing.TB, run func(context.Context)) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
}

// must is for what cannot fail.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A tenant is the stand-in tenant and a verifier of its tokens.
type tenant struct {
	*standintest.Tenant
	t        testing.TB
	verifier *verifier
}

// newTenant returns a tenant whose verifier fetches keys until the test ends.
func newTenant(t testing.TB, change func(*config)) *tenant {
	t.Helper()
	s := standintest.New(t)
	c := testConfig(s)
	if change != nil {
		change(&c)
	}
	v := newVerifier(c, s.Transport(), nil)
	background(t, v.keys.Run)
	return &tenant{s.Tenant, t, v}
}

// inBubble runs a test whose clock stands still while nobody waits.
func inBubble(t *testing.T, test func(n *tenant)) {
	synctest.Test(t, func(t *testing.T) { test(newTenant(t, nil)) })
}

// verify verifies a token and returns the problem, nil if there is none.
func (n *tenant) verify(token string) error {
	_, err := n.verifier.verify(context.Background(), token)
	if err == nil {
		return nil
	}
	p, ok := errors.AsType[*problem.Problem](err)
	if !ok || !slices.Contains(problem.All(), p) {
		n.t.Errorf("verify returns %v, which is not in the table of problems", err)
	}
	return p
}

// want verifies a token twice, since the first may be remembered, and wants the problem
// each time, nil for none.
func (n *tenant) want(name, token string, want error) {
	n.t.Helper()
	for range 2 {
		if err := n.verify(token); err != want {
			n.t.Errorf("verify(%s) = %v, want %v", name, err, want)
		}
	}
}

// wantAtOnce is want in a bubble, where a token that waits for nothing takes no time.
func (n *tenant) wantAtOnce(name, token string, want error) {
	n.t.Helper()
	start := time.Now()
	n.want(name, token, want)
	if took := time.Since(start); took != 0 {
		n.t.Errorf("verify(%s) took %v, want it at once", name, took)
	}
}

// withClaims returns an access token with changed claims; nil deletes one.
func (n *tenant) withClaims(change standintest.Claims) string {
	return n.AccessToken(testAudience, change)
}

// withHeader returns an access token with a changed header; nil deletes a field.
func (n *tenant) withHeader(change standintest.Claims) string {
	return n.Sign(change, n.Claims(testAudience))
}

// withJSON returns an access token with more claims, which need not be JSON.
func (n *tenant) withJSON(more string) string {
	return n.sign(n.header(), strings.TrimSuffix(n.claims(), "}")+","+more+"}")
}

// header and claims are those of an access token, as JSON.
func (n *tenant) header() string { return `{"alg":"RS256","kid":"` + n.Key().ID + `"}` }
func (n *tenant) claims() string { return string(must(json.Marshal(n.Claims(testAudience)))) }

// sign signs any texts as header and claims, by RS256 with the tenant's key.
func (n *tenant) sign(header, claims string) string {
	signed := base64url(header) + "." + base64url(claims)
	sum := sha256.Sum256([]byte(signed))
	signature := must(rsa.SignPKCS1v15(nil, n.Key().Private, crypto.SHA256, sum[:]))
	return signed + "." + base64url(string(signature))
}

// signBy returns an access token that is signed by another method or key.
func (n *tenant) signBy(method jwt.SigningMethod, key any) string {
	token := jwt.NewWithClaims(method, jwt.MapClaims(n.Claims(testAudience)))
	token.Header["kid"] = n.Key().ID
	return must(token.SignedString(key))
}

func base64url(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// signedPart is the part of a token that its signature covers.
func signedPart(token string) string { return token[:strings.LastIndexByte(token, '.')] }

// wantClaim wants the problem for an access token with each of the values as a claim.
func (n *tenant) wantClaim(claim string, want error, values ...any) {
	n.t.Helper()
	for _, value := range values {
		token := n.withClaims(standintest.Claims{claim: value})
		n.want(fmt.Sprintf("%s %q", claim, value), token, want)
	}
}

// wantHeader is wantClaim for a field of the header.
func (n *tenant) wantHeader(field string, want error, values ...any) {
	n.t.Helper()
	for _, value := range values {
		token := n.withHeader(standintest.Claims{field: value})
		n.want(fmt.Sprintf("%s %q", field, value), token, want)
	}
}

func TestGoodTokens(t *testing.T) {
	n := newTenant(t, nil)
	n.want("an access token", n.AccessToken(testAudience), nil)
	n.want("an ID token", n.IDToken(testClient), nil)
	n.want("an RFC 9068 access token", n.ATJWT(testAudience), nil)
	n.want("of the next key", n.SignWith(n.NextKey(), nil, n.Claims(testAudience)), nil)
	n.wantClaim("permissions", nil, slices.Repeat([]string{"read:items"}, 380)) // 6 KiB
}

func TestClaims(t *testing.T) {
	inBubble(t, func(n *tenant) {
		now, issuer := time.Now().Unix(), "https://"+n.Domain()
		n.wantClaim("exp", nil, now-29, float64(now)+0.5, 1<<53)
		n.wantClaim("exp", problem.NoExpiry, nil)
		n.wantClaim("exp", problem.Expired, 0, -1, now-3600, now-30)
		n.wantClaim("exp", problem.Claims, "4102444800", []int64{now + 3600}, true, 1<<53+2)
		n.wantClaim("exp", problem.Claims, json.RawMessage("null"))
		n.wantClaim("nbf", nil, nil, 0, now+30)
		n.wantClaim("nbf", problem.NotYet, now+3600, now+31)
		n.wantClaim("nbf", problem.Claims, "0", 1e19)
		n.wantClaim("iat", nil, nil, 0, now+30)
		n.wantClaim("iat", problem.NotYet, now+3600, now+31)
		n.wantClaim("iat", problem.Claims, "0", 1e19, -1e19)
		n.wantClaim("iss", problem.Issuer, nil, "", 1, []string{issuer + "/"}, issuer, issuer+"//")
		n.wantClaim("iss", problem.Issuer, issuer+".evil.example/", "http://"+n.Domain()+"/")
		n.wantClaim("iss", problem.Issuer, "https://"+strings.ToUpper(n.Domain())+"/")
		n.wantClaim("aud", nil, testAudience, testClient, []string{"a", testAudience})
		n.wantClaim("aud", problem.Audience, nil, "", []string{}, 1, "other", testAudience+"/")
		n.wantClaim("aud", problem.Audience, strings.ToUpper(testAudience))
		n.wantClaim("aud", problem.Claims, []any{1, testAudience})
		n.wantClaim("sub", nil, nil, 7)
		n.wantClaim("https://example.com/x", nil, map[string]any{"a": []int{1}})

		// Names match exactly. Of several problems the one that explains the others counts.
		other := "https://other.us.auth0.com/"
		want := func(change standintest.Claims, want error) {
			t.Helper()
			n.want(fmt.Sprint(change), n.withClaims(change), want)
		}
		want(standintest.Claims{"exp": nil, "EXP": now + 9}, problem.NoExpiry)
		want(standintest.Claims{"exp": now - 99, "EXP": now + 9}, problem.Expired)
		want(standintest.Claims{"iss": other, "ISS": issuer + "/"}, problem.Issuer)
		want(standintest.Claims{"aud": nil, "AUD": testAudience}, problem.Audience)
		want(standintest.Claims{"iss": other, "exp": 1}, problem.Issuer)
		want(standintest.Claims{"aud": "other", "exp": 1}, problem.Expired)
	})
}

// Numbers may have any form that JSON allows. Only the times are converted.
func TestNumbers(t *testing.T) {
	n := newTenant(t, nil)
	const digits = "123456789012345678901234567890"
	for _, number := range []string{"-0", "1e-7", "1.9e9", "-1E+3", "9e-323", "1e400", digits} {
		n.want(number, n.withJSON(`"x":`+number+`,"y":[{"z":`+number+`}]`), nil)
	}
	want := func(want error, texts ...string) {
		t.Helper()
		for _, text := range texts {
			n.want(text, n.withJSON(text), want)
		}
	}
	want(nil, `"exp":4.1e9`, `"exp":4102444800.0`+digits, `"nbf":1e-7`, `"iat":1.7e+9`)
	want(problem.Expired, `"exp":1e-7`, `"exp":4102444800,"exp":1`)
	want(problem.Claims, `"exp":1e19`, `"exp":1e400`, `"nbf":-1e400`, `"iat":`+digits)
	want(problem.Malformed, `"exp":NaN`, `"x":01`, `"x":.5`)
}

func TestHeaders(t *testing.T) {
	inBubble(t, func(n *tenant) {
		elsewhere := "https://" + n.Domain() + "/elsewhere"
		n.wantHeader("alg", problem.Algorithm, nil, "none", "NONE", "nOnE", "rs256")
		n.wantHeader("kid", problem.NoKeyID, nil, "")
		n.wantHeader("kid", problem.UnknownKey, "../../dev/null", "unknown")
		n.wantHeader("kid", problem.Signature, n.NextKey().ID)
		n.wantHeader("crit", problem.Malformed, []string{}, []string{"exp"}, "", "exp")
		n.wantHeader("typ", nil, nil, "JWT", "jwt", "AT+JWT", "application/at+jwt", "Application/JWT")
		n.wantHeader("typ", problem.Type, "", "logout+jwt", "application/", "x/jwt")
		n.wantHeader("jku", nil, elsewhere)
		n.wantHeader("x5u", nil, elsewhere)
		n.wantHeader("x", nil, strings.Repeat("x", 400))
		n.wantHeader("x", problem.TooLong, strings.Repeat("x", 500))
		for _, field := range []string{"alg", "kid", "typ", "jwk", "x5c", "x"} { // must be strings
			number := json.RawMessage("1e400")
			n.wantHeader(field, problem.Malformed, 1, number, true, []string{"RS256"}, map[string]any{})
		}
		kid := n.Key().ID
		n.want("Kid", n.withHeader(standintest.Claims{"kid": nil, "Kid": kid}), problem.NoKeyID)
		twoAlgs := `{"alg":"RS256","alg":"none","kid":"` + kid + `"}`
		n.want("two algs", n.sign(twoAlgs, n.claims()), problem.Algorithm)
		n.want("a list", n.sign("["+n.header()+"]", n.claims()), problem.Malformed)
		n.want("null", n.sign("null", n.claims()), problem.Algorithm)
		n.want("nested", n.sign(`{"a":`+strings.Repeat("[", 400), n.claims()), problem.Malformed)
		if n.Requests() != 1 {
			t.Errorf("%d requests to the tenant, want 1: jku and x5u are not followed", n.Requests())
		}
	})
}

func TestForgedTokens(t *testing.T) {
	n := newTenant(t, nil)
	key, stranger := n.Key().Private, must(rsa.GenerateKey(rand.Reader, 2048))
	elliptic := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	n.want("a stranger's", n.signBy(jwt.SigningMethodRS256, stranger), problem.Signature)
	next := n.NextKey().Private
	n.want("of the next key", n.signBy(jwt.SigningMethodRS256, next), problem.Signature)
	n.want("PS256", n.signBy(jwt.SigningMethodPS256, key), problem.Algorithm)
	n.want("RS384", n.signBy(jwt.SigningMethodRS384, key), problem.Algorithm)
	n.want("RS512", n.signBy(jwt.SigningMethodRS512, key), problem.Algorithm)
	n.want("ES256", n.signBy(jwt.SigningMethodES256, elliptic), problem.Algorithm)
	none := n.signBy(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType)
	n.want("none", none, problem.Algorithm)
	// The public key as the secret of an HMAC, for verifiers that take the token's word
	// for the algorithm.
	pkix := must(x509.MarshalPKIXPublicKey(&key.PublicKey))
	asPEM := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix})
	for _, secret := range [][]byte{pkix, asPEM, key.N.Bytes()} {
		n.want("HS256", n.signBy(jwt.SigningMethodHS256, secret), problem.Algorithm)
	}

	token := n.withClaims(nil)
	signature := must(base64.RawURLEncoding.DecodeString(token[len(signedPart(token))+1:]))
	flipped := slices.Clone(signature)
	flipped[0] ^= 1
	for _, wrong := range [][]byte{
		nil, signature[1:], flipped, make([]byte, 256), slices.Repeat(signature, 4),
	} {
		n.want("another signature", signedPart(token)+"."+base64url(string(wrong)), problem.Signature)
	}
	other := n.withClaims(standintest.Claims{"sub": "auth0|another"})
	n.want("another token's", signedPart(other)+token[len(signedPart(token)):], problem.Signature)
}

func TestMalformedTokens(t *testing.T) {
	n := newTenant(t, nil)
	token := n.withClaims(nil)
	n.want("unchanged", token, nil)
	parts := strings.Split(token, ".")
	header, claims, signature := parts[0], parts[1], parts[2]
	for _, malformed := range []string{
		"", "..", "." + claims + "." + signature, header + ".." + signature, "a.b.c.d.e",
		token + ".", token + "...", token + " ", token + "==", strings.Repeat(".", 8<<10),
		header + ". " + claims + "." + signature,             // a space in it
		header + "==." + claims + "." + signature,            // padding
		signedPart(token) + ".+/" + signature[2:],            // the other alphabet
		token[:len(token)-1] + string(token[len(token)-1]+1), // loose last bits
		`{"payload":"` + claims + `","signature":"` + signature + `"}`,
		n.sign(n.header(), "["+n.claims()+"]"),
		n.sign(n.header(), `"claims"`),
		n.sign(n.header(), strings.TrimSuffix(n.claims(), "}")),
		n.sign(n.header(), "\xff\xfe{}"),
	} {
		n.want(fmt.Sprintf("%.200q", malformed), malformed, problem.Malformed)
	}
	n.want("claims null", n.sign(n.header(), "null"), problem.Issuer)
	n.want("claims empty", n.sign(n.header(), "{}"), problem.Issuer)
}

// Only an opaque token is told to request an audience.
func TestTokensThatAreNoJWT(t *testing.T) {
	n := newTenant(t, nil)
	n.want("opaque", n.OpaqueToken(), problem.NotJWT)
	n.want("of an older tenant", "hH0xJtqyUnpgqLHaLQvnJWBT-GVkoy_1", problem.NotJWT)
	encrypted := base64url(`{"alg":"RSA-OAEP-256","enc":"A256GCM"}`) + ".key.iv.text.tag"
	n.want("encrypted", encrypted, problem.Encrypted)
	n.want("a secret", "hH0xJtqyUnpgqLHaLQvnJWBT+GVkoy/1", problem.Malformed)
	n.want("a secret of 64 characters", strings.Repeat("x0_-", 16), problem.Malformed)
	n.want("a placeholder", "<token>", problem.Malformed)
	token := n.withClaims(nil)
	for length := range token {
		if err := n.verify(token[:length]); err != problem.Malformed && err != problem.Signature {
			t.Errorf("verify(the first %d bytes of a JWT) = %v, want malformed", length, err)
		}
	}
	if strings.Contains(problem.Malformed.Text, "audience") {
		t.Errorf("%q names the audience", problem.Malformed.Text)
	}
}

func TestWithoutAnAudienceAnyTokenOfTheTenantIsAccepted(t *testing.T) {
	n := newTenant(t, func(c *config) { c.Audiences = nil })
	n.wantClaim("aud", nil, nil, "https://other.example", []string{"a", "b"})
	n.wantClaim("iss", problem.Issuer, "https://other.us.auth0.com/")
}

func TestOrganizations(t *testing.T) {
	n := newTenant(t, func(c *config) { c.Organizations = []string{"org_1", "acme"} })
	for _, test := range []struct {
		id, name any
		want     error
	}{
		{id: "org_1", name: "", want: nil},
		{id: "org_2", name: "acme", want: nil},
		{id: "org_2", name: "ACME", want: nil},
		{id: nil, name: nil, want: problem.Organization},
		{id: "org_2", name: "other", want: problem.Organization},
		{id: "ORG_1", name: "", want: problem.Organization},
		{id: "org_2", name: "org_1", want: problem.Organization}, // a name is no ID
		{id: "acme", name: "", want: problem.Organization},
		{id: "org_", name: "acm", want: problem.Organization},
		{id: "", name: "", want: problem.Organization},
		{id: 1, name: 2, want: problem.Organization},
		{id: []string{"org_1"}, name: []string{"acme"}, want: problem.Organization},
	} {
		token := n.withClaims(standintest.Claims{"org_id": test.id, "org_name": test.name})
		n.want(fmt.Sprintf("org_id %q, org_name %q", test.id, test.name), token, test.want)
	}
	n.wantClaim("ORG_ID", problem.Organization, "org_1")
}

func TestRequiredScopes(t *testing.T) {
	n := newTenant(t, func(c *config) { c.RequiredScopes = []string{"it:read", "it:write"} })
	for _, test := range []struct {
		scope, permissions any
		want               error
	}{
		{scope: "openid it:write it:read", want: nil},
		{permissions: []string{"it:read", "it:write"}, want: nil},
		{scope: "it:read", permissions: []string{"it:write"}, want: nil},
		{scope: "it:read", want: problem.Scope},
		{want: problem.Scope},
		{scope: "it:read it:write2", want: problem.Scope},
		{scope: "it:read", permissions: []string{"it:write2"}, want: problem.Scope},
		{scope: "it:read IT:WRITE", want: problem.Scope},
		{scope: []string{"it:read", "it:write"}, want: problem.Scope},
		{permissions: "it:read it:write", want: problem.Scope},
		{permissions: []any{map[string]any{}}, want: problem.Scope},
	} {
		change := standintest.Claims{"scope": test.scope, "permissions": test.permissions}
		token := n.withClaims(change)
		n.want(fmt.Sprint(change), token, test.want)
		// Nobody learns about scopes without a signature.
		n.want("forged", signedPart(token)+"."+base64url("forged"), problem.Signature)
	}
}

// A rotation is noticed when the first token with the new key comes.
func TestNewKey(t *testing.T) {
	inBubble(t, func(n *tenant) {
		n.wantAtOnce("known key", n.withClaims(nil), nil)
		time.Sleep(10 * time.Second) // keys this old are fetched again
		n.Rotate()
		token := n.SignWith(n.NextKey(), nil, n.Claims(testAudience))
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() { n.wantAtOnce("new key", token, nil) })
		}
		callers.Wait()
		if n.Requests() != 2 {
			t.Errorf("%d fetches for the first caller and 100 at once, want 2", n.Requests())
		}
	})
}

// Whatever is in a token with an unknown key, callers with known keys never wait, the
// keys are fetched six times a minute at most, and a rotation is seen within 15 s.
func TestUnknownKeys(t *testing.T) {
	inBubble(t, func(n *tenant) {
		var later string
		for second := range 60 {
			switch second {
			case 30:
				n.Rotate()
				later = n.SignWith(n.NextKey(), nil, n.Claims(testAudience))
			case 45:
				n.wantAtOnce("new key", later, nil)
			}
			unknown := standintest.Claims{"kid": rand.Text()}
			expired := standintest.Claims{"iss": n.Issuer(), "exp": 1}
			other := standintest.Claims{"iss": "https://other.us.auth0.com/"}
			n.wantAtOnce("unknown key", n.withHeader(unknown), problem.UnknownKey)
			n.wantAtOnce("unknown key, expired", n.Sign(unknown, expired), problem.UnknownKey)
			n.wantAtOnce("another tenant's", n.Sign(unknown, other), problem.Issuer)
			n.wantAtOnce("known key", n.withClaims(nil), nil)
			time.Sleep(time.Second)
		}
		if n.Requests() > 6 {
			t.Errorf("%d fetches in a minute, want 6 at most", n.Requests())
		}
	})
}

// A key that is new while the tenant is down is no fault of the caller, whose app would
// sign the user out after a 401.
func TestUnknownKeyDuringAnOutage(t *testing.T) {
	for name, fault := range map[string]standintest.Fault{
		"hang up":  standintest.HangUp(),
		"too slow": standintest.Hang(),
		"503":      standintest.Status(503),
		"pause":    standintest.Throttle("20"),
		"nonsense": standintest.Answer(200, "text/html", "<p>"),
	} {
		inBubble(t, func(n *tenant) {
			known := n.withClaims(nil)
			n.wantAtOnce("known key", known, nil)
			time.Sleep(10 * time.Second)
			n.Rotate()
			n.Misbehave(fault)
			token := n.SignWith(n.NextKey(), nil, n.Claims(testAudience))
			for range 20 {
				start := time.Now()
				err := n.verify(token)
				if took := time.Since(start); err != problem.KeysOutdated || took > 3*time.Second {
					t.Errorf("%s: verify(new key) = %v after %v, want %v within 3s",
						name, err, took, problem.KeysOutdated)
				}
				n.wantAtOnce(name+": known key", known, nil)
				time.Sleep(5 * time.Second)
			}
			n.Behave()
			start := time.Now()
			for n.verify(token) != nil {
				time.Sleep(time.Second)
			}
			if took := time.Since(start); took > 35*time.Second {
				t.Errorf("%s: the new key works %v after the outage, want 35s at most", name, took)
			}
		})
	}
}

// A fetch of the same keys changes nothing; one without a key refuses its tokens.
func TestRevokedKey(t *testing.T) {
	inBubble(t, func(n *tenant) {
		token := n.withClaims(nil)
		n.wantAtOnce("current key", token, nil)
		keys := n.verifier.keys.Last()
		time.Sleep(time.Hour)
		if n.Requests() < 12 || n.verifier.keys.Last() != keys {
			t.Errorf("%d fetches, want 12 or more that change nothing", n.Requests())
		}
		n.Rotate()
		n.Revoke()
		time.Sleep(15 * time.Minute)
		n.wantAtOnce("revoked key", token, problem.UnknownKey)
	})
}

func TestARememberedTokenExpires(t *testing.T) {
	inBubble(t, func(n *tenant) {
		exp := time.Now().Add(time.Minute).Unix()
		token := n.withClaims(standintest.Claims{"exp": exp})
		n.wantAtOnce("new", token, nil)
		time.Sleep(time.Minute + 30*time.Second - time.Millisecond)
		n.wantAtOnce("within the leeway", token, nil)
		time.Sleep(time.Millisecond)
		n.wantAtOnce("past the leeway", token, problem.Expired)
	})
}

func TestKeysServeForADayWithoutTheTenant(t *testing.T) {
	inBubble(t, func(n *tenant) {
		token := n.withClaims(standintest.Claims{"exp": time.Now().Add(72 * time.Hour).Unix()})
		n.wantAtOnce("before", token, nil)
		n.Misbehave(standintest.Status(503))
		time.Sleep(24*time.Hour - time.Millisecond)
		n.wantAtOnce("after almost a day", token, nil)
		time.Sleep(time.Millisecond)
		n.wantAtOnce("after a day", token, problem.NoKeys)
		before := n.Requests()
		time.Sleep(5 * time.Minute) // without callers
		if fetches := n.Requests() - before; fetches < 5*60/15 {
			n.t.Errorf("%d fetches in 5 min, want at least one in 15 s", fetches)
		}
		n.Behave()
		time.Sleep(15 * time.Second)
		n.wantAtOnce("15 s after the tenant's return", token, nil)
	})
}

// jwt decodes a token before it verifies the signature. Refusing the worst token that
// fits takes a bounded number of allocations; [TestNumbers] sees if it converts numbers.
func TestExpensiveTokens(t *testing.T) {
	n := newTenant(t, nil)
	n.want("first", n.withClaims(nil), nil)
	for _, test := range []struct {
		open, end string
		most      int // that fit
	}{
		{"[", "]", 380}, {`{"":`, "}", 380}, {"{},", "", 190}, {"[],", "", 190},
		{"9e-323,", "", 380}, {`"\u0041",`, "", 380},
	} {
		forged := func(count int) string {
			values := strings.Repeat(test.open, count) + "0" + strings.Repeat(test.end, count)
			return signedPart(n.withJSON(`"x":[`+values+"]")) + "." + base64url("forged")
		}
		worst := forged(test.most)
		n.want(test.open, worst, problem.Signature)
		n.want("too many "+test.open, forged(test.most+20), problem.TooLong)
		if got := testing.AllocsPerRun(10, func() { n.verify(worst) }); got > 1600 {
			t.Errorf("refusing %d of %s takes %v allocations, want at most 1,600",
				test.most, test.open, got)
		}
	}
}

// FuzzToken checks that nothing is accepted but what the tenant signed, and that every
// refusal is one of the table.
func FuzzToken(f *testing.F) {
	n := newTenant(f, nil)
	token := n.withClaims(nil)
	if err := n.verify(token); err != nil {
		f.Fatal(err)
	}
	f.Add(token)
	f.Add(n.OpaqueToken())
	f.Add(n.withHeader(standintest.Claims{"x5c": []string{"MIIB"}, "crit": []string{"exp"}}))
	f.Add(n.withHeader(standintest.Claims{"kid": "unknown", "typ": "application/at+jwt"}))
	f.Add(n.withJSON(`"exp":4.1e9,"nbf":1e-7,"iat":123456789012345678901234567890`))
	f.Add(n.sign(`{"alg":"RS256","kid":9e-323}`, `{"exp":1e400,"x":[[[{},9e-323]]]}`))
	f.Fuzz(func(t *testing.T, other string) {
		if n.verify(other) == nil && signedPart(other) != signedPart(token) {
			t.Errorf("verify(%q) passed, and the tenant did not sign it", other)
		}
	})
}
