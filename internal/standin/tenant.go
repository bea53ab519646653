package standin

import (
	"crypto/rand"
	"net/http"
	"slices"
	"sync"
	"time"
)

// What Auth0 gives by default.
const (
	idTokenLife     = 10 * time.Hour
	accessTokenLife = 24 * time.Hour
)

// What the user and the app are called. The e-mail address is there to be looked
// for where it must not be.
const (
	subject = "auth0|65a1f0c2d3e4b5a697887766"
	appID   = "J7qXk2vTn0WmR4yLs8BcZp1DhG5eUaFi"
)

// Tenant is the stand-in Auth0 tenant, with one user, Jane Doe. Its faults and its
// counts concern GET /.well-known/jwks.json. Methods are safe for concurrent use.
type Tenant struct {
	Server

	keysMu        sync.Mutex // guards what follows; never held while signing
	current, next Key
	former        []Key
	hexX5t        bool
}

func newTenant(ca *authority, current, next Key) *Tenant {
	t := &Tenant{current: current, next: next}
	honest := http.HandlerFunc(t.serveJWKS)
	mux := http.NewServeMux()
	mux.Handle("GET /.well-known/jwks.json", t.endpoint(honest))
	mux.Handle("GET "+elsewhere, honest)
	mux.HandleFunc("GET /.well-known/openid-configuration", t.serveDiscovery)
	t.init(tenantName, ca.tls(), mux)
	return t
}

// Domain is what ITM_TOKEN_SERVER_AUTH0_DOMAIN should be.
func (t *Tenant) Domain() string { return t.host() }

// Issuer is the tokens' iss: Auth0's ends with a slash.
func (t *Tenant) Issuer() string { return "https://" + t.Domain() + "/" }

// Claims are those of a good access token of Jane's for aud, a string or a list.
func (t *Tenant) Claims(aud any) Claims {
	now := time.Now()
	return Claims{
		"iss":   t.Issuer(),
		"sub":   subject,
		"aud":   aud,
		"iat":   now.Unix(),
		"exp":   now.Add(accessTokenLife).Unix(),
		"azp":   appID,
		"scope": "openid profile email",
	}
}

// IDToken is what the iOS sample sends: aud is the app, life 10 h, and personal
// data inside. Each change replaces claims; a nil value deletes one.
func (t *Tenant) IDToken(clientID string, change ...Claims) string {
	now := time.Now()
	return t.Sign(nil, merged(Claims{
		"nickname":       "jane.doe",
		"name":           "Jane Doe",
		"picture":        "https://s.gravatar.com/avatar/jane.doe.png",
		"updated_at":     now.UTC().Format(time.RFC3339),
		"email":          "jane.doe@example.com",
		"email_verified": true,
		"iss":            t.Issuer(),
		"aud":            clientID,
		"sub":            subject,
		"iat":            now.Unix(),
		"exp":            now.Add(idTokenLife).Unix(),
		"sid":            randomID(),
		"nonce":          randomID(),
	}, change...))
}

// AccessToken is what the Android sample sends: for the audience and, since openid
// was asked for, for userinfo. Life 24 h.
func (t *Tenant) AccessToken(audience string, change ...Claims) string {
	return t.Sign(nil, merged(t.Claims(t.audiences(audience)), change...))
}

// ATJWT is an access token of the RFC 9068 profile, as an API can be set to get.
func (t *Tenant) ATJWT(audience string, change ...Claims) string {
	extra := Claims{"azp": nil, "client_id": appID, "jti": randomID()}
	claims := merged(t.Claims(t.audiences(audience)), append([]Claims{extra}, change...)...)
	return t.Sign(Claims{"typ": "at+jwt"}, claims)
}

func (t *Tenant) audiences(audience string) []string {
	return []string{audience, t.Issuer() + "userinfo"}
}

// OpaqueToken is the access token that Auth0 gives to an app that named no
// audience: an encrypted token (RFC 7516 §7.1) that only Auth0 can read.
func (t *Tenant) OpaqueToken() string {
	secret := make([]byte, 12+180+16) // IV, ciphertext, tag of A256GCM
	rand.Read(secret)
	header := `{"alg":"dir","enc":"A256GCM","iss":"` + t.Issuer() + `"}`
	return base64url([]byte(header)) + ".." + // dir: no encrypted key between the dots
		base64url(secret[:12]) + "." + base64url(secret[12:192]) + "." + base64url(secret[192:])
}

// Sign is SignWith the current key.
func (t *Tenant) Sign(header, claims Claims) string {
	return t.SignWith(t.Key(), header, claims)
}

// SignWith makes a token by key, which need not be the tenant's. The header's
// defaults are RS256, JWT and the key's kid; the signature is RS256 whatever the
// header says. A nil value deletes, in header and claims. What is no JSON or no key
// gives "".
func (t *Tenant) SignWith(key Key, header, claims Claims) string {
	defaults := Claims{"alg": "RS256", "typ": "JWT", "kid": key.ID}
	return jws(key.Private, merged(defaults, header), merged(claims))
}

// Key is the one that signs now.
func (t *Tenant) Key() Key {
	t.keysMu.Lock()
	defer t.keysMu.Unlock()
	return t.current
}

// NextKey is published already and signs after Rotate.
func (t *Tenant) NextKey() Key {
	t.keysMu.Lock()
	defer t.keysMu.Unlock()
	return t.next
}

// Rotate makes the next key the current one. The former stays published. It makes
// a new RSA key, which takes some 100 ms of work.
func (t *Tenant) Rotate() {
	fresh, err := newKey(tenantName)
	if err != nil {
		panic(err) // only without randomness, and then crypto/rand has ended the process already
	}
	t.keysMu.Lock()
	defer t.keysMu.Unlock()
	t.former = append(t.former, t.current)
	t.current, t.next = t.next, fresh
}

// Revoke withdraws every former key: tokens they signed are no longer good.
func (t *Tenant) Revoke() {
	t.keysMu.Lock()
	defer t.keysMu.Unlock()
	t.former = nil
}

// HexX5t publishes each x5t as older tenants do: base64url over the thumbprint's hex.
func (t *Tenant) HexX5t(on bool) {
	t.keysMu.Lock()
	defer t.keysMu.Unlock()
	t.hexX5t = on
}

// JWKS is the key set as published now: current, next, and former keys not revoked.
func (t *Tenant) JWKS() []byte {
	t.keysMu.Lock()
	keys := slices.Concat([]Key{t.current, t.next}, t.former)
	hexX5t := t.hexX5t
	t.keysMu.Unlock()
	return keySet(hexX5t, keys...)
}

func (t *Tenant) serveJWKS(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "public, max-age=15, stale-while-revalidate=15, stale-if-error=86400")
	w.Write(t.JWKS())
}

func (t *Tenant) serveDiscovery(w http.ResponseWriter, _ *http.Request) {
	issuer := t.Issuer()
	writeJSON(w, http.StatusOK, Claims{
		"issuer":                                issuer,
		"authorization_endpoint":                issuer + "authorize",
		"token_endpoint":                        issuer + "oauth/token",
		"userinfo_endpoint":                     issuer + "userinfo",
		"jwks_uri":                              issuer + ".well-known/jwks.json",
		"response_types_supported":              []string{"code"},
		"subject_types_supported":               []string{"public"},
		"id_token_signing_alg_values_supported": []string{"RS256"},
	})
}
