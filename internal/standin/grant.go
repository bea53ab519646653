package standin

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// check returns the scope to grant, or the error code of a refusal (RFC 6749 §5.2).
func (g *grants) check(r *http.Request) (scope, code string) {
	if r.ParseForm() != nil {
		return "", "invalid_request"
	}
	form := r.PostForm // not the query: credentials don't belong in a URL (RFC 6749 §2.3.1)
	id, secret := form.Get("client_id"), form.Get("client_secret")
	if r.Header.Get("Authorization") != "" {
		id, secret = basicAuth(r)
	}
	if id != g.id || secret != g.secret {
		return "", "invalid_client"
	}
	switch form.Get("grant_type") {
	case "client_credentials":
	case "":
		return "", "invalid_request"
	default:
		return "", "unsupported_grant_type"
	}
	scope = form.Get("scope")
	if scope == "" {
		return g.scope, ""
	}
	for _, part := range strings.Fields(scope) {
		if !slices.Contains(strings.Fields(g.scope), part) {
			return "", "invalid_scope"
		}
	}
	return scope, ""
}

// basicAuth form-decodes both halves (RFC 6749 §2.3.1). A client that sends a secret
// with + or % in it unencoded is refused, as by IMS.
func basicAuth(r *http.Request) (id, secret string) {
	id, secret, _ = r.BasicAuth()
	id, errID := url.QueryUnescape(id)
	secret, errSecret := url.QueryUnescape(secret)
	if errID != nil || errSecret != nil {
		return "", ""
	}
	return id, secret
}

// writeGrantError sends an error answer (RFC 6749 §5.2).
func writeGrantError(w http.ResponseWriter, code string) {
	status := http.StatusBadRequest
	if code == "invalid_client" {
		status = http.StatusUnauthorized
		w.Header().Set("WWW-Authenticate", `Basic realm="stand-in IMS"`)
	}
	writeJSON(w, status, Claims{"error": code, "error_description": "the secret on file is " + Canary})
}
