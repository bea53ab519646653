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
	"net/http"
	"net/http/httptest"
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

// A forger makes tokens that its tenant would not, and has them verified.
type forger struct {
	*standintest.Tenant
	t testing.TB
	v *verifier
}

func newForger(t testing.TB, change func(*config)) *forger {
	t.Helper()
	f := newIdleServer(t, change)
	background(t, f.users.keys.Run)
	return &forger{f.Tenant, t, f.users}
}

// forging runs a test in a bubble, where the clock stands still.
func forging(t *testing.T, change func(*config), test func(f *forger)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(newForger(t, change)) })
}

// verify verifies a token with the timeout of a request. It returns the problem.
func (f *forger) verify(token string) error {
	ctx, cancel := context.WithTimeout(context.Background(), maxWait)
	defer cancel()
	if _, err := f.v.verify(ctx, token); err != nil {
		if !slices.Contains(problem.All(), problemOf(err)) {
			f.t.Errorf("the metrics do not count %v", err)
		}
		return problemOf(err)
	}
	return nil
}

// want wants the problem at once, or none, also when a token comes again.
func (f *forger) want(name, token string, want error) {
	f.t.Helper()
	for range 2 {
		begun := time.Now()
		if err := f.verify(token); err != want || time.Since(begun) != 0 {
			f.t.Errorf("verify(%s) = %v after %v, want %v at once", name, err, time.Since(begun), want)
		}
	}
}

// claimed and headed are tokens with changed claims or a changed header, signed by
// the tenant with RS256. A nil value deletes.
func (f *forger) claimed(change standintest.Claims) string {
	return f.AccessToken(testAudience, change)
}
func (f *forger) headed(change standintest.Claims) string {
	return f.Sign(change, f.Claims(testAudience))
}

// raw signs any texts as header and claims, by RS256 with the tenant's key.
func (f *forger) raw(header, claims string) string {
	signed := b64(header) + "." + b64(claims)
	sum := sha256.Sum256([]byte(signed))
	return signed + "." + b64(string(must(rsa.SignPKCS1v15(nil, f.Key().Private, 5, sum[:]))))
}

// texts are an honest header and honest claims.
func (f *forger) texts() (header, claims string) {
	return toJSON(standintest.Claims{"alg": "RS256", "kid": f.Key().ID}), toJSON(f.Claims(testAudience))
}

// signed is an honest token but for its algorithm and key.
func (f *forger) signed(method jwt.SigningMethod, key any) string {
	token := jwt.NewWithClaims(method, jwt.MapClaims(f.Claims(testAudience)))
	token.Header["kid"] = f.Key().ID
	return must(token.SignedString(key))
}

func toJSON(v any) string { return string(must(json.Marshal(v))) }

func b64(text string) string { return base64.RawURLEncoding.EncodeToString([]byte(text)) }

// signedPart is the part of a token that its signature covers.
func signedPart(token string) string { return token[:strings.LastIndexByte(token, '.')] }

// A forgery is a token and what the verifier says.
type forgery struct {
	name, token string
	want        error
}

// A lie is a header field or a claim with each of the values.
type lie struct {
	field  string
	want   error
	values []any
}

// tell makes the tokens of the lies; sign is claimed or headed.
func tell(sign func(standintest.Claims) string, lies []lie) (all []forgery) {
	for _, lie := range lies {
		for _, value := range lie.values {
			all = append(all, forgery{fmt.Sprintf("%s %q", lie.field, value), sign(standintest.Claims{lie.field: value}), lie.want})
		}
	}
	return all
}

