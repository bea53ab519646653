package standintest

import (
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"reflect"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"itwin-token-server/internal/standin"
)

// verify checks the token's signature with the key set, and returns its claims.
func verify(token string, jwks []byte) (Claims, error) {
	claims := jwt.MapClaims{}
	_, err := jwt.NewParser(jwt.WithoutClaimsValidation()).ParseWithClaims(token, claims, must(keyfunc.NewJWKSetJSON(jwks)).Keyfunc)
	return claims, err
}

// header decodes a token's header.
func header(t *testing.T, token string) Claims {
	t.Helper()
	parsed, _, err := jwt.NewParser().ParseUnverified(token, jwt.MapClaims{})
	if parsed == nil {
		t.Fatalf("%q: %v", token, err)
	}
	return parsed.Header
}

const appID = "J7qXk2vTn0WmR4yLs8BcZp1DhG5eUaFi"

func TestClaims(t *testing.T) {
	s := New(t)
	synctest.Test(t, func(t *testing.T) {
		tenant, now := s.Tenant, float64(time.Now().Unix())
		audiences := []any{"https://api", tenant.Issuer() + "userinfo"}
		for _, test := range []struct {
			name, token, typ string
			want             Claims
		}{
			{"ID token", tenant.IDToken("app"), "JWT", Claims{
				"iss": "https://tenant.auth0.test/", "aud": "app", "sub": "auth0|65a1f0c2d3e4b5a697887766", "name": "Jane Doe",
				"email": "jane.doe@example.com", "iat": now, "exp": now + 10*3600, "scope": nil, "azp": nil,
			}},
			{"access token", tenant.AccessToken("https://api"), "JWT", Claims{
				"aud": audiences, "iat": now, "exp": now + 24*3600, "azp": appID, "scope": "openid profile email", "email": nil, "org_id": nil,
			}},
			{"at+jwt", tenant.ATJWT("https://api"), "at+jwt", Claims{"aud": audiences, "client_id": appID, "azp": nil}},
			{"changed", tenant.AccessToken("a", Claims{"exp": 7, "scope": nil}, Claims{"exp": 8}), "JWT", Claims{"exp": 8.0, "scope": nil}},
			{"organization", tenant.IDToken("a", Organization("org_1", "acme"), Claims{"org_name": nil}), "JWT", Claims{"org_id": "org_1", "org_name": nil}},
			{"by the next key", tenant.SignWith(tenant.NextKey(), nil, tenant.Claims("x")), "JWT", Claims{"aud": "x"}},
		} {
			if typ := header(t, test.token)["typ"]; typ != test.typ {
				t.Errorf("%s: typ is %v, want %s", test.name, typ, test.typ)
			}
			got, err := verify(test.token, tenant.JWKS())
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			for claim, want := range test.want {
				if !reflect.DeepEqual(got[claim], want) {
					t.Errorf("%s: %s is %v, want %v", test.name, claim, got[claim], want)
				}
			}
		}
		forged := header(t, tenant.Sign(Claims{"kid": nil, "alg": "none", "crit": []string{"x"}}, nil))
		if want := (Claims{"alg": "none", "typ": "JWT", "crit": []any{"x"}}); !reflect.DeepEqual(forged, want) {
			t.Errorf("header is %v, want %v", forged, want)
		}
	})
}

func TestJWKSIsAsAuth0PublishesIt(t *testing.T) {
	s := New(t)
	got := fetchKeys(t.Context(), inProcess(s), s)
	const cache = "public, max-age=15, stale-while-revalidate=15, stale-if-error=86400"
	if typ, cc := got.header.Get("Content-Type"), got.header.Get("Cache-Control"); typ != "application/json; charset=utf-8" || cc != cache {
		t.Errorf("Content-Type is %q, Cache-Control is %q", typ, cc)
	}
	type key struct {
		Kid, Kty, Use, Alg, X5t string
		X5c                     [][]byte // encoding/json decodes base64
	}
	var set, older struct{ Keys []key }
	s.Tenant.HexX5t(true)
	if json.Unmarshal([]byte(got.body), &set) != nil || json.Unmarshal(s.Tenant.JWKS(), &older) != nil || len(set.Keys) != 2 || len(older.Keys) != 2 {
		t.Fatalf("got %s, want the current and the next key", got.body)
	}
	for i, want := range []Key{s.Tenant.Key(), s.Tenant.NextKey()} {
		k := set.Keys[i]
		if k.Kid != want.ID || k.Kty+k.Use+k.Alg != "RSAsigRS256" {
			t.Errorf("got %+v, want the key %s", k, want.ID)
		}
		if cert, err := x509.ParseCertificate(k.X5c[0]); err != nil || !want.Private.PublicKey.Equal(cert.PublicKey) {
			t.Errorf("x5c is not a certificate of the key: %v", err)
		}
		sum := sha1.Sum(k.X5c[0])
		if k.X5t != base64.RawURLEncoding.EncodeToString(sum[:]) || older.Keys[i].X5t != base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%X", sum)) {
			t.Errorf("x5t is %s, and %s for older tenants, want the thumbprint", k.X5t, older.Keys[i].X5t)
		}
	}
}

func TestRotateAndRevoke(t *testing.T) {
	tenant := New(t).Tenant
	old, next := tenant.AccessToken("a"), tenant.SignWith(tenant.NextKey(), nil, nil)
	tenant.Rotate()
	current := tenant.AccessToken("a")
	if header(t, next)["kid"] != header(t, current)["kid"] {
		t.Error("Rotate does not make the next key the current one")
	}
	newNext := tenant.SignWith(tenant.NextKey(), nil, nil)
	for _, oldIsValid := range []bool{true, false} {
		for token, want := range map[string]bool{old: oldIsValid, next: true, current: true, newNext: true} {
			if _, err := verify(token, tenant.JWKS()); (err == nil) != want {
				t.Errorf("verify(%s) = %v, want valid: %v", header(t, token)["kid"], err, want)
			}
		}
		tenant.Revoke()
	}
}

// keysOf is a key set of one key.
func keysOf(key Key) []byte { return must(standin.NewWithKeys(key, key, key)).Tenant.JWKS() }
