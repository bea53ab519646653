package faults

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"itwin-token-server/internal/standin/standintest"
)

const (
	// audience is the API that user tokens are for, and appID the app.
	audience = "http://tokenserver.sample.bentley.com"
	appID    = "ios-sample"

	// prefix is how the names of all settings begin.
	prefix = "ITM_TOKEN_SERVER_"
)

// A fixture is the stand-ins of Auth0 and IMS that a test uses.
type fixture struct {
	*standintest.Standin
	t       *testing.T
	ca      string            // the file with the stand-ins' certificate
	secrets map[string]string // by name: what neither an answer nor a log may show
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	if err := build(); err != nil {
		t.Fatal(err)
	}
	s, ca := standintest.Start(t), filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, s.CACert(), 0o600); err != nil {
		t.Fatal(err)
	}
	id, secret := url.QueryEscape(s.IMS.ClientID()), url.QueryEscape(s.IMS.ClientSecret())
	return &fixture{Standin: s, t: t, ca: ca, secrets: map[string]string{
		"the client secret":               s.IMS.ClientSecret(),
		"the client secret, form-encoded": secret,
		"the client secret, in Basic":     base64.StdEncoding.EncodeToString([]byte(id + ":" + secret)),
		"upstream's error text":           standintest.Canary,
		"upstream's page":                 "Something is wrong",
		"the user's name":                 "Jane Doe",
		"the user's e-mail address":       "jane.doe",
		"a panic":                         "http: panic",
	}}
}

// command is the program with the fixture's settings and the given ones, each
// NAME=value without the prefix; the last value of a name counts.
func (f *fixture) command(ctx context.Context, args []string, settings ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Dir = filepath.Dir(f.ca) // without a .env
	cmd.Env = []string{"SSL_CERT_FILE=" + f.ca, "HOME=" + cmd.Dir}
	defaults := []string{
		"CLIENT_ID=" + f.IMS.ClientID(),
		"CLIENT_SECRET=" + f.IMS.ClientSecret(),
		"AUTHORITY=" + f.IMS.URL(),
		"AUTH0_DOMAIN=" + f.Tenant.Domain(),
		"AUTH0_AUDIENCE=" + audience + "," + appID,
		"HOST=127.0.0.1",
		"PORT=0",
	}
	for _, setting := range append(defaults, settings...) {
		cmd.Env = append(cmd.Env, prefix+setting)
	}
	return cmd
}

// userToken is what the Android sample sends, for a user of its own.
func (f *fixture) userToken() string { return f.tokenOf("auth0|" + rand.Text()) }

func (f *fixture) tokenOf(sub string) string {
	return f.Tenant.AccessToken(audience, standintest.Claims{"sub": sub})
}

func (f *fixture) userTokens(n int) []string {
	tokens := make([]string, n)
	for i := range tokens {
		tokens[i] = f.userToken()
	}
	return tokens
}