func (f *forger) claims() []forgery {
	now, domain := time.Now().Unix(), f.Domain()
	header, text := f.texts()
	with := func(more string) string { return f.raw(header, strings.TrimSuffix(text, "}")+","+more+"}") }
	return append(tell(f.claimed, []lie{
		{"exp", problem.NoExpiry, []any{nil, 0}},
		{"exp", problem.Claims, []any{json.RawMessage("null"), "4102444800", []int64{now + 3600}, true, 1e19, -1e19, 1<<53 + 2}},
		{"exp", problem.TooLong, []any{json.RawMessage("1e400"), json.RawMessage("4E9"), json.RawMessage("4102444800.00000000001")}},
		{"exp", problem.Expired, []any{-1, now - 3600, now - 30}},
		{"nbf", problem.Claims, []any{"0", 1 << 62 * 2.0, 1e19}},
		{"nbf", problem.NotYet, []any{now + 3600, now + 31}},
		{"iat", problem.Claims, []any{"0", 1e19, -1e19}},
		{"iat", problem.NotYet, []any{now + 3600, now + 31}},
		{"iss", problem.Issuer, []any{
			nil, "", "https://" + domain, "http://" + domain + "/", "https://" + strings.ToUpper(domain) + "/", "https://" + domain + "/x",
			"https://" + domain + "//", "https://" + domain + "/ ", "https://" + domain + ".evil.example/", "https://" + domain + "@evil.example/",
			"https://other.us.auth0.com/",
		}},
		{"iss", problem.Claims, []any{1, []string{f.Issuer()}}},
		{"aud", problem.Audience, []any{
			nil, "", []string{}, 1, "https://other.example", []string{"https://other.example", f.Issuer() + "userinfo"},
			testAudience[:len(testAudience)-1], testAudience + "/", strings.ToUpper(testAudience), testAudience + " " + testClient,
		}},
		{"aud", problem.Claims, []any{[]any{1, testAudience}}},
	}), []forgery{
		{"exp NaN", with(`"exp":NaN`), problem.Malformed},
		{"two exps, the last past", with(`"exp":4102444800,"exp":1`), problem.Expired},
		{"EXP for exp", f.claimed(standintest.Claims{"exp": nil, "EXP": now + 3600}), problem.NoExpiry},
		{"EXP beside an exp past", f.claimed(standintest.Claims{"exp": now - 3600, "EXP": now + 3600}), problem.Expired},
		{"ISS for iss", f.claimed(standintest.Claims{"iss": nil, "ISS": f.Issuer()}), problem.Issuer},
		{"ISS beside another iss", f.claimed(standintest.Claims{"iss": "https://evil.example/", "ISS": f.Issuer()}), problem.Issuer},
		{"another issuer's, expired", f.claimed(standintest.Claims{"iss": "https://evil.example/", "exp": 1}), problem.Issuer},
		{"AUD for aud", f.claimed(standintest.Claims{"aud": nil, "AUD": testAudience}), problem.Audience},
	}...)
}

