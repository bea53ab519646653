// Package demo provides what the server needs to run with no configuration: stand-ins
// for Auth0 and IMS, the settings for them, and requests that show what it does.
//
// NOT FOR PRODUCTION: it gives user tokens to everyone.
package demo

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"itwin-token-server/internal/standin"
)

// audience is the identifier of the API in the mobile samples.
const audience = "http://tokenserver.sample.bentley.com"

// MinTokenLife is the shortest life of an iTwin token that the demo allows. The server
// renews a token at half of its life. Of 3 s, 1.5 s are left then: enough for the grant
// and an expires_in of 1, which is in whole seconds. Of 2 s it would become 0.
const MinTokenLife = 3 * time.Second

// ParseArgs returns the life of an iTwin token that the arguments of the command ask for,
// an hour without any. Its error does not quote them: one may be a misplaced secret.
func ParseArgs(args []string) (tokenLife time.Duration, err error) {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.DurationVar(&tokenLife, "token-life", time.Hour, "")
	wrong := flags.Parse(args) != nil || flags.NArg() > 0
	if wrong || tokenLife < MinTokenLife || tokenLife%time.Second != 0 {
		return 0, fmt.Errorf("demo takes only -token-life, with a unit, in whole seconds, at least "+
			"%v: -token-life 20s", MinTokenLife)
	}
	return tokenLife, nil
}

// Demo is a running pair of stand-ins. Close stops them; Pool is what the server must
// trust to reach them.
type Demo struct{ *standin.Standin }

// Start starts the stand-ins on loopback, with iTwin tokens of the given life.
func Start(tokenLife time.Duration) (*Demo, error) {
	s, err := standin.New()
	if err != nil {
		return nil, err
	}
	s.IMS.SetLife(tokenLife)
	return &Demo{s}, s.Start()
}

// Settings returns the server's settings as an environment: environ, then every
// setting that concerns the stand-ins. The last value of a name counts, and an empty
// value counts as not set.
func (d *Demo) Settings(prefix string, environ []string) []string {
	return append(slices.Clip(environ),
		prefix+"CLIENT_ID="+d.IMS.ClientID(),
		prefix+"CLIENT_SECRET="+d.IMS.ClientSecret(),
		prefix+"CLIENT_SECRET_FILE=",
		prefix+"AUTH0_DOMAIN="+d.Tenant.Domain(),
		prefix+"AUTH0_AUDIENCE="+audience,
		prefix+"AUTH0_REQUIRED_SCOPE=",
		prefix+"AUTH0_ORGANIZATION=",
		prefix+"AUTHORITY="+d.IMS.URL(),
		prefix+"SCOPE=",
		prefix+"TLS_CERT_FILE=",
		prefix+"TLS_KEY_FILE=",
	)
}

// UserToken answers with a new token of a signed-in user.
func (d *Demo) UserToken(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	io.WriteString(w, d.Tenant.AccessToken(audience))
}

// Run sends requests to the server at base, such as http://localhost:3001, and writes
// the answers. Last, it writes a command that repeats the first request.
func (d *Demo) Run(ctx context.Context, w io.Writer, base string) error {
	fmt.Fprintf(w, `The iTwin token server, with stand-ins for Auth0 and for Bentley's IMS.
Not for production: the keys are new, everyone can get a token, and no token opens anything.

  Auth0 stand-in   %s
  IMS stand-in     %s
  token server     %s/getToken

`, d.Tenant.Issuer(), d.IMS.URL(), base)

	user := d.Tenant.AccessToken(audience)
	forged := user[:strings.LastIndexByte(user, '.')+1] + "Zm9yZ2Vk"
	fmt.Fprintf(w, "  Auth0's token for the user    %s\n", shorten(user))
	for _, request := range []struct{ what, token string }{
		{"with that token", user},
		{"with a forged token", forged},
		{"without a token", ""},
	} {
		answer, err := getToken(ctx, base+"/getToken", request.token)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "  request %-20s  %s\n", request.what, answer)
	}
	_, err := fmt.Fprintf(w, `
The server runs until Ctrl-C. To try it, paste this into another terminal:

curl -s -H "Authorization: Bearer $(curl -s %[1]s/demo/userToken)" %[1]s/getToken
`, base)
	return err
}

// getToken requests an iTwin token, and returns the answer as one line.
func getToken(ctx context.Context, url, userToken string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	if userToken != "" {
		req.Header.Set("Authorization", "Bearer "+userToken)
	}
	client := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true}, // no proxy: the server is this process
		Timeout:   15 * time.Second,
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return fmt.Sprintf("%d  %s", resp.StatusCode, shorten(strings.TrimSpace(string(body)))), err
}

// shorten makes text fit on a line of a terminal.
func shorten(text string) string {
	if len(text) <= 72 {
		return text
	}
	return fmt.Sprintf("%s… (%d bytes)", text[:40], len(text))
}
