package standin

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Claims are a token's claims, or the fields of its header.
type Claims = map[string]any

// Key signs tokens. ID is its kid.
type Key struct {
	ID      string
	Private *rsa.PrivateKey
	cert    []byte // DER, self-signed, for x5c
}

// newKey makes a key of the size of Auth0's, the least for RS256 (RFC 7518 §3.3).
func newKey() (Key, error) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return Key{}, err
	}
	cert, err := selfSigned(private)
	if err != nil {
		return Key{}, err
	}
	return Key{rand.Text(), private, cert.Leaf.Raw}, nil
}

// selfSigned makes a certificate for the key and the hosts, and for loopback.
func selfSigned(key crypto.Signer, hosts ...string) (tls.Certificate, error) {
	now := time.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "Stand-in, not for production"},
		NotBefore:             now.Add(-time.Hour),           // clocks of clients differ
		NotAfter:              now.Add(365 * 24 * time.Hour), // the private key is only in memory
		IsCA:                  true,                          // so that it can be its own root
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:              hosts,
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	leaf, err := x509.ParseCertificate(der)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, err
}

// keySet is the JWKS of the keys, with the fields that Auth0 publishes.
func keySet(hexX5t bool, keys ...Key) []byte {
	var set []Claims
	for _, key := range keys {
		sum := sha1.Sum(key.cert) // RFC 7517 §4.8 requires SHA-1
		x5t := sum[:]
		if hexX5t {
			x5t = fmt.Appendf(nil, "%X", sum)
		}
		set = append(set, Claims{
			"kty": "RSA",
			"use": "sig",
			"n":   base64url(key.Private.N.Bytes()),
			"e":   "AQAB", // 65537, as crypto/rsa generates
			"kid": key.ID,
			"x5t": base64url(x5t),
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
