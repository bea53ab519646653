package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"itwin-token-server/internal/standin"
)

const (
	testAudience = "http://tokenserver.sample.bentley.com"
	testClient   = "an-application-of-the-tenant"
)

// testConfig is what a user of the stand-ins would set.
func testConfig(s *standin.Standin) config {
	return config{
		ClientID: s.IMS.ClientID(), ClientSecret: newSecret(s.IMS.ClientSecret()),
		Domain: s.Tenant.Domain(), Audiences: []string{testAudience, testClient},
		Authority: s.IMS.URL(), Scope: "itwin-platform",
	}
}

// runVerifier returns a verifier that fetches keys until the test ends.
func runVerifier(t testing.TB, s *standin.Standin, change func(*config)) *verifier {
	t.Helper()
	c := testConfig(s)
	if change != nil {
		change(&c)
	}
	v := newVerifier(c, s.Transport(), nil)
	background(t, v.keys.Run)
	return v
}

// background runs a function until the test ends.
func background(t testing.TB, run func(context.Context)) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); run(ctx) }()
	t.Cleanup(func() { stop(); <-done })
}

// verify verifies a token with the timeout of a request. It returns the problem.
func verify(v *verifier, token string) error {
	ctx, cancel := context.WithTimeout(context.Background(), maxWait)
	defer cancel()
	_, err := v.verify(ctx, token)
	if err != nil {
		return problemOf(err)
	}
	return nil
}

// A forger makes tokens that the tenant would not.
type forger struct {
	t      testing.TB
	tenant *standin.Tenant
}

// header and claims are the honest ones, changed; nil takes one away.
func (f forger) header(change standin.Claims) standin.Claims {
	return changed(standin.Claims{"alg": "RS256", "typ": "JWT", "kid": f.tenant.Key().ID}, change)
}

func (f forger) claims(change standin.Claims) standin.Claims {
	return changed(f.tenant.Claims([]string{testAudience, f.tenant.Issuer() + "userinfo"}), change)
}

func changed(honest, change standin.Claims) standin.Claims {
	honest = maps.Clone(honest)
	for name, value := range change {
		honest[name] = value
		if value == nil {
			delete(honest, name)
		}
	}
	return honest
}

// with is a token of changed claims, signed by the tenant.
func (f forger) with(change standin.Claims) string { return f.tenant.Sign(nil, f.claims(change)) }

// headed is a token with a changed header, signed by the tenant with RS256.
func (f forger) headed(change standin.Claims) string {
	return f.raw(f.json(f.header(change)), f.json(f.claims(nil)))
}

// raw signs any texts as header and claims, by RS256 with the tenant's key.
func (f forger) raw(header, claims string) string {
	signed := b64(header) + "." + b64(claims)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(nil, f.tenant.Key().Private, 5, sum[:])
	if err != nil {
		f.t.Fatal(err)
	}
	return signed + "." + b64(string(signature))
}

// signed is an honest token but for its algorithm and key.
func (f forger) signed(method jwt.SigningMethod, key any) string {
	token := jwt.NewWithClaims(method, jwt.MapClaims(f.claims(nil)))
	token.Header["kid"] = f.tenant.Key().ID
	text, err := token.SignedString(key)
	if err != nil {
		f.t.Fatal(err)
	}
	return text
}

func (f forger) json(v any) string {
	text, err := json.Marshal(v)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(text)
}

func b64(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// publicForms are the texts of a public key that an HMAC has been keyed with in
// attacks on verifiers that take the token's word for the algorithm.
func (f forger) publicForms() map[string][]byte {
	key := &f.tenant.Key().Private.PublicKey
	pkix, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		f.t.Fatal(err)
	}
	pkcs1 := x509.MarshalPKCS1PublicKey(key)
	var set struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(f.tenant.JWKS(), &set); err != nil {
		f.t.Fatal(err)
	}
	var jwk struct {
		N   string
		X5c []string
	}
	if err := json.Unmarshal(set.Keys[0], &jwk); err != nil {
		f.t.Fatal(err)
	}
	return map[string][]byte{
		"PKIX PEM":    pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix}),
		"PKIX DER":    pkix,
		"PKCS #1 PEM": pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: pkcs1}),
		"PKCS #1 DER": pkcs1,
		"modulus":     key.N.Bytes(),
		"JWK":         set.Keys[0],
		"JWK's n":     []byte(jwk.N),
		"x5c":         []byte(jwk.X5c[0]),
		"nothing":     {},
	}
}

type forgery struct {
	name, token string
	want        problem
}

func TestForgedAndMalformedTokensAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the clock stands still
		s := standin.ForTest(t)
		v := runVerifier(t, s, nil)
		f := forger{t, s.Tenant}
		if err := verify(v, f.with(nil)); err != nil {
			t.Fatalf("an honest token is refused: %v", err)
		}
		fetches := s.Tenant.Requests()
		var all []forgery
		for _, more := range [][]forgery{f.times(), f.algorithms(), f.headers(), f.issuersAndAudiences(), f.structures(), f.signatures()} {
			all = append(all, more...)
		}
		if len(all) < 60 {
			t.Errorf("%d forgeries, want at least 60", len(all))
		}
		for _, forgery := range all {
			if !slices.Contains(requestProblems(), forgery.want) {
				t.Errorf("the metrics do not count %v", forgery.want)
			}
			for range 2 { // a refused token must not be remembered
				if err := verify(v, forgery.token); err != forgery.want {
					t.Errorf("verify(%s) = %v, want %v", forgery.name, err, forgery.want)
				}
			}
		}
		// Only the unknown kids may have caused fetches, at most a burst of five: no
		// jku or x5u is ever followed.
		if n := s.Tenant.Requests() - fetches; n > 5 {
			t.Errorf("%d fetches, want at most 5", n)
		}
		if err := verify(v, f.with(standin.Claims{"jti": "another"})); err != nil {
			t.Errorf("after the forgeries, verify(honest token) = %v, want it accepted", err)
		}
	})
}

func (f forger) algorithms() (all []forgery) {
	for _, none := range []string{"none", "None", "NONE", "nOnE"} {
		unsigned := b64(f.json(f.header(standin.Claims{"alg": none}))) + "." + b64(f.json(f.claims(nil))) + "."
		all = append(all,
			forgery{"alg " + none + " without a signature", unsigned, errAlgorithm},
			forgery{"alg " + none + " with the honest signature", f.headed(standin.Claims{"alg": none}), errAlgorithm})
	}
	for form, key := range f.publicForms() {
		all = append(all, forgery{"HS256 keyed with the public key's " + form, f.signed(jwt.SigningMethodHS256, key), errAlgorithm})
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.t.Fatal(err)
	}
	key := f.tenant.Key().Private
	return append(all,
		forgery{"PS256 by the tenant's key", f.signed(jwt.SigningMethodPS256, key), errAlgorithm},
		forgery{"RS384 by the tenant's key", f.signed(jwt.SigningMethodRS384, key), errAlgorithm},
		forgery{"RS512 by the tenant's key", f.signed(jwt.SigningMethodRS512, key), errAlgorithm},
		forgery{"ES256", f.signed(jwt.SigningMethodES256, curve), errAlgorithm},
		forgery{"no alg", f.headed(standin.Claims{"alg": nil}), errAlgorithm},
		forgery{"an alg in lower case", f.headed(standin.Claims{"alg": "rs256"}), errAlgorithm},
		forgery{"an alg that is a list", f.headed(standin.Claims{"alg": []string{"RS256"}}), errAlgorithm},
		forgery{"two algs, RS256 first", f.raw(`{"alg":"RS256","alg":"none","kid":"`+f.tenant.Key().ID+`"}`, f.json(f.claims(nil))), errAlgorithm},
		forgery{"Alg beside alg", f.headed(standin.Claims{"alg": "none", "Alg": "RS256"}), errAlgorithm},
	)
}

func (f forger) headers() []forgery {
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		f.t.Fatal(err)
	}
	jwk := map[string]any{
		"kty": "RSA", "alg": "RS256", "use": "sig", "kid": f.tenant.Key().ID,
		"n": b64(string(stranger.N.Bytes())), "e": b64(string(big.NewInt(int64(stranger.E)).Bytes())),
	}
	// by is a token by the stranger, whose header says where its key is.
	by := func(change standin.Claims) string {
		return f.tenant.SignWith(standin.Key{ID: f.tenant.Key().ID, Private: stranger}, change, f.claims(nil))
	}
	return []forgery{
		{"a stranger's, under the tenant's kid", by(nil), errSignature},
		{"a stranger's, with its jwk", by(standin.Claims{"jwk": jwk}), errSignature},
		{"a stranger's, with a jku", by(standin.Claims{"jku": "https://" + f.tenant.Domain() + "/elsewhere"}), errSignature},
		{"a stranger's, with an x5u", by(standin.Claims{"x5u": "https://" + f.tenant.Domain() + "/elsewhere"}), errSignature},
		{"a stranger's, with an x5c", by(standin.Claims{"x5c": []string{"MIIB"}}), errSignature},
		{"a stranger's, with its jwk and no kid", by(standin.Claims{"jwk": jwk, "kid": nil}), errNoKeyID},
		{"no kid", f.headed(standin.Claims{"kid": nil}), errNoKeyID},
		{"an empty kid", f.headed(standin.Claims{"kid": ""}), errNoKeyID},
		{"a kid that is a number", f.headed(standin.Claims{"kid": 1}), errNoKeyID},
		{"a kid that is a list", f.headed(standin.Claims{"kid": []string{f.tenant.Key().ID}}), errNoKeyID},
		{"Kid for kid", f.headed(standin.Claims{"kid": nil, "Kid": f.tenant.Key().ID}), errNoKeyID},
		{"a kid that is a path", f.headed(standin.Claims{"kid": "../../../../dev/null"}), errUnknownKey},
		{"a kid that is SQL", f.headed(standin.Claims{"kid": "' OR 1=1 --"}), errUnknownKey},
		{"an unknown kid", f.headed(standin.Claims{"kid": "unknown"}), errUnknownKey},
		{"the next key's kid", f.headed(standin.Claims{"kid": f.tenant.NextKey().ID}), errSignature},
		{"a crit that is empty", f.headed(standin.Claims{"crit": []string{}}), errCritical},
		{"a crit of exp", f.headed(standin.Claims{"crit": []string{"exp"}}), errCritical},
		{"a crit of b64", f.headed(standin.Claims{"crit": []string{"b64"}, "b64": false}), errCritical},
		{"typ of a logout token", f.headed(standin.Claims{"typ": "logout+jwt"}), errType},
		{"typ that is a number", f.headed(standin.Claims{"typ": 1}), errType},
		{"typ that is empty", f.headed(standin.Claims{"typ": ""}), errType},
	}
}

