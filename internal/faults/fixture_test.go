package faults

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"itwin-token-server/internal/standin/standintest"
)

const (
	// audience is the API that user tokens are for, and appID the app.
	audience = "http://tokenserver.sample.bentley.com"
	appID    = "ios-sample"
)

// A fixture is the stand-ins of Auth0 and IMS, and the tokens made for a test.
type fixture struct {
	*standintest.Standin
	t  *testing.T
	ca string // the file with the stand-ins' certificate

	mu       sync.Mutex // guards prefixes
	prefixes map[string]bool
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{Standin: standintest.Start(t), t: t, ca: filepath.Join(t.TempDir(), "ca.pem"), prefixes: map[string]bool{}}
	if err := os.WriteFile(f.ca, f.CACert(), 0o600); err != nil {
		t.Fatal(err)
	}
	return f
}

// command is the program with the fixture's settings and the given ones, each
// NAME=value without the prefix; the last value of a name counts.
func (f *fixture) command(ctx context.Context, args []string, settings ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
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
	return f.record(f.Tenant.AccessToken(audience, standintest.Claims{"sub": sub}))
}

func (f *fixture) userTokens(n int) []string {
	tokens := make([]string, n)
	for i := range tokens {
		tokens[i] = f.userToken()
	}
	return tokens
}

// secrets are the texts that neither an answer nor a log may show.
func (f *fixture) secrets() map[string]string {
	id, secret := f.IMS.ClientID(), f.IMS.ClientSecret()
	pair := url.QueryEscape(id) + ":" + url.QueryEscape(secret)
	return map[string]string{
		"the client secret":               secret,
		"the client secret, form-encoded": url.QueryEscape(secret),
		"the client secret, in Basic":     base64.StdEncoding.EncodeToString([]byte(pair)),
		"upstream's error text":           standintest.Canary,
		"upstream's page":                 "Something is wrong",
		"the user's name":                 "Jane Doe",
		"the user's e-mail address":       "jane.doe",
		"a panic":                         "http: panic",
	}
}