func (f *forger) headers() []forgery {
	kid, private := f.Key().ID, f.Key().Private
	_, claims := f.texts()
	stranger := must(rsa.GenerateKey(rand.Reader, 2048))
	by := func(key *rsa.PrivateKey, change standintest.Claims) string {
		return f.SignWith(standintest.Key{ID: kid, Private: key}, change, f.Claims(testAudience))
	}
	jwk := standintest.Claims{
		"kty": "RSA", "alg": "RS256", "use": "sig", "kid": kid,
		"n": b64(string(stranger.N.Bytes())), "e": b64(string(big.NewInt(int64(stranger.E)).Bytes())),
	}
	all := append(tell(f.headed, []lie{
		{"alg", problem.Algorithm, []any{nil, "none", "None", "NONE", "nOnE", "rs256", []string{"RS256"}}},
		{"kid", problem.NoKeyID, []any{nil, "", 1, []string{kid}}},
		{"kid", problem.UnknownKey, []any{"../../../../dev/null", "' OR 1=1 --", "unknown"}},
		{"kid", problem.Signature, []any{f.NextKey().ID}},
		{"crit", problem.Critical, []any{[]string{}, []string{"exp"}, []string{"b64"}}},
		{"typ", problem.Type, []any{"logout+jwt", 1, ""}},
	}), []forgery{
		{"a stranger's, under the tenant's kid", by(stranger, nil), problem.Signature},
		{"a stranger's, with its jwk", by(stranger, standintest.Claims{"jwk": jwk}), problem.Signature},
		{"a stranger's, with a jku", by(stranger, standintest.Claims{"jku": "https://" + f.Domain() + "/elsewhere"}), problem.Signature},
		{"a stranger's, with an x5u", by(stranger, standintest.Claims{"x5u": "https://" + f.Domain() + "/elsewhere"}), problem.Signature},
		{"a stranger's, with an x5c", by(stranger, standintest.Claims{"x5c": []string{"MIIB"}}), problem.Signature},
		{"a stranger's, with its jwk and no kid", by(stranger, standintest.Claims{"jwk": jwk, "kid": nil}), problem.NoKeyID},
		{"signed by the next key under the current kid", by(f.NextKey().Private, nil), problem.Signature},
		{"Kid for kid", f.headed(standintest.Claims{"kid": nil, "Kid": kid}), problem.NoKeyID},
		{"two algs, RS256 first", f.raw(`{"alg":"RS256","alg":"none","kid":"`+kid+`"}`, claims), problem.Algorithm},
		{"Alg beside alg", f.headed(standintest.Claims{"alg": "none", "Alg": "RS256"}), problem.Algorithm},
		{"PS256 by the tenant's key", f.signed(jwt.SigningMethodPS256, private), problem.Algorithm},
		{"RS384 by the tenant's key", f.signed(jwt.SigningMethodRS384, private), problem.Algorithm},
		{"RS512 by the tenant's key", f.signed(jwt.SigningMethodRS512, private), problem.Algorithm},
		{"ES256", f.signed(jwt.SigningMethodES256, must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))), problem.Algorithm},
		{"none", f.signed(jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType), problem.Algorithm},
	}...)
	for form, key := range f.publicForms() {
		all = append(all, forgery{"HS256 keyed with the public key's " + form, f.signed(jwt.SigningMethodHS256, key), problem.Algorithm})
	}
	return all
}

