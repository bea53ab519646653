// Package demo shows the server at work with nothing configured: it stands in
// for Auth0 and IMS, and tells the story of one sign-in on the terminal.
//
// Nothing in it is for production: it gives user tokens to whoever asks.
package demo

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"itwin-token-server/internal/standin"
)

// Audience is the identifier of the API that the mobile samples name.
const Audience = "http://tokenserver.sample.bentley.com"

// own are the settings that are the demo's; the others a user may still make.
var own = []string{
	"CLIENT_ID", "CLIENT_SECRET", "CLIENT_SECRET_FILE", "AUTH0_DOMAIN", "AUTH0_AUDIENCE", "AUTH0_REQUIRED_SCOPE", "AUTH0_ORGANIZATION",
	"AUTHORITY", "SCOPE", "TLS_CERT_FILE", "TLS_KEY_FILE",
}

// A Demo is a running pair of stand-ins.
type Demo struct{ world *standin.Standin }

// Start starts the stand-ins, on loopback; life is how long an iTwin token
// lives: whole seconds, at least one. Close ends them.
func Start(life time.Duration) (*Demo, error) {
	if life < time.Second {
		return nil, fmt.Errorf("demo: want a token life of at least 1s, got %v", life)
	}
	world, err := standin.New()
	if err != nil {
		return nil, err
	}
	world.IMS.SetLife(life)
	if err := world.Start(); err != nil {
		world.Close()
		return nil, err
	}
	return &Demo{world}, nil
}

// Close ends the stand-ins.
func (d *Demo) Close() { d.world.Close() }

// Roots are what the server must trust to reach the stand-ins.
func (d *Demo) Roots() *x509.CertPool { return d.world.Pool() }

// Settings are the server's, as an environment: where to listen is as in
// environ, whom to trust is the demo's.
func (d *Demo) Settings(prefix string, environ []string) []string {
	settings := slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		setting, ours := strings.CutPrefix(name, prefix)
		return ours && slices.Contains(own, setting)
	})
	return append(settings,
		prefix+"CLIENT_ID="+d.world.IMS.ClientID(),
		prefix+"CLIENT_SECRET="+d.world.IMS.ClientSecret(),
		prefix+"AUTH0_DOMAIN="+d.world.Tenant.Domain(),
		prefix+"AUTH0_AUDIENCE="+Audience,
		prefix+"AUTHORITY="+d.world.IMS.URL(),
	)
}

// UserToken answers with a fresh token of a signed-in user.
func (d *Demo) UserToken(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, d.world.Tenant.AccessToken(Audience))
}

// Tell plays the story once against the server at base, like
// http://localhost:3001, and ends with the command to repeat it by.
func (d *Demo) Tell(ctx context.Context, w io.Writer, base string) error {
	fmt.Fprintf(w, `The iTwin token server, with stand-ins for Auth0 and for Bentley's IMS.
Nothing here is for production: the keys are new, the tokens open nothing, and anyone may have one.

  Auth0 stand-in   %s
  IMS stand-in     %s
  token server     %s/getToken

`, d.world.Tenant.Issuer(), d.world.IMS.URL(), base)

	user := d.world.Tenant.AccessToken(Audience)
	forged := user[:strings.LastIndexByte(user, '.')+1] + "c2lnbmVkIGJ5IG5vYm9keQ"
	fmt.Fprintf(w, "  a user signs in at Auth0      %s\n", short(user))
	for _, step := range []struct{ what, token string }{
		{"the app sends that token", user},
		{"someone sends a forged one", forged},
		{"someone sends none", ""},
	} {
		answer, err := ask(ctx, base+"/getToken", step.token)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "  %-28s  %s\n", step.what, answer)
	}
	_, err := fmt.Fprintf(w, `
It stays up until Ctrl-C. Now you, in another terminal:

curl -s -H "Authorization: Bearer $(curl -s %[1]s/demo/userToken)" %[1]s/getToken
`, base)
	return err
}

// ask asks for an iTwin token, and puts the answer on one line.
func ask(ctx context.Context, url, token string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	alone := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // past any proxy: the server is this process
	resp, err := alone.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%d  %s", resp.StatusCode, short(strings.TrimSpace(string(body)))), nil
}

// short is a text that fits on a terminal's line.
func short(text string) string {
	const most, begin = 72, 40
	if len(text) <= most {
		return text
	}
	return fmt.Sprintf("%s… (%d bytes)", text[:begin], len(text))
}
