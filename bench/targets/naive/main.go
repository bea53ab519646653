// Naive is this job as a first draft does it: keyfunc as it comes, jwt/v5, and
// a grant under a mutex. It logs nothing and bounds nothing.
package main

import (
	"encoding/json"
	"log"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"
)

var (
	mu     sync.Mutex // guards token and until
	token  string
	until  time.Time
	client = url.Values{
		"grant_type":    {"client_credentials"},
		"scope":         {"itwin-platform"},
		"client_id":     {os.Getenv("CLIENT_ID")},
		"client_secret": {os.Getenv("CLIENT_SECRET")},
	}
)

func main() {
	issuer := os.Getenv("ISSUER")
	keys, err := keyfunc.NewDefault([]string{issuer + ".well-known/jwks.json"})
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/getToken", func(w http.ResponseWriter, r *http.Request) {
		bearer := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
		_, err := jwt.Parse(bearer, keys.Keyfunc, jwt.WithValidMethods([]string{"RS256"}),
			jwt.WithIssuer(issuer), jwt.WithAudience(os.Getenv("AUDIENCE")), jwt.WithExpirationRequired())
		if err != nil {
			http.Error(w, "invalid token", http.StatusUnauthorized)
			return
		}
		granted, err := grant()
		if err != nil {
			http.Error(w, "no token", http.StatusBadGateway)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Write([]byte("Bearer " + granted))
	})
	log.Fatal(http.ListenAndServe(os.Getenv("ADDR"), nil))
}

func grant() (string, error) {
	mu.Lock()
	defer mu.Unlock()
	if time.Now().Before(until) {
		return token, nil
	}
	answer, err := http.PostForm(os.Getenv("AUTHORITY")+"/connect/token", client)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	var granted struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int    `json:"expires_in"`
	}
	if err := json.NewDecoder(answer.Body).Decode(&granted); err != nil {
		return "", err
	}
	token, until = granted.AccessToken, time.Now().Add(time.Duration(granted.ExpiresIn-60)*time.Second)
	return token, nil
}