func (f forger) times() []forgery {
	now := time.Now().Unix()
	exp := func(v any) string { return f.with(standin.Claims{"exp": v}) }
	raw := func(exp string) string {
		rest := f.json(f.claims(standin.Claims{"exp": nil}))
		return f.raw(f.json(f.header(nil)), strings.TrimSuffix(rest, "}")+`,"exp":`+exp+"}")
	}
	return []forgery{
		{"no exp", exp(nil), errNoExpiry},
		{"exp null", raw("null"), errClaims},
		{"exp a string", exp("4102444800"), errClaims},
		{"exp a list", exp([]int64{now + 3600}), errClaims},
		{"exp true", exp(true), errClaims},
		{"exp 0", exp(0), errNoExpiry},
		{"exp negative", exp(-1), errExpired},
		{"exp 1e400", raw("1e400"), errMalformed},
		{"exp 1e19", raw("1e19"), errClaims},
		{"exp -1e308", raw("-1e308"), errClaims},
		{"exp past 2^53", raw("9007199254740994"), errClaims},
		{"nbf 2^63", f.with(standin.Claims{"nbf": 1 << 62 * 2.0}), errClaims},
		{"nbf 1e19", f.with(standin.Claims{"nbf": 1e19}), errClaims},
		{"nbf 1e308", f.with(standin.Claims{"nbf": 1e308}), errClaims},
		{"iat 1e19", f.with(standin.Claims{"iat": 1e19}), errClaims},
		{"iat -1e19", f.with(standin.Claims{"iat": -1e19}), errClaims},
		{"exp NaN", raw("NaN"), errMalformed},
		{"exp an hour ago", exp(now - 3600), errExpired},
		{"exp at the leeway's edge", exp(now - 30), errExpired},
		{"EXP for exp", f.with(standin.Claims{"exp": nil, "EXP": now + 3600}), errNoExpiry},
		{"EXP beside an exp past", f.with(standin.Claims{"exp": now - 3600, "EXP": now + 3600}), errExpired},
		{"two exps, the last past", raw("4102444800,\"exp\":1"), errExpired},
		{"nbf in an hour", f.with(standin.Claims{"nbf": now + 3600}), errNotYet},
		{"nbf past the leeway's edge", f.with(standin.Claims{"nbf": now + 31}), errNotYet},
		{"nbf a string", f.with(standin.Claims{"nbf": "0"}), errClaims},
		{"iat in an hour", f.with(standin.Claims{"iat": now + 3600}), errNotYet},
		{"iat past the leeway's edge", f.with(standin.Claims{"iat": now + 31}), errNotYet},
		{"iat a string", f.with(standin.Claims{"iat": "0"}), errClaims},
	}
}

