package standin

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"strings"
)

// Auth0's size, and the least that RFC 7518 §3.3 allows for RS256.
const keyBits = 2048

// Claims are a token's claims, or the fields of its header.
type Claims = map[string]any

// Key signs tokens. ID is its kid.
type Key struct {
	ID      string
	Private *rsa.PrivateKey
	cert    []byte // DER, self-signed, for x5c
}

// newKey makes a key and a self-signed certificate for it in name.
func newKey(name string) (Key, error) {
	private, err := rsa.GenerateKey(rand.Reader, keyBits)
	if err != nil {
		return Key{}, err
	}
	template := certificate(name)
	cert, err := sign(template, template, &private.PublicKey, private)
	if err != nil {
		return Key{}, err
	}
	return Key{ID: randomID(), Private: private, cert: cert.Raw}, nil
}

// randomID has the length and alphabet of Auth0's kids.
func randomID() string {
	id := make([]byte, 16)
	rand.Read(id) // never fails, says crypto/rand
	return base64url(id)[:21]
}

type jwk struct {
	Kty string   `json:"kty"`
	Use string   `json:"use"`
	N   string   `json:"n"`
	E   string   `json:"e"`
	Kid string   `json:"kid"`
	X5t string   `json:"x5t"`
	X5c []string `json:"x5c"`
	Alg string   `json:"alg"`
}

// keySet is the JWKS of keys, field by field what Auth0 publishes. With hexX5t
// each thumbprint is encoded as hex first, as older tenants still do.
func keySet(hexX5t bool, keys ...Key) []byte {
	var set struct {
		Keys []jwk `json:"keys"`
	}
	for _, key := range keys {
		thumbprint := sha1.Sum(key.cert) // RFC 7517 §4.8 asks for SHA-1
		x5t := base64url(thumbprint[:])
		if hexX5t {
			x5t = base64url([]byte(strings.ToUpper(hex.EncodeToString(thumbprint[:]))))
		}
		set.Keys = append(set.Keys, jwk{
			Kty: "RSA",
			Use: "sig",
			N:   base64url(key.Private.N.Bytes()),
			E:   base64url(big.NewInt(int64(key.Private.E)).Bytes()),
			Kid: key.ID,
			X5t: x5t,
			X5c: []string{base64.StdEncoding.EncodeToString(key.cert)}, // not base64url (RFC 7517 §4.7)
			Alg: "RS256",
		})
	}
	body, _ := json.Marshal(set) // strings only: cannot fail
	return body
}

// jws signs with RS256, whatever the header claims. It gives "" for what cannot be
// written as JSON or signed with.
func jws(private *rsa.PrivateKey, header, claims Claims) string {
	h, errHeader := json.Marshal(header)
	c, errClaims := json.Marshal(claims)
	if errHeader != nil || errClaims != nil || private == nil {
		return ""
	}
	signed := base64url(h) + "." + base64url(c)
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(nil, private, crypto.SHA256, digest[:])
	if err != nil {
		return ""
	}
	return signed + "." + base64url(signature)
}

// merged is base with the changes made; a nil value deletes. base is left alone.
func merged(base Claims, changes ...Claims) Claims {
	all := Claims{}
	for _, change := range append([]Claims{base}, changes...) {
		for name, value := range change {
			all[name] = value
			if value == nil {
				delete(all, name)
			}
		}
	}
	return all
}

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
