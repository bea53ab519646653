package standin

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// What developer.bentley.com says of the real one.
const (
	defaultScope = "itwin-platform"
	defaultLife  = time.Hour
)

// A demo that runs for days must not grow; no test asks for as many tokens.
const maxIssued = 10_000

// IMS is the stand-in of Bentley's identity service. Its faults and its counts
// concern POST /connect/token. Methods are safe for concurrent use.
type IMS struct {
	Server
	key Key

	grantMu      sync.Mutex // guards what follows; never held while signing
	id, secret   string
	scope        string
	life         time.Duration
	expiresIn    any // sent in place of the truth if expiresInSet; nil leaves it out
	expiresInSet bool
	issued       []issue // oldest first, at most maxIssued
}

type issue struct {
	token string
	dies  time.Time
}

func newIMS(ca *authority, key Key) *IMS {
	m := &IMS{
		key:    key,
		id:     "service-" + rand.Text(),
		secret: rand.Text() + "+/==", // base64-like as the real ones: wrong unless form-encoded
		scope:  defaultScope,
		life:   defaultLife,
	}
	honest := http.HandlerFunc(m.serveToken)
	mux := http.NewServeMux()
	mux.Handle("POST /connect/token", m.endpoint(honest))
	mux.Handle("POST "+elsewhere, honest)
	mux.HandleFunc("GET /.well-known/openid-configuration", m.serveDiscovery)
	mux.HandleFunc("GET /.well-known/jwks.json", m.serveJWKS)
	m.init(imsName, ca.tls(), mux)
	return m
}

// URL is what ITM_TOKEN_SERVER_AUTHORITY should be. No slash at the end.
func (m *IMS) URL() string { return "https://" + m.host() }

// ClientID is the service application's; random unless set.
func (m *IMS) ClientID() string {
	m.grantMu.Lock()
	defer m.grantMu.Unlock()
	return m.id
}

// ClientSecret goes with ClientID; random unless set.
func (m *IMS) ClientSecret() string {
	m.grantMu.Lock()
	defer m.grantMu.Unlock()
	return m.secret
}

// SetClient changes the one client that gets tokens, from the next grant on.
func (m *IMS) SetClient(id, secret string) {
	m.grantMu.Lock()
	defer m.grantMu.Unlock()
	m.id, m.secret = id, secret
}

// SetScope is what the client may ask for, a space list. Any other is invalid_scope.
func (m *IMS) SetScope(scope string) {
	m.grantMu.Lock()
	defer m.grantMu.Unlock()
	m.scope = scope
}

// SetLife is how long tokens live from the next grant on, and makes expires_in tell
// the truth again, in whole seconds.
func (m *IMS) SetLife(life time.Duration) {
	m.grantMu.Lock()
	defer m.grantMu.Unlock()
	m.life, m.expiresInSet = life, false
}

// SetExpiresIn sends v, as encoding/json writes it, as expires_in; nil leaves it
// out. The token's true life stays.
func (m *IMS) SetExpiresIn(v any) {
	m.grantMu.Lock()
	defer m.grantMu.Unlock()
	m.expiresIn, m.expiresInSet = v, true
}

// Issued are the tokens granted so far, oldest first: the last 10,000. One whose
// answer a fault spoilt is among them.
func (m *IMS) Issued() []string {
	m.grantMu.Lock()
	defer m.grantMu.Unlock()
	tokens := make([]string, len(m.issued))
	for i, it := range m.issued {
		tokens[i] = it.token
	}
	return tokens
}

// Valid says whether token was issued here and still lives.
func (m *IMS) Valid(token string) bool {
	m.grantMu.Lock()
	defer m.grantMu.Unlock()
	return slices.ContainsFunc(m.issued, func(it issue) bool {
		return it.token == token && time.Now().Before(it.dies)
	})
}

func (m *IMS) serveToken(w http.ResponseWriter, r *http.Request) {
	scope, refused := m.examine(r)
	w.Header().Set("Cache-Control", "no-store") // RFC 6749 §5.1
	w.Header().Set("Pragma", "no-cache")
	if refused != nil {
		refused.write(w)
		return
	}
	writeJSON(w, http.StatusOK, m.issue(scope))
}

// issue mints one token and gives the answer that carries it.
func (m *IMS) issue(scope string) Claims {
	m.grantMu.Lock()
	id, life, expiresIn := m.id, m.life, m.expiresIn
	if !m.expiresInSet {
		expiresIn = int64(life / time.Second)
	}
	m.grantMu.Unlock()

	now := time.Now()
	token := jws(m.key.Private, Claims{"alg": "RS256", "typ": "JWT", "kid": m.key.ID}, Claims{
		"iss":       m.URL(),
		"aud":       []string{m.URL() + "/resources", "bentley-api-management"},
		"client_id": id,
		"scope":     strings.Fields(scope),
		"jti":       randomID(),
		"iat":       now.Unix(),
		"nbf":       now.Unix(),
		"exp":       now.Add(life).Unix(),
	})

	m.grantMu.Lock()
	m.issued = append(m.issued, issue{token, now.Add(life)})
	m.issued = m.issued[max(0, len(m.issued)-maxIssued):]
	m.grantMu.Unlock()
	return merged(Claims{
		"access_token": token,
		"token_type":   "Bearer",
		"expires_in":   expiresIn,
		"scope":        scope,
	})
}

func (m *IMS) serveDiscovery(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, Claims{
		"issuer":                                m.URL(),
		"token_endpoint":                        m.URL() + "/connect/token",
		"jwks_uri":                              m.URL() + "/.well-known/jwks.json",
		"grant_types_supported":                 []string{"client_credentials"},
		"token_endpoint_auth_methods_supported": []string{"client_secret_basic", "client_secret_post"},
	})
}

func (m *IMS) serveJWKS(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Write(keySet(false, m.key))
}

// writeJSON answers 500 for what cannot be written as JSON: SetExpiresIn takes anything.
func writeJSON(w http.ResponseWriter, status int, v any) {
	var body bytes.Buffer
	if err := json.NewEncoder(&body).Encode(v); err != nil {
		http.Error(w, fmt.Sprintf("standin: %v %s", err, Canary), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	w.Write(body.Bytes())
}