// publicForms are the texts of a public key that an HMAC has been keyed with in
// attacks on verifiers that take the token's word for the algorithm.
func (f *forger) publicForms() map[string][]byte {
	key := &f.Key().Private.PublicKey
	pkix, pkcs1 := must(x509.MarshalPKIXPublicKey(key)), x509.MarshalPKCS1PublicKey(key)
	var set struct{ Keys []json.RawMessage }
	var jwk struct {
		N   string
		X5c []string
	}
	if json.Unmarshal(f.JWKS(), &set) != nil || json.Unmarshal(set.Keys[0], &jwk) != nil {
		f.t.Fatalf("the tenant publishes %s", f.JWKS())
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

func (f *forger) structures() []forgery {
	header, claims := f.texts()
	honest := f.raw(header, claims)
	parts := strings.Split(honest, ".")
	other := strings.Split(f.claimed(standintest.Claims{"sub": "auth0|another"}), ".")
	join := func(parts ...string) string { return strings.Join(parts, ".") }
	signature := func(bytes []byte) string { return join(parts[0], parts[1], b64(string(bytes))) }
	flipped := must(base64.RawURLEncoding.DecodeString(parts[2]))
	flipped[0] ^= 1
	deep := func(n int) string { return `{"a":` + strings.Repeat("[", n) }
	return []forgery{
		{"an opaque token", f.OpaqueToken(), problem.NotJWT},
		{"an old opaque token", "hH0xJtqyUnpgqLHaLQvnJWBTYGVkoyo1", problem.NotJWT},
		{"one part", parts[0], problem.Malformed},
		{"two parts", join(parts[0], parts[1]), problem.Malformed},
		{"four parts", honest + ".", problem.Malformed},
		{"three empty parts", "..", problem.Malformed},
		{"an empty header", join("", parts[1], parts[2]), problem.Malformed},
		{"empty claims", join(parts[0], "", parts[2]), problem.Malformed},
		{"padding", join(parts[0]+"==", parts[1], parts[2]), problem.Malformed},
		{"a padded signature", honest + "==", problem.Malformed},
		{"the other alphabet", join(parts[0], parts[1], strings.NewReplacer("-", "+", "_", "/").Replace(parts[2])+"+/"), problem.Malformed},
		{"loose last bits in the signature", honest[:len(honest)-1] + string(honest[len(honest)-1]+1), problem.Malformed},
		{"spaces in a part", join(parts[0], " "+parts[1], parts[2]), problem.Malformed},
		{"a JWS in JSON", `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`, problem.NotJWT},
		{"claims that are a list", f.raw(header, "["+claims+"]"), problem.Malformed},
		{"claims that are null", f.raw(header, "null"), problem.Issuer},
		{"claims that are a string", f.raw(header, `"claims"`), problem.Malformed},
		{"claims that are an empty object", f.raw(header, "{}"), problem.Issuer},
		{"claims with text behind them", f.raw(header, claims+"{}"), problem.Malformed},
		{"claims that are cut", f.raw(header, claims[:len(claims)-1]), problem.Malformed},
		{"claims nested 400 deep", f.raw(header, deep(400)), problem.Malformed},
		{"claims nested 20,000 deep", f.raw(header, deep(20000)), problem.TooLong},
		{"claims that are not UTF-8", f.raw(header, "\xff\xfe{}"), problem.Malformed},
		{"a header that is a list", f.raw("["+header+"]", claims), problem.Malformed},
		{"a header that is null", f.raw("null", claims), problem.Algorithm},
		{"a header that is empty JSON", f.raw("{}", claims), problem.Algorithm},
		{"a header nested 400 deep", f.raw(deep(400), claims), problem.Malformed},
		{"a header nested 20,000 deep", f.raw(deep(20000), claims), problem.TooLong},
		{"no signature", signature(nil), problem.Signature},
		{"a signature cut", signature([]byte("cut")), problem.Signature},
		{"a signature with a bit changed", signature(flipped), problem.Signature},
		{"a signature of zeroes", signature(make([]byte, 256)), problem.Signature},
		{"a signature of a kilobyte", signature(make([]byte, 1024)), problem.Signature},
		{"another token's signature", join(parts[0], parts[1], other[2]), problem.Signature},
		{"another token's claims", join(parts[0], other[1], parts[2]), problem.Signature},
	}
}

func TestForgedAndMalformedTokensAreRefused(t *testing.T) {
	forging(t, nil, func(f *forger) {
		f.want("honest", f.claimed(nil), nil)
		fetches := f.Requests()
		all := slices.Concat(f.claims(), f.headers(), f.structures())
		if len(all) < 120 {
			t.Errorf("%d forgeries, want at least 120", len(all))
		}
		for _, forgery := range all {
			f.want(forgery.name, forgery.token, forgery.want)
		}
		// Only the unknown kids may have caused fetches, at most a burst of five: no
		// jku or x5u is ever followed.
		if n := f.Requests() - fetches; n > 5 {
			t.Errorf("%d fetches, want at most 5", n)
		}
		f.want("honest, after the forgeries", f.claimed(standintest.Claims{"jti": "another"}), nil)
	})
}

func TestGoodTokensAreAccepted(t *testing.T) {
	forging(t, nil, func(f *forger) {
		f.want("an access token", f.AccessToken(testAudience), nil)
		f.want("an ID token", f.IDToken(testClient), nil)
		f.want("an RFC 9068 access token", f.ATJWT(testAudience), nil)
		f.want("signed by the next key", f.SignWith(f.NextKey(), nil, f.Claims(testAudience)), nil)
		now := time.Now().Unix()
		for _, good := range append(tell(f.claimed, []lie{
			{"aud", nil, []any{testAudience, []string{"a", "b", testAudience}}},
			{"exp", nil, []any{now - 29, float64(now) + 0.5, 4102444800, 1 << 53}},
			{"nbf", nil, []any{now + 30}},
			{"iat", nil, []any{now + 30, nil}},
			{"sub", nil, []any{nil}},
			{"https://example.com/x", nil, []any{map[string]any{"a": []int{1}}}},
		}), tell(f.headed, []lie{{"typ", nil, []any{"AT+JWT", nil}}, {"jwk", nil, []any{"nonsense"}}, {"x", nil, []any{1}}})...) {
			f.want(good.name, good.token, good.want)
		}
	})
}

func TestWithoutAnAudienceAnyTokenOfTheTenantIsAccepted(t *testing.T) {
	forging(t, func(c *config) { c.Audiences = nil }, func(f *forger) {
		for _, aud := range []any{"https://other.example", []string{"a", "b"}, nil} {
			f.want("any aud", f.claimed(standintest.Claims{"aud": aud}), nil)
		}
		f.want("another issuer", f.claimed(standintest.Claims{"iss": "https://other.us.auth0.com/"}), problem.Issuer)
	})
}

func TestOrganizations(t *testing.T) {
	forging(t, func(c *config) { c.Organizations = []string{"org_1", "acme"} }, func(f *forger) {
		for _, tt := range []struct {
			name     string
			id, text any
			want     error
		}{
			{"an ID", "org_1", "", nil},
			{"a name", "org_2", "acme", nil},
			{"a name in another case", "org_2", "ACME", nil},
			{"none", nil, nil, problem.Organization},
			{"another", "org_2", "other", problem.Organization},
			{"an ID in another case", "ORG_1", "", problem.Organization},
			{"an ID as the name", "org_2", "org_1", problem.Organization},
			{"a name as the ID", "acme", "", problem.Organization},
			{"a prefix", "org_", "acm", problem.Organization},
			{"an empty one", "", "", problem.Organization},
			{"a number", 1, 2, problem.Organization},
			{"a list", []string{"org_1"}, []string{"acme"}, problem.Organization},
		} {
			f.want(tt.name, f.claimed(standintest.Claims{"org_id": tt.id, "org_name": tt.text}), tt.want)
		}
		f.want("claims in another case", f.claimed(standintest.Claims{"ORG_ID": "org_1", "Org_Name": "acme"}), problem.Organization)
	})
}

func TestRequiredScopes(t *testing.T) {
	forging(t, func(c *config) { c.RequiredScopes = []string{"itwin:read", "itwin:write"} }, func(f *forger) {
		for _, tt := range []struct {
			name        string
			scope, perm any
			want        error
		}{
			{"both in scope", "openid itwin:write itwin:read", nil, nil},
			{"both in permissions", nil, []string{"itwin:read", "itwin:write"}, nil},
			{"one in each", "itwin:read", []string{"itwin:write"}, nil},
			{"one", "itwin:read", nil, problem.Scope},
			{"none", nil, nil, problem.Scope},
			{"as a part of another", "itwin:read itwin:write2", nil, problem.Scope},
			{"as a part of a permission", "itwin:read", []string{"itwin:write2"}, problem.Scope},
			{"in another case", "itwin:read ITWIN:WRITE", nil, problem.Scope},
			{"scope a list", []string{"itwin:read", "itwin:write"}, nil, problem.Scope},
			{"permissions a string", nil, "itwin:read itwin:write", problem.Scope},
		} {
			token := f.claimed(standintest.Claims{"scope": tt.scope, "permissions": tt.perm})
			f.want(tt.name, token, tt.want)
			// A forger must not learn about scopes.
			f.want(tt.name+", forged", token[:len(token)-8]+"AAAAAAAA", problem.Signature)
		}
	})
}

func TestANewKeyWorksAtOnce(t *testing.T) {
	forging(t, nil, func(f *forger) {
		f.want("known key", f.claimed(nil), nil)
		f.Rotate() // publishes a new key
		before := f.Requests()
		token := f.SignWith(f.NextKey(), nil, f.Claims(testAudience))
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() { f.want("new key", token, nil) })
		}
		callers.Wait()
		if n := f.Requests() - before; n != 1 {
			t.Errorf("%d fetches for 100 callers at once, want 1", n)
		}
	})
}

