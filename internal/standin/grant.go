package standin

import (
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// refusal is an error answer of the token endpoint (RFC 6749 §5.2).
type refusal struct {
	status int
	code   string
	why    string
	basic  bool // the client tried HTTP Basic, so it is told to
}

func invalid(code, why string) *refusal {
	return &refusal{status: http.StatusBadRequest, code: code, why: why}
}

func invalidClient(basic bool) *refusal {
	return &refusal{http.StatusUnauthorized, "invalid_client", "client authentication failed", basic}
}

func (f *refusal) write(w http.ResponseWriter) {
	if f.basic {
		w.Header().Set("WWW-Authenticate", `Basic realm="stand-in IMS"`)
	}
	writeJSON(w, f.status, map[string]string{
		"error":             f.code,
		"error_description": f.why + "; the secret on file is " + Canary,
	})
}

// examine says which scope the request is to be granted, or why none.
func (m *IMS) examine(r *http.Request) (string, *refusal) {
	form, refused := readForm(r)
	if refused != nil {
		return "", refused
	}
	if refused := m.authenticate(r, form); refused != nil {
		return "", refused
	}
	switch form.Get("grant_type") {
	case "client_credentials":
	case "":
		return "", invalid("invalid_request", "grant_type is missing")
	default:
		return "", invalid("unsupported_grant_type", "only client_credentials is supported")
	}
	return m.grantScope(form.Get("scope"))
}

// readForm reads the body only: credentials don't belong in a URL (RFC 6749 §2.3.1).
func readForm(r *http.Request) (url.Values, *refusal) {
	const want = "application/x-www-form-urlencoded"
	if got, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || got != want {
		return nil, invalid("invalid_request", "the content type must be "+want)
	}
	body, err := io.ReadAll(r.Body) // bounded by endpoint
	if err != nil {
		return nil, invalid("invalid_request", "the body cannot be read")
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, invalid("invalid_request", "the body is not a form")
	}
	for _, values := range form {
		if len(values) > 1 { // RFC 6749 §3.2
			return nil, invalid("invalid_request", "a parameter is given twice")
		}
	}
	return form, nil
}

// authenticate takes the client's credentials by Basic or in the form, not both
// (RFC 6749 §2.3).
func (m *IMS) authenticate(r *http.Request, form url.Values) *refusal {
	id, secret := form.Get("client_id"), form.Get("client_secret")
	headers := r.Header.Values("Authorization")
	if len(headers) > 0 {
		basicID, basicSecret, ok := basicCredentials(r)
		if !ok || len(headers) > 1 {
			return invalidClient(true)
		}
		if form.Has("client_secret") || form.Has("client_id") && id != basicID {
			return invalid("invalid_request", "more than one way of client authentication")
		}
		id, secret = basicID, basicSecret
	}
	if id != m.ClientID() || secret != m.ClientSecret() {
		return invalidClient(len(headers) > 0)
	}
	return nil
}

// basicCredentials form-decodes both halves (RFC 6749 §2.3.1): a client that sent
// a secret with + or % as it stands is refused, as IMS would.
func basicCredentials(r *http.Request) (id, secret string, ok bool) {
	id, secret, ok = r.BasicAuth()
	id, errID := url.QueryUnescape(id)
	secret, errSecret := url.QueryUnescape(secret)
	return id, secret, ok && errID == nil && errSecret == nil
}

// grantScope allows any part of the client's scope; nothing asked for means all of it.
func (m *IMS) grantScope(asked string) (string, *refusal) {
	m.grantMu.Lock()
	allowed := m.scope
	m.grantMu.Unlock()
	if asked == "" {
		return allowed, nil
	}
	for _, scope := range strings.Fields(asked) {
		if !slices.Contains(strings.Fields(allowed), scope) {
			return "", invalid("invalid_scope", "the client may not ask for this scope")
		}
	}
	return asked, nil
}
