package standin

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"math/big"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// keyBits is the size of Auth0's keys, and the least that RFC 7518 §3.3 allows for RS256.
const keyBits = 2048

// Claims are a token's claims, or the fields of its header.
type Claims = map[string]any

// Key signs tokens. ID is its kid.
type Key struct {
	ID      string
	Private *rsa.PrivateKey
	cert    []byte // DER, self-signed, for x5c
}

// newKey makes a key and a self-signed certificate for it.
func newKey(name string) (Key, error) {
	private, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return Key{}, err
	}
	cert, err := selfSigned(name, private)
	if err != nil {
		return Key{}, err
	}
	return Key{ID: rand.Text(), Private: private, cert: cert.Leaf.Raw}, nil
}

// keySet is the JWKS of the keys, with the fields that Auth0 publishes. With hexX5t
// each thumbprint is encoded as hex first, as older tenants do.
func keySet(hexX5t bool, keys ...Key) []byte {
	var set []Claims
	for _, key := range keys {
		thumbprint := sha1.Sum(key.cert) // RFC 7517 §4.8 requires SHA-1
		x5t := base64url(thumbprint[:])
		if hexX5t {
			x5t = base64url([]byte(strings.ToUpper(hex.EncodeToString(thumbprint[:]))))
		}
		set = append(set, Claims{
			"kty": "RSA",
			"use": "sig",
			"n":   base64url(key.Private.N.Bytes()),
			"e":   base64url(big.NewInt(int64(key.Private.E)).Bytes()),
			"kid": key.ID,
			"x5t": x5t,
			"x5c": []string{base64.StdEncoding.EncodeToString(key.cert)}, // not base64url (RFC 7517 §4.7)
			"alg": "RS256",
		})
	}
	body, _ := json.Marshal(Claims{"keys": set}) // strings only: cannot fail
	return body
}

// sign makes a token with an RS256 signature, whatever alg the header names. It
// panics if header or claims cannot be written as JSON.
func sign(key Key, header, claims Claims) string {
	token := jwt.Token{Method: jwt.SigningMethodRS256, Header: header, Claims: jwt.MapClaims(claims)}
	signed, err := token.SignedString(key.Private)
	if err != nil {
		panic(err)
	}
	return signed
}

// merged returns base with the changes made; a nil value deletes.
func merged(base Claims, changes ...Claims) Claims {
	all := maps.Clone(base)
	for _, change := range changes {
		maps.Copy(all, change)
	}
	maps.DeleteFunc(all, func(_ string, value any) bool { return value == nil })
	return all
}

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
