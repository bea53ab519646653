package standin

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// part decodes one part of a token.
func part(t *testing.T, token string, i int) Claims {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("%q has %d parts, want 3", token, len(parts))
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[i])
	if err != nil {
		t.Fatal(err)
	}
	var fields Claims
	if err := json.Unmarshal(raw, &fields); err != nil {
		t.Fatal(err)
	}
	return fields
}

func parseSet(t *testing.T, jwks []byte) []jwk {
	t.Helper()
	var set struct{ Keys []jwk }
	if err := json.Unmarshal(jwks, &set); err != nil {
		t.Fatal(err)
	}
	return set.Keys
}

func (k jwk) public() *rsa.PublicKey {
	n, _ := base64.RawURLEncoding.DecodeString(k.N)
	e, _ := base64.RawURLEncoding.DecodeString(k.E)
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}
}

// verify checks the token's signature against the key set, by kid.
func verify(t *testing.T, token string, jwks []byte) error {
	t.Helper()
	signed, encoded, _ := cutLast(token)
	signature, err := base64.RawURLEncoding.DecodeString(encoded)
	if err != nil {
		return err
	}
	kid := part(t, token, 0)["kid"]
	digest := sha256.Sum256([]byte(signed))
	for _, key := range parseSet(t, jwks) {
		if key.Kid == kid {
			return rsa.VerifyPKCS1v15(key.public(), crypto.SHA256, digest[:], signature)
		}
	}
	return fmt.Errorf("kid %v is not published", kid)
}

func cutLast(token string) (before, after string, ok bool) {
	i := strings.LastIndexByte(token, '.')
	if i < 0 {
		return token, "", false
	}
	return token[:i], token[i+1:], true
}

