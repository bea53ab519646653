package faults

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"itwin-token-server/internal/standin"
)

const (
	// audience is the API that user tokens are for, and appID the app.
	audience = "http://tokenserver.sample.bentley.com"
	appID    = "ios-sample"
)

// A fixture is the stand-ins of Auth0 and IMS, and the tokens made for a test.
type fixture struct {
	*standin.Standin
	t  *testing.T
	ca string // the file with the stand-ins' certificate

	mu       sync.Mutex // guards prefixes
	prefixes map[string]bool
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{Standin: standin.StartForTest(t), t: t, ca: filepath.Join(t.TempDir(), "ca.pem"), prefixes: map[string]bool{}}
	if err := os.WriteFile(f.ca, f.CACert(), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// command is the program with the fixture's settings and the given ones, each
// NAME=value without the prefix; the last value of a name counts.
func (f *fixture) command(args []string, settings ...string) *exec.Cmd {
	cmd := exec.CommandContext(f.t.Context(), program, args...)
	cmd.Dir = filepath.Dir(f.ca) // without a .env
	cmd.Env = []string{"SSL_CERT_FILE=" + f.ca, "HOME=" + cmd.Dir}
	for _, setting := range append([]string{
		"CLIENT_ID=" + f.IMS.ClientID(), "CLIENT_SECRET=" + f.IMS.ClientSecret(), "AUTHORITY=" + f.IMS.URL(),
		"AUTH0_DOMAIN=" + f.Tenant.Domain(), "AUTH0_AUDIENCE=" + audience + "," + appID, "HOST=127.0.0.1", "PORT=0",
	}, settings...) {
		cmd.Env = append(cmd.Env, "ITM_TOKEN_SERVER_"+setting)
	}
	return cmd
}

// prefixLength is how much of a token's part is searched for: so many equal
// characters are no coincidence.
const prefixLength = 24

// record adds the token to those that no log may show, and returns it.
func (f *fixture) record(token string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	for part := range strings.SplitSeq(token, ".") {
		if len(part) >= prefixLength {
			f.prefixes[part[:prefixLength]] = true
		}
	}
	return token
}

// userToken is what the Android sample sends, for a user of its own.
func (f *fixture) userToken() string { return f.tokenOf("auth0|" + rand.Text()) }

func (f *fixture) tokenOf(sub string) string {
	return f.record(f.Tenant.AccessToken(audience, standin.Claims{"sub": sub}))
}

func (f *fixture) userTokens(n int) []string {
	tokens := make([]string, n)
	for i := range tokens {
		tokens[i] = f.userToken()
	}
	return tokens
}

// unknownKeys returns tokens that are valid but for their kid, each with another.
// Their signatures are wrong too: without the key, no server can tell.
func (f *fixture) unknownKeys() func() string {
	_, rest, _ := strings.Cut(f.userToken(), ".")
	return func() string {
		header, _ := json.Marshal(standin.Claims{"alg": "RS256", "typ": "JWT", "kid": rand.Text()})
		return base64.RawURLEncoding.EncodeToString(header) + "." + rest
	}
}

// rotate makes a key current that the server has never seen.
func (f *fixture) rotate() {
	f.Tenant.Rotate() // to the next key, which was published before
	f.Tenant.Rotate()
}

// secrets are the texts that neither an answer nor a log may show.
func (f *fixture) secrets() map[string]string {
	id, secret := f.IMS.ClientID(), f.IMS.ClientSecret()
	pair := url.QueryEscape(id) + ":" + url.QueryEscape(secret)
	return map[string]string{
		"the client secret":               secret,
		"the client secret, form-encoded": url.QueryEscape(secret),
		"the client secret, in Basic":     base64.StdEncoding.EncodeToString([]byte(pair)),
		"upstream's error text":           standin.Canary,
		"upstream's page":                 "Something is wrong",
		"the user's name":                 "Jane Doe",
		"the user's e-mail address":       "jane.doe",
		"a panic":                         "http: panic",
	}
}

// requestTimes records when requests reach a fault.
type requestTimes struct {
	mu sync.Mutex // guards at
	at []time.Time
}

func (r *requestTimes) before(fault standin.Fault) standin.Fault {
	return func(honest http.Handler) http.Handler {
		faulty := fault(honest)
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			r.mu.Lock()
			r.at = append(r.at, time.Now())
			r.mu.Unlock()
			faulty.ServeHTTP(w, req)
		})
	}
}

// gaps returns the shortest and the longest time between two requests.
func (r *requestTimes) gaps() (shortest, longest time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	shortest = time.Hour
	for i := 1; i < len(r.at); i++ {
		gap := r.at[i].Sub(r.at[i-1])
		shortest, longest = min(shortest, gap), max(longest, gap)
	}
	return shortest, longest
}

// outages are of either server; without a fault it refuses connections.
var outages = []standin.NamedFault{
	{Name: "connections refused"},
	{Name: "hangs", Fault: standin.Hang()},
	{Name: "status 500", Fault: standin.Status(500)},
	{Name: "a byte at a time", Fault: standin.Drip(20 * time.Millisecond)},
}

// breakDown applies the fault, or with nil makes the server refuse connections.
func breakDown(s *standin.Server, fault standin.Fault) {
	if s.Misbehave(fault); fault == nil {
		s.Stop()
	}
}

// repair ends what breakDown began.
func repair(t *testing.T, s *standin.Server) {
	t.Helper()
	s.Behave()
	if err := s.Restart(); err != nil {
		t.Error(err)
	}
}
