// Package jwks fetches the keys that an Auth0 tenant signs with, and keeps of
// them what RS256 can use.
package jwks

import (
	"context"
	"crypto/rsa"
	"encoding/json"
	"net/http"

	"github.com/MicahParks/keyfunc/v3"

	"itwin-token-server/internal/upstream"
)

// A key shorter than minBits is not RS256's (RFC 7518 §3.3); one longer than
// maxBits would make each signature cost too much.
const minBits, maxBits = 2048, 8192

// maxExponent is the largest that crypto/rsa verifies with. jwkset reads an e of
// more than 64 bits as its last 64, so a longer text is not shown to it.
const maxExponent, maxExponentText = 1<<31 - 1, 8

// Fetch gets the keys that the tenant of this domain publishes, by their kid: at
// least one. Its errors are those of [upstream.Do].
func Fetch(ctx context.Context, transport http.RoundTripper, domain string) (map[string]*rsa.PublicKey, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+domain+"/.well-known/jwks.json", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	status, body, err := upstream.Do(transport, req)
	if err != nil {
		return nil, err
	}
	if status/100 == 5 || status == http.StatusTooManyRequests {
		return nil, upstream.Errorf(upstream.Refused, "%s: want the tenant's keys, got status %d: Auth0 has trouble: try again later", domain, status)
	}
	if status != http.StatusOK {
		return nil, upstream.Errorf(upstream.Refused, "%s: want the tenant's keys, got status %d: check the domain", domain, status)
	}
	keys := Parse(body)
	if len(keys) == 0 {
		return nil, upstream.Errorf(upstream.Nonsense, "%s: want a key set with an RS256 key, got something else: check the domain", domain)
	}
	return keys, nil
}

// Parse takes from a JWKS (RFC 7517 §5) the keys that RS256 can use, by their
// kid; from nonsense it takes none. Of each key it reads only what RS256 needs,
// and each by itself: one with a false x5t, as older Auth0 tenants publish it,
// would have keyfunc refuse the whole set.
func Parse(body []byte) map[string]*rsa.PublicKey {
	var set struct{ Keys []json.RawMessage }
	if json.Unmarshal(body, &set) != nil {
		return nil
	}
	keys := make(map[string]*rsa.PublicKey)
	for _, raw := range set.Keys {
		if kid, key := parseKey(raw); key != nil {
			keys[kid] = key
		}
	}
	return keys
}

// parseKey returns nil for a key that RS256 cannot use.
func parseKey(raw []byte) (string, *rsa.PublicKey) {
	var jwk struct {
		Kty string `json:"kty"`
		Kid string `json:"kid"`
		Use string `json:"use,omitempty"`
		Alg string `json:"alg,omitempty"`
		N   string `json:"n"`
		E   string `json:"e"`
	}
	if json.Unmarshal(raw, &jwk) != nil || jwk.Kid == "" || jwk.Kty != "RSA" || len(jwk.E) > maxExponentText ||
		jwk.Use != "" && jwk.Use != "sig" || jwk.Alg != "" && jwk.Alg != "RS256" {
		return "", nil
	}
	alone, err := json.Marshal(map[string]any{"keys": []any{jwk}})
	if err != nil {
		return "", nil
	}
	set, err := keyfunc.NewJWKSetJSON(alone)
	if err != nil {
		return "", nil
	}
	stored, err := set.Storage().KeyRead(context.Background(), jwk.Kid)
	if err != nil {
		return "", nil
	}
	key, ok := stored.Key().(*rsa.PublicKey)
	if !ok || !usable(key) {
		return "", nil
	}
	return jwk.Kid, key
}

// usable reports whether crypto/rsa would verify with the key. A set of none but
// others must count as nonsense, not take the place of keys that work.
func usable(key *rsa.PublicKey) bool {
	bits := key.N.BitLen()
	return minBits <= bits && bits <= maxBits && key.N.Bit(0) == 1 &&
		3 <= key.E && key.E <= maxExponent && key.E%2 == 1
}