func (f forger) issuersAndAudiences() (all []forgery) {
	domain := f.tenant.Domain()
	for name, iss := range map[string]any{
		"without its slash": "https://" + domain, "over http": "http://" + domain + "/", "in capitals": "https://" + strings.ToUpper(domain) + "/",
		"with a path": "https://" + domain + "/x", "with two slashes": "https://" + domain + "//", "with a space": "https://" + domain + "/ ",
		"as a prefix": "https://" + domain + ".evil.example/", "as a user": "https://" + domain + "@evil.example/",
		"of another tenant": "https://other.us.auth0.com/", "empty": "", "missing": nil,
	} {
		all = append(all, forgery{"iss " + name, f.with(standin.Claims{"iss": iss}), errIssuer})
	}
	aud := func(v any) string { return f.with(standin.Claims{"aud": v}) }
	return append(all,
		forgery{"iss a number", f.with(standin.Claims{"iss": 1}), errClaims},
		forgery{"iss a list", f.with(standin.Claims{"iss": []string{f.tenant.Issuer()}}), errClaims},
		forgery{"ISS for iss", f.with(standin.Claims{"iss": nil, "ISS": f.tenant.Issuer()}), errIssuer},
		forgery{"ISS beside another iss", f.with(standin.Claims{"iss": "https://evil.example/", "ISS": f.tenant.Issuer()}), errIssuer},
		forgery{"another issuer's, expired", f.with(standin.Claims{"iss": "https://evil.example/", "exp": 1}), errIssuer},
		forgery{"aud of another", aud("https://other.example"), errAudience},
		forgery{"aud a list of others", aud([]string{"https://other.example", f.tenant.Issuer() + "userinfo"}), errAudience},
		forgery{"aud a prefix of ours", aud(testAudience[:len(testAudience)-1]), errAudience},
		forgery{"aud with ours as a prefix", aud(testAudience + "/"), errAudience},
		forgery{"aud in capitals", aud(strings.ToUpper(testAudience)), errAudience},
		forgery{"aud ours among others, as one string", aud(testAudience + " " + testClient), errAudience},
		forgery{"aud missing", aud(nil), errAudience},
		forgery{"aud empty", aud(""), errAudience},
		forgery{"aud an empty list", aud([]string{}), errAudience},
		forgery{"aud a number", aud(1), errAudience},
		forgery{"aud a list with a number", aud([]any{1, testAudience}), errClaims},
		forgery{"AUD for aud", f.with(standin.Claims{"aud": nil, "AUD": testAudience}), errAudience},
	)
}

