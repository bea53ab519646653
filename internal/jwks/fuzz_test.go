package jwks

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"strings"
	"testing"

	"itwin-token-server/internal/standin"
)

// verifies reports whether one of the keys made the token's signature.
func verifies(keys map[string]*rsa.PublicKey, token string) bool {
	i := strings.LastIndexByte(token, '.')
	signature, err := base64.RawURLEncoding.DecodeString(token[i+1:])
	digest := sha256.Sum256([]byte(token[:i]))
	for _, key := range keys {
		if err == nil && rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) == nil {
			return true
		}
	}
	return false
}

// holds reports whether any text in the JSON is the number in base64url.
func holds(body []byte, n *big.Int) bool {
	for d := json.NewDecoder(bytes.NewReader(body)); ; {
		token, err := d.Token()
		if err != nil {
			return false
		}
		text, _ := token.(string)
		decoded, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
		if err == nil && new(big.Int).SetBytes(decoded).Cmp(n) == 0 {
			return true
		}
	}
}

// A set that was parsed verifies only what it should, and keyfunc refuses none.
func FuzzParse(f *testing.F) {
	s := standin.ForTest(f)
	for _, test := range oddities {
		f.Add(setOf(f, published(f, s, test.change)))
	}
	f.Add(s.Tenant.JWKS())
	f.Add([]byte(`{"keys":[]}`))
	f.Add([]byte(`null`))
	current := s.Tenant.Key()
	token := s.Tenant.Sign(nil, s.Tenant.Claims("x"))
	f.Fuzz(func(t *testing.T, body []byte) {
		_, keys := parse(t, body)
		published := false
		for kid, key := range keys {
			bits := key.N.BitLen()
			if kid == "" || bits < 2048 || bits > 8192 || key.E < 3 || key.E%2 == 0 {
				t.Errorf("took the key %q with %d bits and e %d", kid, bits, key.E)
			}
			published = published || key.Equal(&current.Private.PublicKey)
		}
		if got := verifies(keys, token); got != published {
			t.Errorf("verifies the tenant's token: %v, has the tenant's key: %v", got, published)
		}
		if published && !holds(body, current.Private.N) {
			t.Error("has the tenant's key, which was not in the set")
		}
	})
}