// The fetch in progress began before the key was published, so it decides nothing.
func TestANewKeyDuringAFetchWorksAtOnce(t *testing.T) {
	forging(t, nil, func(f *forger) {
		f.want("known key", f.claimed(nil), nil)
		begun := make(chan bool, 10)
		f.Misbehave(func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
			answer := httptest.NewRecorder()
			honest.ServeHTTP(answer, r)
			begun <- true
			time.Sleep(300 * time.Millisecond)
			w.Write(answer.Body.Bytes())
		})
		<-begun // the renewal
		time.Sleep(100 * time.Millisecond)
		f.Rotate()
		if err := f.verify(f.SignWith(f.NextKey(), nil, f.Claims(testAudience))); err != nil {
			t.Errorf("verify(new key) = %v, want nil", err)
		}
	})
}

func TestOnlyATokenThatWouldPassCausesAFetch(t *testing.T) {
	forging(t, func(c *config) { c.RequiredScopes = []string{"openid"} }, func(f *forger) {
		f.want("known key", f.claimed(nil), nil)
		fetches := func(want int, change standintest.Claims) {
			before, claims := f.Requests(), f.Claims(testAudience)
			maps.Copy(claims, change)
			f.verify(f.Sign(standintest.Claims{"kid": "unknown"}, claims))
			synctest.Wait()
			if n := f.Requests() - before; n != want {
				t.Errorf("unknown kid, claims %v: %d fetches, want %d", change, n, want)
			}
		}
		for _, change := range []standintest.Claims{
			{"iss": "https://other.us.auth0.com/"}, {"aud": "other"}, {"exp": 1}, {"exp": nil}, {"nbf": 4102444800}, {"nbf": 1e19}, {"scope": "none"},
		} {
			fetches(0, change)
		}
		fetches(1, standintest.Claims{"scope": "openid"})
	})
}

