// Baseline gives the recorded answer of the token server back, over net/http, for
//
//   - bare: any token,
//   - floor: after the least that could be called the job: one RSA-2048
//     verification, one JSON decode of the claims, iss and exp compared,
//   - naive: after keyfunc and jwt/v5 as they come.
package main

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"log"
	"maps"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

func main() {
	issuer := os.Getenv("ISSUER")
	valid := func(token string) bool { return true }
	switch os.Args[1] {
	case "floor":
		valid = floor(issuer)
	case "naive":
		valid = naive(issuer)
	}
	header, body := http.Header{}, []byte(os.Getenv("ANSWER_BODY"))
	must(0, json.Unmarshal([]byte(os.Getenv("ANSWER_HEADER")), &header))
	http.HandleFunc("GET /getToken", func(w http.ResponseWriter, r *http.Request) {
		if !valid(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")) {
			http.Error(w, "invalid token", http.StatusUnauthorized)
			return
		}
		maps.Copy(w.Header(), header)
		w.Write(body)
	})
	log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil))
}

func must[T any](v T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return v
}

func floor(issuer string) func(string) bool {
	block, _ := pem.Decode(must(os.ReadFile(os.Getenv("KEY_FILE"))))
	key := must(x509.ParsePKIXPublicKey(block.Bytes)).(*rsa.PublicKey)
	return func(token string) bool {
		parts := strings.Split(token, ".")
		if len(parts) != 3 {
			return false
		}
		digest := sha256.Sum256([]byte(token[:strings.LastIndexByte(token, '.')]))
		signature, err := base64.RawURLEncoding.DecodeString(parts[2])
		if err != nil || rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) != nil {
			return false
		}
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		var claims struct {
			Issuer string `json:"iss"`
			Expiry int64  `json:"exp"`
		}
		if err != nil || json.Unmarshal(payload, &claims) != nil {
			return false
		}
		return claims.Issuer == issuer && time.Now().Unix() < claims.Expiry
	}
}

func naive(issuer string) func(string) bool {
	keys := must(keyfunc.NewDefault([]string{issuer + ".well-known/jwks.json"}))
	audience := os.Getenv("ITM_TOKEN_SERVER_AUTH0_AUDIENCE")
	return func(token string) bool {
		_, err := jwt.Parse(token, keys.Keyfunc, jwt.WithValidMethods([]string{"RS256"}),
			jwt.WithIssuer(issuer), jwt.WithAudience(audience), jwt.WithExpirationRequired())
		return err == nil
	}
}