func TestTokensVerifyAgainstTheJWKS(t *testing.T) {
	tenant := ForTest(t).Tenant
	for name, token := range map[string]string{
		"ID token":     tenant.IDToken("app"),
		"access token": tenant.AccessToken("https://api"),
		"at+jwt":       tenant.ATJWT("https://api"),
		"by next key":  tenant.SignWith(tenant.NextKey(), nil, tenant.Claims("x")),
	} {
		if err := verify(t, token, tenant.JWKS()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	forged := tenant.SignWith(Key{ID: tenant.Key().ID, Private: tenant.NextKey().Private}, nil, Claims{})
	if err := verify(t, forged, tenant.JWKS()); !errors.Is(err, rsa.ErrVerification) {
		t.Errorf("another key under the same kid: %v, want %v", err, rsa.ErrVerification)
	}
}

func TestClaims(t *testing.T) {
	s := ForTest(t)
	synctest.Test(t, func(t *testing.T) {
		tenant, now := s.Tenant, float64(time.Now().Unix())
		userinfo := tenant.Issuer() + "userinfo"
		tests := []struct {
			name, token, typ string
			want             Claims
		}{
			{"ID token", tenant.IDToken("app"), "JWT", Claims{
				"iss": "https://tenant.auth0.test/", "aud": "app", "sub": subject, "name": "Jane Doe",
				"email": "jane.doe@example.com", "iat": now, "exp": now + 10*3600, "scope": nil,
			}},
			{"access token", tenant.AccessToken("https://api"), "JWT", Claims{
				"aud": []any{"https://api", userinfo}, "iat": now, "exp": now + 24*3600,
				"azp": appID, "scope": "openid profile email", "email": nil,
			}},
			{"at+jwt", tenant.ATJWT("https://api"), "at+jwt", Claims{
				"aud": []any{"https://api", userinfo}, "client_id": appID, "azp": nil,
			}},
			{"changed", tenant.AccessToken("a", Claims{"exp": 7, "scope": nil}, Claims{"exp": 8}), "JWT", Claims{
				"exp": 8.0, "scope": nil, "sub": subject,
			}},
		}
		for _, test := range tests {
			if typ := part(t, test.token, 0)["typ"]; typ != test.typ {
				t.Errorf("%s: typ is %v, want %s", test.name, typ, test.typ)
			}
			got := part(t, test.token, 1)
			for claim, want := range test.want {
				if !reflect.DeepEqual(got[claim], want) {
					t.Errorf("%s: %s is %v, want %v", test.name, claim, got[claim], want)
				}
			}
		}
	})
}

func TestSignTakesAnyHeader(t *testing.T) {
	tenant := ForTest(t).Tenant
	header := part(t, tenant.Sign(Claims{"kid": nil, "alg": "none", "crit": []string{"x"}}, nil), 0)
	want := Claims{"alg": "none", "typ": "JWT", "crit": []any{"x"}}
	if !reflect.DeepEqual(header, want) {
		t.Errorf("header is %v, want %v", header, want)
	}
	for name, token := range map[string]string{
		"claims that are no JSON": tenant.Sign(nil, Claims{"x": func() {}}),
		"no key":                  tenant.SignWith(Key{}, nil, nil),
	} {
		if token != "" {
			t.Errorf("%s: got %q, want nothing", name, token)
		}
	}
}

func TestOpaqueTokenIsAJWE(t *testing.T) {
	parts := strings.Split(ForTest(t).Tenant.OpaqueToken(), ".")
	if len(parts) != 5 || parts[1] != "" {
		t.Fatalf("got the parts %q, want five, the second empty", parts)
	}
	header, err := base64.RawURLEncoding.DecodeString(parts[0])
	if err != nil || !strings.Contains(string(header), `"enc":"A256GCM"`) {
		t.Errorf("the header is %q, %v", header, err)
	}
}

func TestJWKSIsAsAuth0Publishes(t *testing.T) {
	s := ForTest(t)
	got := fetchKeys(t.Context(), inProcess(s), s)
	const cache = "public, max-age=15, stale-while-revalidate=15, stale-if-error=86400"
	if mime := got.header.Get("Content-Type"); !strings.HasPrefix(mime, "application/json") {
		t.Errorf("Content-Type is %q", mime)
	}
	if cc := got.header.Get("Cache-Control"); cc != cache {
		t.Errorf("Cache-Control is %q, want %q", cc, cache)
	}
	keys := parseSet(t, []byte(got.body))
	if len(keys) != 2 {
		t.Fatalf("%d keys, want the current and the next", len(keys))
	}
	s.Tenant.HexX5t(true)
	older := parseSet(t, s.Tenant.JWKS())
	for i, key := range keys {
		der, err := base64.StdEncoding.DecodeString(key.X5c[0])
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
			t.Errorf("the certificate is not self-signed: %v", err)
		}
		if !key.public().Equal(cert.PublicKey) || key.Kty != "RSA" || key.Use != "sig" || key.Alg != "RS256" || key.E != "AQAB" {
			t.Errorf("key %+v does not fit its certificate", key)
		}
		sum := sha1.Sum(der)
		if want := base64.RawURLEncoding.EncodeToString(sum[:]); key.X5t != want {
			t.Errorf("x5t is %s, want %s", key.X5t, want)
		}
		if raw, _ := base64.RawURLEncoding.DecodeString(older[i].X5t); !strings.EqualFold(string(raw), hex.EncodeToString(sum[:])) {
			t.Errorf("the older x5t is %q, want the thumbprint's hex", raw)
		}
	}
}

func TestRotateAndRevoke(t *testing.T) {
	s := ForTest(t)
	synctest.Test(t, func(t *testing.T) { rotateAndRevoke(t, s.Tenant) })
}

func rotateAndRevoke(t *testing.T, tenant *Tenant) {
	old, next := tenant.AccessToken("a"), tenant.NextKey()
	published := func(when string, token string, want bool) {
		t.Helper()
		if err := verify(t, token, tenant.JWKS()); (err == nil) != want {
			t.Errorf("%s: verify = %v, want good: %v", when, err, want)
		}
	}
	tenant.Rotate()
	if tenant.Key().ID != next.ID {
		t.Errorf("the key is %s, want the former next key %s", tenant.Key().ID, next.ID)
	}
	rotated := tenant.AccessToken("a")
	published("old, after Rotate", old, true)
	published("new, after Rotate", rotated, true)
	if n := len(parseSet(t, tenant.JWKS())); n != 3 {
		t.Errorf("%d keys after Rotate, want 3", n)
	}
	tenant.Revoke()
	published("old, after Revoke", old, false)
	published("new, after Revoke", rotated, true)
	published("next, after Revoke", tenant.SignWith(tenant.NextKey(), nil, nil), true)
}
