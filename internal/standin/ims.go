package standin

import (
	"cmp"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// GrantPath is where an IMS grants tokens.
const GrantPath = "/connect/token"

// maxBody is the limit of a request's body, in bytes. A grant takes less than 1 KiB.
const maxBody = 64 << 10

// scope is the only one that clients may request.
const scope = "itwin-platform"

// IMS stands in for Bentley's identity service. It answers POST /connect/token. Methods
// are safe for concurrent use.
type IMS struct {
	http.Handler

	// Granted, if set, is called with each token. Set it before the first grant.
	Granted func(token string, expiry time.Time)

	key    Key // signs the tokens
	host   locked[string]
	grants locked[grants]
}

// grants is what a grant depends on.
type grants struct {
	id, secret string
	life       time.Duration // of a token
	expiresIn  any           // nil: not sent
}

func newIMS(key Key) *IMS {
	m := &IMS{key: key}
	m.SetClient("service-"+rand.Text(), rand.Text()+"+/==") // base64-like: wrong unless form-encoded
	m.SetLife(time.Hour)
	m.SetHost(IMSName)
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+GrantPath, m.serveToken)
	m.Handler = http.MaxBytesHandler(mux, maxBody)
	return m
}

// SetHost changes the host of URL, with a port if that is not 443.
func (m *IMS) SetHost(host string) { m.host.update(func(h *string) { *h = host }) }

// URL is the value for ITM_TOKEN_SERVER_AUTHORITY, without a slash at the end.
func (m *IMS) URL() string { return "https://" + m.host.get() }

// Key is the key that signs the tokens.
func (m *IMS) Key() Key { return m.key }

// ClientID is the ID of the service application.
func (m *IMS) ClientID() string { return m.grants.get().id }

// ClientSecret is the secret for ClientID.
func (m *IMS) ClientSecret() string { return m.grants.get().secret }

// SetClient changes the one client that gets tokens, from the next grant on.
func (m *IMS) SetClient(id, secret string) {
	m.grants.update(func(g *grants) { g.id, g.secret = id, secret })
}

// SetLife sets how long tokens live, and expires_in to that in whole seconds.
func (m *IMS) SetLife(life time.Duration) {
	m.grants.update(func(g *grants) { g.life, g.expiresIn = life, int64(life/time.Second) })
}

// SetExpiresIn sets expires_in only, to v as encoding/json writes it; nil leaves it out.
func (m *IMS) SetExpiresIn(v any) {
	m.grants.update(func(g *grants) { g.expiresIn = v })
}

func (m *IMS) serveToken(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Cache-Control", "no-store") // RFC 6749 §5.1
	g := m.grants.get()
	if code := g.check(r); code != "" {
		status := http.StatusBadRequest
		if code == "invalid_client" {
			status = http.StatusUnauthorized
		}
		description := "the secret on file is " + Canary
		writeJSON(w, status, Claims{"error": code, "error_description": description})
		return
	}
	now := time.Now()
	token := sign(m.key, Claims{"alg": "RS256", "typ": "JWT", "kid": m.key.ID}, Claims{
		"iss":       m.URL(),
		"aud":       []string{m.URL() + "/resources", "bentley-api-management"},
		"client_id": g.id,
		"scope":     []string{scope},
		"jti":       rand.Text(),
		"iat":       now.Unix(),
		"nbf":       now.Unix(),
		"exp":       now.Add(g.life).Unix(),
	})
	if m.Granted != nil {
		m.Granted(token, now.Add(g.life))
	}
	writeJSON(w, http.StatusOK, merged(Claims{
		"access_token": token,
		"token_type":   "Bearer",
		"expires_in":   g.expiresIn,
		"scope":        scope,
	}))
}

// check returns the error code of a refusal (RFC 6749 §5.2), or "".
func (g *grants) check(r *http.Request) string {
	if r.ParseForm() != nil {
		return "invalid_request"
	}
	form := r.PostForm // not the query: credentials don't belong in a URL (RFC 6749 §2.3.1)
	id, secret := form.Get("client_id"), form.Get("client_secret")
	if r.Header.Get("Authorization") != "" {
		// Form-decoded (RFC 6749 §2.3.1): a secret with + or % in it fails unencoded.
		id, secret, _ = r.BasicAuth()
		id, _ = url.QueryUnescape(id)
		secret, _ = url.QueryUnescape(secret)
	}
	switch {
	case id != g.id || secret != g.secret:
		return "invalid_client"
	case !form.Has("grant_type"):
		return "invalid_request"
	case form.Get("grant_type") != "client_credentials":
		return "unsupported_grant_type"
	case cmp.Or(form.Get("scope"), scope) != scope:
		return "invalid_scope"
	}
	return ""
}

func writeJSON(w http.ResponseWriter, status int, fields Claims) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(fields)
}