// A key that is new while the tenant is down is no fault of the caller, whose app
// would sign the user out after a 401.
func TestAnUnknownKeyDuringAnOutage(t *testing.T) {
	for name, fault := range map[string]standintest.Fault{
		"hang up": standintest.HangUp(), "hang": standintest.Hang(), "503": standintest.Status(503), "429": standintest.Status(429),
		"nonsense": standintest.Answer(200, "text/html", "<p>"),
	} {
		forging(t, nil, func(f *forger) {
			known := f.claimed(nil)
			f.want("known key", known, nil)
			f.Rotate()
			f.Misbehave(fault)
			token := f.SignWith(f.NextKey(), nil, f.Claims(testAudience))
			for range 20 { // over 100 s
				begun := time.Now()
				if err := f.verify(token); err != problem.KeysOutdated || time.Since(begun) > 3*time.Second {
					t.Errorf("%s: verify(new key) = %v after %v, want %v within 3s", name, err, time.Since(begun), problem.KeysOutdated)
				}
				f.want(name+": known key", known, nil)
				time.Sleep(5 * time.Second)
			}
			f.Behave()
			back := time.Now()
			for f.verify(token) != nil {
				time.Sleep(time.Second)
			}
			if took := time.Since(back); took > 35*time.Second {
				t.Errorf("%s: the new key is accepted %v after the tenant's return, want 35s at most", name, took)
			}
			if err := f.verify(f.headed(standintest.Claims{"kid": "unknown"})); err != problem.UnknownKey {
				t.Errorf("%s: verify(unknown kid) after the outage = %v, want %v", name, err, problem.UnknownKey)
			}
		})
	}
}

