// Package jwks fetches the keys that an Auth0 tenant signs with, and keeps of them what
// RS256 can use. With the keys it keeps the tokens that were verified with them.
package jwks

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"strings"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"itwin-token-server/internal/upstream"
)

const (
	minBits         = 2048 // of the modulus (RFC 7518 §3.3)
	maxBits         = 8192 // a longer one would make each signature cost too much
	maxExponentBits = 31   // the most that crypto/rsa verifies with
)

// A Set is a tenant's keys, at least one.
type Set struct {
	Keyfunc  jwt.Keyfunc // finds the key of a token; its errors are [keyfunc.ErrKeyfunc]
	Verified Cache       // tokens that were verified with these keys

	keys map[string]jwk // by kid
}

// Has reports whether the key with this ID is in the set.
func (s *Set) Has(kid string) bool {
	return s.keys[kid] != jwk{}
}

// Fetch gets the keys that the tenant of this domain publishes. If they are those of the
// previous set, which may be nil, it returns that one, so that its verified tokens stay
// remembered. Its errors are of type [*upstream.Error], or
// [context.Canceled].
func Fetch(
	ctx context.Context, transport http.RoundTripper, domain string, previous *Set,
) (*Set, error) {
	url := "https://" + domain + "/.well-known/jwks.json"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := upstream.Do(transport, req)
	if err != nil {
		return nil, err
	}
	if answer.Status != http.StatusOK {
		return nil, answer.Errorf(upstream.Refused,
			"status %d: check the domain, or try again later", answer.Status)
	}
	keys := usableKeys(answer.Body)
	if len(keys) == 0 {
		return nil, answer.Errorf(upstream.Nonsense,
			"no key set with an RS256 key: check the domain")
	}
	if previous != nil && maps.Equal(keys, previous.keys) {
		return previous, nil
	}
	// Cannot fail: strings only.
	text, _ := json.Marshal(map[string][]jwk{"keys": slices.Collect(maps.Values(keys))})
	found, err := keyfunc.NewJWKSetJSON(text)
	if err != nil {
		return nil, answer.Errorf(upstream.Nonsense, "the key set cannot be used: check the domain")
	}
	return &Set{Keyfunc: found.Keyfunc, keys: keys}, nil
}

// A jwk is what RS256 needs of a key (RFC 7517 §4, RFC 7518 §6.3.1). A wrong x5t,
// as older Auth0 tenants publish it, would make keyfunc refuse the whole set.
type jwk struct {
	Kty string `json:"kty"`
	Kid string `json:"kid"`
	Use string `json:"use,omitempty"`
	Alg string `json:"alg,omitempty"`
	N   string `json:"n"`
	E   string `json:"e"`
}

// usableKeys returns the keys of a JWKS (RFC 7517 §5) that RS256 can use, by kid. It
// drops all others one by one: keyfunc would refuse the whole set for one of them.
func usableKeys(body []byte) map[string]jwk {
	var published struct{ Keys []json.RawMessage }
	if json.Unmarshal(body, &published) != nil {
		return nil
	}
	usable := make(map[string]jwk)
	for _, raw := range published.Keys {
		var key jwk
		if json.Unmarshal(raw, &key) == nil && key.usable() {
			usable[key.Kid] = key
		}
	}
	return usable
}

// usable reports whether RS256 can use the key. It lets an even modulus or exponent
// pass: crypto/rsa accepts no signature by such a key.
func (k jwk) usable() bool {
	n, e := bits(k.N), bits(k.E)
	return k.Kty == "RSA" && k.Kid != "" &&
		(k.Use == "" || k.Use == "sig") && (k.Alg == "" || k.Alg == "RS256") &&
		minBits <= n && n <= maxBits && 2 <= e && e <= maxExponentBits
}

// bits is the length of a Base64urlUInt (RFC 7518 §2), padded or not; 0 if it is none.
func bits(text string) int {
	decoded, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return 0 // not the part before the error
	}
	return new(big.Int).SetBytes(decoded).BitLen()
}
