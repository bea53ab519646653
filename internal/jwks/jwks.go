// Package jwks fetches the keys that an Auth0 tenant signs with, and keeps of
// them what RS256 can use.
package jwks

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"net/http"
	"strings"

	"github.com/MicahParks/keyfunc/v3"

	"itwin-token-server/internal/upstream"
)

const (
	minBits     = 2048      // of the modulus (RFC 7518 §3.3)
	maxBits     = 8192      // a longer one would make each signature cost too much
	maxExponent = 1<<31 - 1 // the most that crypto/rsa verifies with
)

// Fetch gets the keys that the tenant of this domain publishes: at least one. Any
// error of their Keyfunc for an RS256 token that has a kid means that the key is
// not among them. The errors of Fetch are those of [upstream.Do].
func Fetch(ctx context.Context, transport http.RoundTripper, domain string) (keyfunc.Keyfunc, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+domain+"/.well-known/jwks.json", nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	answer, err := upstream.Do(transport, req)
	if err != nil {
		return nil, err
	}
	if answer.Status != http.StatusOK {
		return nil, answer.Errorf(upstream.Refused, "status %d: check the domain, or try again later", answer.Status)
	}
	keys := usableKeys(answer.Body)
	if len(keys) == 0 {
		return nil, answer.Errorf(upstream.Nonsense, "no key set with an RS256 key: check the domain")
	}
	return keySet(keys)
}

// A jwk is what RS256 needs of a key (RFC 7517 §4, RFC 7518 §6.3.1). A wrong x5t,
// as older Auth0 tenants publish it, would make keyfunc refuse the whole set.
type jwk struct {
	Kty string `json:"kty"`
	Kid string `json:"kid"`
	Use string `json:"use,omitempty"`
	Alg string `json:"alg"`
	N   string `json:"n"`
	E   string `json:"e"`
}

// usableKeys returns the keys of a JWKS (RFC 7517 §5) that RS256 can use, one by
// one: keyfunc would refuse the whole set for a bad one.
func usableKeys(body []byte) (usable []jwk) {
	var published struct{ Keys []json.RawMessage }
	if json.Unmarshal(body, &published) != nil {
		return nil
	}
	for _, raw := range published.Keys {
		var key jwk
		if json.Unmarshal(raw, &key) == nil && key.usable() {
			key.Alg = "RS256"
			usable = append(usable, key)
		}
	}
	return usable
}
