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

	"itwin-token-server/internal/tokencache"
	"itwin-token-server/internal/upstream"
)

const (
	minBits         = 2048 // of the modulus (RFC 7518 §3.3)
	maxBits         = 8192 // a longer one would make each signature cost too much
	maxExponentBits = 31   // the most that crypto/rsa verifies with
)

// A Set is a tenant's keys as they were fetched, at least one, and the tokens that
// were verified with them. Any error of its Keyfunc for an RS256 token that has a kid
// means that the key is not among them.
type Set struct {
	keyfunc.Keyfunc
	Verified tokencache.Cache
}

// Fetch gets the keys that the tenant of this domain publishes. Its errors are those
// of [upstream.Do].
func Fetch(ctx context.Context, transport http.RoundTripper, domain string) (*Set, error) {
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
	set, err := json.Marshal(map[string][]jwk{"keys": keys})
	if err != nil {
		return nil, err
	}
	verifies, err := keyfunc.NewJWKSetJSON(set)
	return &Set{Keyfunc: verifies}, err
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

// usableKeys returns the keys of a JWKS (RFC 7517 §5) that RS256 can use. It drops
// all others one by one: keyfunc would refuse the whole set for one of them.
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

// usable reports whether RS256 can use the key.
func (k *jwk) usable() bool {
	n, e := number(k.N), number(k.E)
	return k.Kty == "RSA" && k.Kid != "" && (k.Use == "" || k.Use == "sig") && (k.Alg == "" || k.Alg == "RS256") &&
		minBits <= n.BitLen() && n.BitLen() <= maxBits && n.Bit(0) == 1 &&
		2 <= e.BitLen() && e.BitLen() <= maxExponentBits && e.Bit(0) == 1
}

// number decodes a Base64urlUInt (RFC 7518 §2), padded or not; anything else is 0.
func number(text string) *big.Int {
	decoded, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return new(big.Int) // not the part before the error
	}
	return new(big.Int).SetBytes(decoded)
}
