package standin

import (
	"cmp"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// IMS stands in for Bentley's identity service. Its faults and counts are those of
// POST /connect/token. Methods are safe for concurrent use.
type IMS struct {
	Server
	key    Key
	grants locked[grants]
}

// grants is what grants depend on, and the tokens granted.
type grants struct {
	id, secret   string
	scope        string // what the client may request, a space list
	life         time.Duration
	expiresIn    any // sent instead of the life if expiresInSet; nil: not sent
	expiresInSet bool
	issued       []issuedToken // oldest first
}

type issuedToken struct {
	token  string
	expiry time.Time
}

func newIMS(certificate tls.Certificate, key Key) *IMS {
	m := &IMS{key: key}
	m.SetClient("service-"+rand.Text(), rand.Text()+"+/==") // base64-like: wrong unless form-encoded
	m.SetScope("itwin-platform")
	m.SetLife(time.Hour)
	honest := http.HandlerFunc(m.serveToken)
	mux := http.NewServeMux()
	mux.Handle("POST /connect/token", m.endpoint(honest))
	mux.Handle("POST "+elsewhere, honest)
	m.init(imsName, certificate, mux)
	return m
}

// URL is the value for ITM_TOKEN_SERVER_AUTHORITY, without a slash at the end.
func (m *IMS) URL() string { return "https://" + m.host() }

// ClientID is the ID of the service application, random unless set.
func (m *IMS) ClientID() string { return m.grants.get().id }

// ClientSecret is the secret for ClientID, random unless set.
func (m *IMS) ClientSecret() string { return m.grants.get().secret }

// SetClient changes the one client that gets tokens, from the next grant on.
func (m *IMS) SetClient(id, secret string) {
	m.grants.update(func(g *grants) { g.id, g.secret = id, secret })
}

// SetScope sets the scopes that the client may request, a space list. Others are
// answered with invalid_scope.
func (m *IMS) SetScope(scope string) {
	m.grants.update(func(g *grants) { g.scope = scope })
}

// SetLife sets how long tokens live, from the next grant on. It undoes SetExpiresIn:
// expires_in is the life in whole seconds.
func (m *IMS) SetLife(life time.Duration) {
	m.grants.update(func(g *grants) { g.life, g.expiresInSet = life, false })
}

// SetExpiresIn sends v, as encoding/json writes it, as expires_in; nil leaves it
// out. Tokens still live as long as SetLife says.
func (m *IMS) SetExpiresIn(v any) {
	m.grants.update(func(g *grants) { g.expiresIn, g.expiresInSet = v, true })
}

// Issued returns the last 10,000 tokens, oldest first. A token whose answer a fault
// has spoilt is among them.
func (m *IMS) Issued() []string {
	var tokens []string
	for _, t := range m.grants.get().issued {
		tokens = append(tokens, t.token)
	}
	return tokens
}

// Valid reports whether token was issued here and has not expired.
func (m *IMS) Valid(token string) bool {
	return slices.ContainsFunc(m.grants.get().issued, func(t issuedToken) bool {
		return t.token == token && time.Now().Before(t.expiry)
	})
}

func (m *IMS) serveToken(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store") // RFC 6749 §5.1
	g := m.grants.get()
	scope, code := g.check(r)
	if code != "" {
		status := http.StatusBadRequest
		if code == "invalid_client" {
			status = http.StatusUnauthorized
		}
		writeJSON(w, status, Claims{"error": code, "error_description": "the secret on file is " + Canary})
		return
	}
	now := time.Now()
	token := sign(m.key, Claims{"alg": "RS256", "typ": "JWT", "kid": m.key.ID}, Claims{
		"iss":       m.URL(),
		"aud":       []string{m.URL() + "/resources", "bentley-api-management"},
		"client_id": g.id,
		"scope":     strings.Fields(scope),
		"jti":       rand.Text(),
		"iat":       now.Unix(),
		"nbf":       now.Unix(),
		"exp":       now.Add(g.life).Unix(),
	})
	m.grants.update(func(g *grants) {
		g.issued = append(g.issued, issuedToken{token, now.Add(g.life)})
		g.issued = g.issued[max(0, len(g.issued)-10_000):] // a demo may run for days
	})
	if !g.expiresInSet {
		g.expiresIn = int64(g.life / time.Second)
	}
	writeJSON(w, http.StatusOK, merged(Claims{
		"access_token": token,
		"token_type":   "Bearer",
		"expires_in":   g.expiresIn,
		"scope":        scope,
	}))
}

// check returns the scope to grant, or the error code of a refusal (RFC 6749 §5.2).
func (g *grants) check(r *http.Request) (scope, code string) {
	if r.ParseForm() != nil {
		return "", "invalid_request"
	}
	form := r.PostForm // not the query: credentials don't belong in a URL (RFC 6749 §2.3.1)
	id, secret := form.Get("client_id"), form.Get("client_secret")
	if r.Header.Get("Authorization") != "" {
		// Form-decoded (RFC 6749 §2.3.1): a secret with + or % in it fails unencoded.
		id, secret, _ = r.BasicAuth()
		id, _ = url.QueryUnescape(id)
		secret, _ = url.QueryUnescape(secret)
	}
	scope = cmp.Or(form.Get("scope"), g.scope)
	switch {
	case id != g.id || secret != g.secret:
		return "", "invalid_client"
	case !form.Has("grant_type"):
		return "", "invalid_request"
	case form.Get("grant_type") != "client_credentials":
		return "", "unsupported_grant_type"
	}
	for _, part := range strings.Fields(scope) {
		if !slices.Contains(strings.Fields(g.scope), part) {
			return "", "invalid_scope"
		}
	}
	return scope, ""
}

func writeJSON(w http.ResponseWriter, status int, fields Claims) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(fields)
}
