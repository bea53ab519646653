package standin

import (
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"time"
)

// appID identifies the app that the user signed in with.
const appID = "J7qXk2vTn0WmR4yLs8BcZp1DhG5eUaFi"

// JWKSPath is where a tenant publishes its keys.
const JWKSPath = "/.well-known/jwks.json"

// Tenant is the stand-in Auth0 tenant, with one user, Jane Doe. It answers
// GET /.well-known/jwks.json. Methods are safe for concurrent use.
type Tenant struct {
	http.Handler
	host locked[string]
	keys locked[tenantKeys]
}

type tenantKeys struct {
	current, next Key
	former        []Key // oldest first
	hexX5t        bool
}

func newTenant(current, next Key) *Tenant {
	t := &Tenant{keys: locked[tenantKeys]{v: tenantKeys{current: current, next: next}}}
	t.SetHost(TenantName)
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+JWKSPath, t.serveJWKS)
	t.Handler = mux
	return t
}

// SetHost changes the tenant's domain, with a port if that is not 443.
func (t *Tenant) SetHost(host string) { t.host.update(func(h *string) { *h = host }) }

// Domain is the value for ITM_TOKEN_SERVER_AUTH0_DOMAIN.
func (t *Tenant) Domain() string { return t.host.get() }

// Issuer is the iss of tokens. Like Auth0's, it ends with a slash.
func (t *Tenant) Issuer() string { return "https://" + t.Domain() + "/" }

// Claims returns the claims of a valid access token for aud, a string or a list.
func (t *Tenant) Claims(aud any) Claims {
	now := time.Now()
	return Claims{
		"iss":   t.Issuer(),
		"sub":   "auth0|65a1f0c2d3e4b5a697887766",
		"aud":   aud,
		"iat":   now.Unix(),
		"exp":   now.Add(24 * time.Hour).Unix(), // Auth0's default
		"azp":   appID,
		"scope": "openid profile email",
	}
}

// IDToken returns what the iOS sample sends: aud is the app, and personal data is
// among the claims. Each change replaces claims; a nil value deletes one.
func (t *Tenant) IDToken(clientID string, change ...Claims) string {
	personal := Claims{
		"name":  "Jane Doe",
		"email": "jane.doe@example.com",                // must never appear in the log
		"exp":   time.Now().Add(10 * time.Hour).Unix(), // Auth0's default
		"nonce": rand.Text(),
		"azp":   nil,
		"scope": nil,
	}
	return t.Sign(nil, merged(t.Claims(clientID), append([]Claims{personal}, change...)...))
}

// AccessToken returns what the Android sample sends: a token for the audience and,
// since the scope has openid, for userinfo. The change is as for IDToken.
func (t *Tenant) AccessToken(audience string, change ...Claims) string {
	return t.Sign(nil, merged(t.Claims([]string{audience, t.Issuer() + "userinfo"}), change...))
}

// OpaqueToken returns the access token that Auth0 gives to an app that requested no
// audience: an encrypted token (RFC 7516 §7.1) that only Auth0 can read.
func (t *Tenant) OpaqueToken() string {
	header := base64url([]byte(`{"alg":"dir","enc":"A256GCM","iss":"` + t.Issuer() + `"}`))
	const encryptedKey = "" // with dir there is none
	initVector, ciphertext, tag := rand.Text(), strings.Repeat(rand.Text(), 9), rand.Text()
	return strings.Join([]string{header, encryptedKey, initVector, ciphertext, tag}, ".")
}

// Sign is SignWith the current key.
func (t *Tenant) Sign(header, claims Claims) string {
	return t.SignWith(t.Key(), header, claims)
}

// SignWith makes a token with a key, which need not be the tenant's. The signature is
// RS256 whatever the header says. A nil value deletes, in header and claims.
func (t *Tenant) SignWith(key Key, header, claims Claims) string {
	defaults := Claims{"alg": "RS256", "typ": "JWT", "kid": key.ID}
	return sign(key, merged(defaults, header), merged(Claims{}, claims))
}

// Key is the key that signs now.
func (t *Tenant) Key() Key { return t.keys.get().current }

// NextKey is published and will sign after Rotate.
func (t *Tenant) NextKey() Key { return t.keys.get().next }

// Rotate makes the next key the current one, and a new next one, which takes some
// 100 ms. The former one stays published.
func (t *Tenant) Rotate() {
	key, err := newKey()
	if err != nil {
		panic(err) // not enough randomness, for which crypto/rand ends the process itself
	}
	t.keys.update(func(k *tenantKeys) {
		k.former = append(k.former, k.current)
		k.current, k.next = k.next, key
	})
}

// Revoke removes all former keys from the JWKS: their tokens are not valid any more.
func (t *Tenant) Revoke() {
	t.keys.update(func(k *tenantKeys) { k.former = nil })
}

// HexX5t publishes each x5t as older tenants do: base64url over the thumbprint's hex.
func (t *Tenant) HexX5t(on bool) {
	t.keys.update(func(k *tenantKeys) { k.hexX5t = on })
}

// JWKS is the published key set: the current, the next, and former keys not revoked.
func (t *Tenant) JWKS() []byte {
	k := t.keys.get()
	return keySet(k.hexX5t, slices.Concat([]Key{k.current, k.next}, k.former)...)
}

func (t *Tenant) serveJWKS(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control",
		"public, max-age=15, stale-while-revalidate=15, stale-if-error=86400")
	w.Write(t.JWKS())
}
