// Floor is the least work that can be called the job: bare, plus one RSA-2048
// verification, one JSON decode of the claims, and `iss` and `exp` compared.
// It checks nothing else, so it is no token server.
package main

import (
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"log"
	"math/big"
	"net/http"
	"os"
	"strings"
	"time"

	"itwin-token-server/bench/answer"
)

func main() {
	issuer := os.Getenv("ISSUER")
	write, err := answer.Load(os.Getenv("ANSWER"))
	if err != nil {
		log.Fatal(err)
	}
	key, err := firstKey(issuer + ".well-known/jwks.json")
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("GET /getToken", func(w http.ResponseWriter, r *http.Request) {
		if !good(strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "), key, issuer) {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		write(w)
	})
	log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil))
}

func good(token string, key *rsa.PublicKey, issuer string) bool {
	dot := strings.LastIndexByte(token, '.')
	if dot < 0 {
		return false
	}
	signature, err := base64.RawURLEncoding.DecodeString(token[dot+1:])
	if err != nil {
		return false
	}
	digest := sha256.Sum256([]byte(token[:dot]))
	if rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], signature) != nil {
		return false
	}
	_, payload, _ := strings.Cut(token[:dot], ".")
	decoded, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return false
	}
	var claims struct {
		Issuer string `json:"iss"`
		Expiry int64  `json:"exp"`
	}
	return json.Unmarshal(decoded, &claims) == nil &&
		claims.Issuer == issuer && time.Now().Unix() < claims.Expiry
}

// firstKey fetches the tenant's current key, the first of its set.
func firstKey(url string) (*rsa.PublicKey, error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(url)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	var set struct {
		Keys []struct{ N, E string }
	}
	if err := json.NewDecoder(answer.Body).Decode(&set); err != nil {
		return nil, err
	}
	n, err := base64.RawURLEncoding.DecodeString(set.Keys[0].N)
	if err != nil {
		return nil, err
	}
	e, err := base64.RawURLEncoding.DecodeString(set.Keys[0].E)
	if err != nil {
		return nil, err
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(new(big.Int).SetBytes(e).Int64())}, nil
}