func TestARevokedKeyIsRefusedWithin15Minutes(t *testing.T) {
	forging(t, nil, func(f *forger) {
		token := f.claimed(nil)
		f.want("current key", token, nil)
		f.Rotate()
		f.Revoke()
		time.Sleep(5 * time.Minute) // a fetch in each; 15 are promised
		f.want("revoked key", token, problem.UnknownKey)
	})
}

func TestARememberedTokenExpires(t *testing.T) {
	forging(t, nil, func(f *forger) {
		token := f.claimed(standintest.Claims{"exp": time.Now().Add(time.Minute).Unix()})
		f.want("new", token, nil)
		time.Sleep(time.Minute + 30*time.Second - time.Millisecond)
		f.want("within the leeway", token, nil)
		time.Sleep(time.Millisecond)
		f.want("past the leeway", token, problem.Expired)
	})
}

func TestKeysServeForADayWithoutTheTenant(t *testing.T) {
	forging(t, nil, func(f *forger) {
		token := f.claimed(standintest.Claims{"exp": time.Now().Add(72 * time.Hour).Unix()})
		f.want("before", token, nil)
		f.Misbehave(standintest.Status(503))
		time.Sleep(24*time.Hour - time.Millisecond)
		f.want("after almost a day", token, nil)
		time.Sleep(time.Millisecond)
		f.want("after a day", token, problem.NoKeys)
		before := f.Requests()
		time.Sleep(5 * time.Minute) // without callers
		if n := f.Requests() - before; n < 5*60/15 {
			t.Errorf("%d fetches in 5 min, want at least one in 15s", n)
		}
		f.Behave()
		time.Sleep(15 * time.Second)
		f.want("15s after the tenant's return", token, nil)
	})
}

// FuzzToken checks that nothing is accepted but what the tenant signed, and that
// every refusal is one of the table.
func FuzzToken(f *testing.F) {
	forge := newForger(f, func(c *config) { c.Organizations = []string{"org_1", "acme"} })
	honest := forge.claimed(standintest.Organization("org_1", ""))
	if err := forge.verify(honest); err != nil {
		f.Fatal(err)
	}
	f.Add(honest)
	for _, forgery := range append(forge.headers(), forge.structures()...) {
		f.Add(forgery.token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // an unknown kid must not wait for a fetch
		_, err := forge.v.verify(ctx, token)
		if err == nil && signedPart(token) != signedPart(honest) {
			t.Fatalf("verify(%q) passed, and the tenant did not sign it", token)
		}
		if err != nil && !slices.Contains(problem.All(), problemOf(err)) {
			t.Fatalf("verify(%q) = %v, which is not in the table", token, err)
		}
	})
}

// FuzzClaims checks that signed claims of any form are accepted only if they hold
// what is required.
func FuzzClaims(f *testing.F) {
	forge := newForger(f, func(c *config) {
		c.Organizations, c.RequiredScopes = []string{"org_1", "acme"}, []string{"read"}
	})
	f.Add(`"org_1"`, `"acme"`, `"read"`, `["read"]`, `4102444800`)
	f.Add(`"ORG_1"`, `null`, `7`, `{}`, `1e19`)
	f.Add(`["org_1"]`, `{"a":1}`, `""`, `[1]`, `"4102444800"`)
	f.Fuzz(func(t *testing.T, id, name, scope, permissions, exp string) {
		header, claims := forge.texts()
		claims = strings.TrimSuffix(claims, "}") + fmt.Sprintf(`,"org_id":%s,"org_name":%s,"scope":%s,"permissions":%s,"exp":%s}`, id, name, scope, permissions, exp)
		err := forge.verify(forge.raw(header, claims))
		if err == nil && (!strings.Contains(id, "org_1") && !strings.Contains(strings.ToLower(name), "acme") && !strings.Contains(claims, `\u`) || !strings.Contains(claims, "read")) {
			t.Fatalf("accepted the claims %s", claims)
		}
	})
}
