package faults

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"strings"
	"sync"
	"testing"

	"itwin-token-server/internal/standin"
)

const (
	// audience is the API that callers' tokens are for, and appID the application.
	audience = "http://tokenserver.sample.bentley.com"
	appID    = "ios-sample"
)

// A world is a tenant and an IMS, and the secrets that go around in it.
type world struct {
	*standin.Standin
	t *testing.T

	mu    sync.Mutex // guards heads
	heads map[string]bool
}

// newWorld starts a tenant and an IMS; they end with the test.
func newWorld(t *testing.T) *world {
	t.Helper()
	base, err := first()
	if err != nil {
		t.Fatal(err)
	}
	s, err := base.Fresh()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return &world{Standin: s, t: t, heads: map[string]bool{}}
}

// head is how much of a token's part is looked for in the log: so many
// characters are no coincidence.
const head = 24

// remember has the logs held against the token, and returns it.
func (w *world) remember(token string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for part := range strings.SplitSeq(token, ".") {
		if len(part) >= head {
			w.heads[part[:head]] = true
		}
	}
	return token
}

// user is a token of the kind that the Android sample sends, of a user of its own.
func (w *world) user() string {
	return w.remember(w.Tenant.AccessToken(audience, standin.Claims{"sub": "auth0|" + rand.Text()}))
}

// users are n such tokens.
func (w *world) users(n int) []string {
	tokens := make([]string, n)
	for i := range tokens {
		tokens[i] = w.user()
	}
	return tokens
}

// personal is a token as the iOS sample sends it, with name and e-mail in it.
func (w *world) personal() string { return w.remember(w.Tenant.IDToken(appID)) }

// strangers gives tokens that are in order but for an unknown kid, each another.
// None is signed, which is cheap: whoever does not know the key cannot tell.
func (w *world) strangers(change ...standin.Claims) func() string {
	signed := w.remember(w.Tenant.AccessToken(audience, change...))
	_, rest, _ := strings.Cut(signed, ".")
	return func() string {
		header, _ := json.Marshal(standin.Claims{"alg": "RS256", "typ": "JWT", "kid": rand.Text()})
		return base64.RawURLEncoding.EncodeToString(header) + "." + rest
	}
}

// secrets are the texts that neither an answer nor a log may hold.
func (w *world) secrets() map[string]string {
	id, secret := w.IMS.ClientID(), w.IMS.ClientSecret()
	pair := url.QueryEscape(id) + ":" + url.QueryEscape(secret)
	return map[string]string{
		"the client secret":                secret,
		"the client secret, form-encoded":  url.QueryEscape(secret),
		"the client secret, in Basic":      base64.StdEncoding.EncodeToString([]byte(pair)),
		"what upstream said in its error":  standin.Canary,
		"what upstream said on its page":   "Something is wrong",
		"the user's name":                  "Jane Doe",
		"the user's e-mail address":        "jane.doe@example.com",
		"the name in the user's nickname":  "jane.doe",
		"an answer of net/http on a panic": "http: panic",
	}
}