func (f forger) structures() []forgery {
	header, claims := f.json(f.header(nil)), f.json(f.claims(nil))
	honest := f.raw(header, claims)
	parts := strings.Split(honest, ".")
	join := func(parts ...string) string { return strings.Join(parts, ".") }
	deep := func(n int) string { return `{"a":` + strings.Repeat("[", n) }
	return []forgery{
		{"an opaque token", f.tenant.OpaqueToken(), errNotJWT},
		{"an opaque token of old", "hH0xJtqyUnpgqLHaLQvnJWBTYGVkoyo1", errNotJWT},
		{"one part", parts[0], errNotJWT},
		{"two parts", join(parts[0], parts[1]), errNotJWT},
		{"four parts", honest + ".", errNotJWT},
		{"three empty parts", "..", errMalformed},
		{"an empty header", join("", parts[1], parts[2]), errMalformed},
		{"empty claims", join(parts[0], "", parts[2]), errMalformed},
		{"an empty signature", join(parts[0], parts[1], ""), errSignature},
		{"padding", join(parts[0]+"==", parts[1], parts[2]), errMalformed},
		{"a padded signature", honest + "==", errMalformed},
		{"the other alphabet", join(parts[0], parts[1], strings.NewReplacer("-", "+", "_", "/").Replace(parts[2])+"+/"), errMalformed},
		{"loose last bits in the signature", honest[:len(honest)-1] + string(honest[len(honest)-1]+1), errMalformed},
		{"spaces in a part", join(parts[0], " "+parts[1], parts[2]), errMalformed},
		{"a JWS in JSON", `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, errNotJWT},
		{"claims that are a list", f.raw(header, "["+claims+"]"), errMalformed},
		{"claims that are null", f.raw(header, "null"), errIssuer},
		{"claims that are a string", f.raw(header, `"claims"`), errMalformed},
		{"claims that are an empty object", f.raw(header, "{}"), errIssuer},
		{"claims with text behind them", f.raw(header, claims+"{}"), errMalformed},
		{"claims that are cut", f.raw(header, claims[:len(claims)-1]), errMalformed},
		{"claims nested 400 deep", f.raw(header, deep(400)), errMalformed},
		{"claims nested 20,000 deep", f.raw(header, deep(20000)), errTooLong},
		{"claims that are not UTF-8", f.raw(header, "\xff\xfe{}"), errMalformed},
		{"a header that is a list", f.raw("["+header+"]", claims), errMalformed},
		{"a header that is null", f.raw("null", claims), errAlgorithm},
		{"a header that is empty JSON", f.raw("{}", claims), errAlgorithm},
		{"a header nested 400 deep", f.raw(deep(400), claims), errMalformed},
		{"a header nested 20,000 deep", f.raw(deep(20000), claims), errTooLong},
	}
}

func (f forger) signatures() []forgery {
	honest := strings.Split(f.with(nil), ".")
	other := strings.Split(f.with(standin.Claims{"sub": "auth0|another"}), ".")
	join := func(parts ...string) string { return strings.Join(parts, ".") }
	flipped, err := base64.RawURLEncoding.DecodeString(honest[2])
	if err != nil {
		f.t.Fatal(err)
	}
	flipped[0] ^= 1
	return []forgery{
		{"a signature cut", join(honest[0], honest[1], b64("cut")), errSignature},
		{"a signature with a bit changed", join(honest[0], honest[1], b64(string(flipped))), errSignature},
		{"another token's signature", join(honest[0], honest[1], other[2]), errSignature},
		{"another token's claims", join(honest[0], other[1], honest[2]), errSignature},
		{"signature of zeroes", join(honest[0], honest[1], b64(string(make([]byte, 256)))), errSignature},
		{"signature of a kilobyte", join(honest[0], honest[1], b64(string(make([]byte, 1024)))), errSignature},
		{"signed by the next key under the current kid", f.tenant.SignWith(standin.Key{ID: f.tenant.Key().ID, Private: f.tenant.NextKey().Private}, nil, f.claims(nil)), errSignature},
	}
}

func TestGoodTokensAreAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := standin.ForTest(t)
		f := forger{t, s.Tenant}
		v := runVerifier(t, s, nil)
		now := time.Now().Unix()
		for name, token := range map[string]string{
			"an access token":              s.Tenant.AccessToken(testAudience),
			"an ID token":                  s.Tenant.IDToken(testClient),
			"an RFC 9068 access token":     s.Tenant.ATJWT(testAudience),
			"typ in another case":          f.headed(standin.Claims{"typ": "AT+JWT"}),
			"no typ":                       f.headed(standin.Claims{"typ": nil}),
			"signed by the next key":       s.Tenant.SignWith(s.Tenant.NextKey(), nil, f.claims(nil)),
			"aud a string":                 f.with(standin.Claims{"aud": testAudience}),
			"aud a list with ours last":    f.with(standin.Claims{"aud": []string{"a", "b", testAudience}}),
			"exp within the leeway":        f.with(standin.Claims{"exp": now - 29}),
			"nbf at the leeway's edge":     f.with(standin.Claims{"nbf": now + 30}),
			"iat at the leeway's edge":     f.with(standin.Claims{"iat": now + 30}),
			"exp with a fraction":          f.with(standin.Claims{"exp": float64(now) + 0.5}),
			"no iat, no nbf":               f.with(standin.Claims{"iat": nil, "nbf": nil}),
			"unknown claims":               f.with(standin.Claims{"https://example.com/x": map[string]any{"a": []int{1}}}),
			"an exp in the far future":     f.with(standin.Claims{"exp": 4102444800}),
			"an exp of 2^53":               f.with(standin.Claims{"exp": 1 << 53}),
			"a jwk, which is ignored":      f.headed(standin.Claims{"jwk": "nonsense"}),
			"no sub":                       f.with(standin.Claims{"sub": nil}),
			"a header with unknown fields": f.headed(standin.Claims{"x": 1}),
		} {
			for range 2 { // checked, and then remembered
				if err := verify(v, token); err != nil {
					t.Errorf("verify(%s) = %v, want it accepted", name, err)
				}
			}
		}
	})
}

func TestWithoutAnAudienceAnyTokenOfTheTenantIsAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := standin.ForTest(t)
		v := runVerifier(t, s, func(c *config) { c.Audiences = nil })
		f := forger{t, s.Tenant}
		for _, aud := range []any{"https://other.example", []string{"a", "b"}, nil} {
			if err := verify(v, f.with(standin.Claims{"aud": aud})); err != nil {
				t.Errorf("verify(aud %v) = %v, want it accepted", aud, err)
			}
		}
		if err := verify(v, f.with(standin.Claims{"iss": "https://other.us.auth0.com/"})); err != errIssuer {
			t.Errorf("verify(another issuer) = %v, want %v", err, errIssuer)
		}
	})
}

func TestOrganizations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := standin.ForTest(t)
		v := runVerifier(t, s, func(c *config) { c.Organizations = []string{"org_1", "acme"} })
		for _, tt := range []struct {
			name   string
			change standin.Claims
			want   error
		}{
			{"an ID", standin.Organization("org_1", ""), nil},
			{"a name", standin.Organization("org_2", "acme"), nil},
			{"a name in another case", standin.Organization("org_2", "ACME"), nil},
			{"none", nil, errOrganization},
			{"another", standin.Organization("org_2", "other"), errOrganization},
			{"an ID in another case", standin.Organization("ORG_1", ""), errOrganization},
			{"an ID as the name", standin.Organization("org_2", "org_1"), errOrganization},
			{"a name as the ID", standin.Organization("acme", ""), errOrganization},
			{"a prefix", standin.Organization("org_", "acm"), errOrganization},
			{"an empty one", standin.Organization("", ""), errOrganization},
			{"a number", standin.Claims{"org_id": 1, "org_name": 2}, errOrganization},
			{"a list", standin.Claims{"org_id": []string{"org_1"}, "org_name": []string{"acme"}}, errOrganization},
			{"names in another case", standin.Claims{"ORG_ID": "org_1", "Org_Name": "acme"}, errOrganization},
		} {
			if err := verify(v, s.Tenant.AccessToken(testAudience, tt.change)); err != tt.want {
				t.Errorf("verify(%s) = %v, want %v", tt.name, err, tt.want)
			}
		}
	})
}

func TestRequiredScopes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := standin.ForTest(t)
		v := runVerifier(t, s, func(c *config) { c.RequiredScopes = []string{"itwin:read", "itwin:write"} })
		f := forger{t, s.Tenant}
		for _, tt := range []struct {
			name        string
			scope, perm any
			want        error
		}{
			{"both in scope", "openid itwin:write itwin:read", nil, nil},
			{"both in permissions", nil, []string{"itwin:read", "itwin:write"}, nil},
			{"one in each", "itwin:read", []string{"itwin:write"}, nil},
			{"one", "itwin:read", nil, errScope},
			{"none", nil, nil, errScope},
			{"as a part of another", "itwin:read itwin:write2", nil, errScope},
			{"in another case", "itwin:read ITWIN:WRITE", nil, errScope},
			{"scope a list", []string{"itwin:read", "itwin:write"}, nil, errScope},
			{"permissions a string", nil, "itwin:read itwin:write", errScope},
		} {
			token := f.with(standin.Claims{"scope": tt.scope, "permissions": tt.perm})
			if err := verify(v, token); err != tt.want {
				t.Errorf("verify(%s) = %v, want %v", tt.name, err, tt.want)
			}
			forged := token[:len(token)-8] + "AAAAAAAA"
			if err := verify(v, forged); err != errSignature {
				t.Errorf("verify(%s, forged) = %v, want %v: a forger must not learn about scopes", tt.name, err, errSignature)
			}
		}
	})
}

func TestANewKeyWorksAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := standin.ForTest(t)
		v := runVerifier(t, s, nil)
		verify(v, s.Tenant.AccessToken(testAudience))
		s.Tenant.Rotate()
		s.Tenant.Rotate() // its key was published just now
		before := s.Tenant.Requests()
		var callers sync.WaitGroup
		token := s.Tenant.AccessToken(testAudience)
		for range 100 {
			callers.Go(func() {
				if err := verify(v, token); err != nil {
					t.Errorf("verify(token of a new key) = %v, want it accepted", err)
				}
			})
		}
		callers.Wait()
		if n := s.Tenant.Requests() - before; n != 1 {
			t.Errorf("%d fetches for 100 callers at once, want 1", n)
		}
	})
}

func TestOnlyATokenThatWouldPassCausesAFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := standin.ForTest(t)
		v := runVerifier(t, s, func(c *config) { c.RequiredScopes = []string{"openid"} })
		verify(v, s.Tenant.AccessToken(testAudience))
		f := forger{t, s.Tenant}
		before := s.Tenant.Requests()
		unknown := f.header(standin.Claims{"kid": "unknown"})
		for _, change := range []standin.Claims{
			{"iss": "https://other.us.auth0.com/"}, {"aud": "other"}, {"exp": 1}, {"exp": nil}, {"nbf": 4102444800}, {"scope": "none"}, {"nbf": 1e19},
		} {
			verify(v, f.raw(f.json(unknown), f.json(f.claims(change))))
		}
		synctest.Wait()
		if n := s.Tenant.Requests() - before; n != 0 {
			t.Errorf("%d fetches, want none", n)
		}
		if err := verify(v, f.raw(f.json(unknown), f.json(f.claims(standin.Claims{"scope": "openid"})))); err != errUnknownKey {
			t.Errorf("verify(unknown kid) = %v, want %v", err, errUnknownKey)
		}
		if n := s.Tenant.Requests() - before; n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
	})
}

func TestAnUnknownKeyWaitsThreeSecondsForASlowTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := standin.ForTest(t)
		v := runVerifier(t, s, nil)
		known := s.Tenant.AccessToken(testAudience)
		verify(v, known)
		s.Tenant.Misbehave(standin.Hang())
		begun := time.Now()
		if err := verify(v, forger{t, s.Tenant}.headed(standin.Claims{"kid": "unknown"})); err != errKeysOutdated {
			t.Errorf("verify(unknown kid) = %v, want %v", err, errKeysOutdated)
		}
		if took := time.Since(begun); took != unknownKeyTimeout {
			t.Errorf("an unknown kid waited %v, want %v", took, unknownKeyTimeout)
		}
		begun = time.Now()
		if err := verify(v, known); err != nil || time.Since(begun) != 0 {
			t.Errorf("meanwhile verify(known kid) = %v after %v, want it accepted at once", err, time.Since(begun))
		}
	})
}

// A key that is new while the tenant is down is no fault of the caller, whose app
// would sign the user out after a 401.
func TestAnUnknownKeyDuringAnOutage(t *testing.T) {
	for name, outage := range map[string]struct {
		begin func(*standin.Tenant)
		end   func(*standin.Tenant) error
	}{
		"connections refused": {(*standin.Tenant).Stop, (*standin.Tenant).Restart},
		"hang":                {misbehave(standin.Hang()), behave},
		"503":                 {misbehave(standin.Status(503)), behave},
		"429":                 {misbehave(standin.Status(429)), behave},
		"nonsense":            {misbehave(standin.Answer(200, "text/html", "<p>")), behave},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := standin.ForTest(t)
				v := runVerifier(t, s, nil)
				known := s.Tenant.AccessToken(testAudience)
				verify(v, known)
				s.Tenant.Rotate()
				s.Tenant.Rotate()
				token := s.Tenant.AccessToken(testAudience)
				outage.begin(s.Tenant)
				fetches := s.Tenant.Requests()
				for range 100 { // over 8 min
					if err := verify(v, token); err != errKeysOutdated {
						t.Fatalf("verify(new key) = %v, want %v", err, errKeysOutdated)
					}
					if err := verify(v, known); err != nil {
						t.Fatalf("verify(known key) = %v, want it accepted", err)
					}
					time.Sleep(5 * time.Second)
				}
				// A burst of five, one in 30 s, and the retries of the outage.
				if n := s.Tenant.Requests() - fetches; n > 45 || s.Tenant.MostAtOnce() > 1 {
					t.Errorf("%d fetches, %d at once; want at most 45, one at a time", n, s.Tenant.MostAtOnce())
				}
				if err := outage.end(s.Tenant); err != nil {
					t.Fatal(err)
				}
				for waited := time.Duration(0); verify(v, token) != nil; waited += time.Second {
					if waited > 35*time.Second {
						t.Fatal("35 s after the tenant's return, the new key is still refused")
					}
					time.Sleep(time.Second)
				}
				if err := verify(v, forger{t, s.Tenant}.headed(standin.Claims{"kid": "unknown"})); err != errUnknownKey {
					t.Errorf("verify(unknown kid) after the outage = %v, want %v", err, errUnknownKey)
				}
			})
		})
	}
}

func misbehave(fault standin.Fault) func(*standin.Tenant) {
	return func(t *standin.Tenant) { t.Misbehave(fault) }
}

func behave(t *standin.Tenant) error {
	t.Behave()
	return nil
}

func TestARevokedKeyIsRefusedWithin15Minutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := standin.ForTest(t)
		v := runVerifier(t, s, nil)
		token := s.Tenant.AccessToken(testAudience)
		for range 2 { // so that it is remembered
			if err := verify(v, token); err != nil {
				t.Fatalf("verify = %v, want it accepted", err)
			}
		}
		s.Tenant.Rotate()
		s.Tenant.Revoke()
		time.Sleep(15 * time.Minute)
		if err := verify(v, token); err != errUnknownKey {
			t.Errorf("verify(token of a revoked key) = %v, want %v", err, errUnknownKey)
		}
	})
}

func TestARememberedTokenExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := standin.ForTest(t)
		v := runVerifier(t, s, nil)
		token := s.Tenant.AccessToken(testAudience, standin.Claims{"exp": time.Now().Add(time.Minute).Unix()})
		verify(v, token)
		time.Sleep(time.Minute + leeway - time.Millisecond)
		if err := verify(v, token); err != nil {
			t.Errorf("within the leeway: verify = %v, want it accepted", err)
		}
		time.Sleep(time.Millisecond)
		if err := verify(v, token); err != errExpired {
			t.Errorf("past the leeway: verify = %v, want %v", err, errExpired)
		}
	})
}

func TestKeysSurviveEveryNonsenseForADay(t *testing.T) {
	for _, nonsense := range append(standin.Nonsense(), standin.NamedFault{Name: "hang", Fault: standin.Hang()}, standin.NamedFault{Name: "503", Fault: standin.Status(503)}) {
		t.Run(nonsense.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := standin.ForTest(t)
				v := runVerifier(t, s, nil)
				token := s.Tenant.AccessToken(testAudience, standin.Claims{"exp": time.Now().Add(72 * time.Hour).Unix()})
				verify(v, token)
				s.Tenant.Misbehave(nonsense.Fault)
				time.Sleep(time.Hour)
				s.Tenant.Misbehave(standin.Status(503)) // for the rest of the day: the cheapest fault
				time.Sleep(keysExpiry - time.Hour - time.Minute)
				begun := time.Now()
				if err := verify(v, token); err != nil || time.Since(begun) != 0 {
					t.Errorf("after almost a day: verify = %v after %v, want it accepted at once", err, time.Since(begun))
				}
				time.Sleep(2 * time.Minute)
				if err := verify(v, token); err != errNoKeys {
					t.Errorf("after a day: verify = %v, want %v", err, errNoKeys)
				}
				s.Tenant.Behave()
				time.Sleep(15 * time.Second)
				if err := verify(v, token); err != nil {
					t.Errorf("15s after the tenant's return: verify = %v, want it accepted", err)
				}
			})
		})
	}
}

func TestATenantThatIsDownAtStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := standin.ForTest(t)
		s.Tenant.Stop()
		v := runVerifier(t, s, nil)
		token := s.Tenant.AccessToken(testAudience)
		synctest.Wait()
		for range 100 {
			begun := time.Now()
			if err := verify(v, token); err != errNoKeys || time.Since(begun) != 0 {
				t.Fatalf("verify = %v after %v, want %v at once", err, time.Since(begun), errNoKeys)
			}
			time.Sleep(10 * time.Second)
		}
		if err := s.Tenant.Restart(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Second)
		if err := verify(v, token); err != nil {
			t.Errorf("15s after the tenant's return: verify = %v, want it accepted", err)
		}
	})
}

func TestAHexX5tIsAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := standin.ForTest(t)
		s.Tenant.HexX5t(true)
		v := runVerifier(t, s, nil)
		if err := verify(v, s.Tenant.AccessToken(testAudience)); err != nil {
			t.Errorf("verify = %v, want it accepted", err)
		}
	})
}

// FuzzToken checks that nothing is accepted but what the tenant signed, and that
// every refusal is one of the table.
func FuzzToken(f *testing.F) {
	s := standin.ForTest(f)
	v := runVerifier(f, s, func(c *config) { c.Organizations = []string{"org_1", "acme"} })
	forge := forger{f, s.Tenant}
	honest := forge.with(standin.Organization("org_1", ""))
	if err := verify(v, honest); err != nil {
		f.Fatal(err)
	}
	f.Add(honest)
	for _, more := range [][]forgery{forge.headers(), forge.structures(), forge.signatures()} {
		for _, forgery := range more {
			f.Add(forgery.token)
		}
	}
	f.Fuzz(func(t *testing.T, token string) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // an unknown kid must not wait for a fetch
		_, err := v.verify(ctx, token)
		if err == nil && signedPart(token) != signedPart(honest) {
			t.Fatalf("verify(%q) passed, and the tenant did not sign it", token)
		}
		if err != nil && !slices.Contains(requestProblems(), problemOf(err)) {
			t.Fatalf("verify(%q) = %v, which is not in the table", token, err)
		}
	})
}

// FuzzClaims checks that signed claims of any form are accepted only if they hold
// what is required.
func FuzzClaims(f *testing.F) {
	s := standin.ForTest(f)
	v := runVerifier(f, s, func(c *config) {
		c.Organizations, c.RequiredScopes = []string{"org_1", "acme"}, []string{"read"}
	})
	forge := forger{f, s.Tenant}
	f.Add(`"org_1"`, `"acme"`, `"read"`, `["read"]`, `4102444800`)
	f.Add(`"ORG_1"`, `null`, `7`, `{}`, `1e19`)
	f.Add(`["org_1"]`, `{"a":1}`, `""`, `[1]`, `"4102444800"`)
	f.Fuzz(func(t *testing.T, id, name, scope, permissions, exp string) {
		claims := forge.json(forge.claims(standin.Claims{"exp": nil, "scope": nil}))
		claims = strings.TrimSuffix(claims, "}") + fmt.Sprintf(`,"org_id":%s,"org_name":%s,"scope":%s,"permissions":%s,"exp":%s}`, id, name, scope, permissions, exp)
		err := verify(v, forge.raw(forge.json(forge.header(nil)), claims))
		if err == nil && (!strings.Contains(id, "org_1") && !strings.Contains(strings.ToLower(name), "acme") && !strings.Contains(claims, `\u`) || !strings.Contains(claims, "read")) {
			t.Fatalf("accepted the claims %s", claims)
		}
	})
}
