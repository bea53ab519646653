// Package check diagnoses a set-up: the settings, Auth0's keys, a grant at IMS,
// and whether a user token would be accepted.
package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"itwin-token-server/internal/dotenv"
	"itwin-token-server/internal/upstream"
)

// maxPasted bounds what is read of a user token, in bytes.
const maxPasted = 64 << 10

// Input is what [Run] checks.
type Input struct {
	Settings *dotenv.Findings
	Errors   error // of the settings, one a line
	Expected Expected

	Keys   func(context.Context) error                               // fetches Auth0's keys
	Grant  func(context.Context) (lifetime time.Duration, err error) // gets an iTwin token
	Verify func(ctx context.Context, token string) (Advice, error)   // verifies a user token
}

// around is what people copy with a token: the header's name, the scheme, quotes,
// spaces, a newline.
var around = regexp.MustCompile(`(?i)^["'\s]*(authorization:\s*)?(bearer\s+)?["'\s]*|["'\s]+$`)

// UserToken returns the user token that is the argument or, for "-", what stdin
// has. Without an argument it is empty.
func UserToken(args []string, stdin io.Reader) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	text := args[0]
	if text == "-" {
		read, err := io.ReadAll(io.LimitReader(stdin, maxPasted))
		if err != nil {
			return "", err
		}
		text = string(read)
	}
	token := around.ReplaceAllString(text, "")
	if token == "" || token == "TOKEN" { // an unset variable of the shell, or the usage's word
		return "", errors.New("check: want a user token in place of TOKEN, or - to read it from standard input, got none")
	}
	return token, nil
}

// Run checks the input and writes a line for each finding. It returns whether
// everything is ok. Without a token ("") it checks none. It writes neither a secret
// nor a whole token.
func Run(ctx context.Context, w io.Writer, in Input, token string) (ok bool) {
	r := report{w, true}
	r.settings(in)
	if in.Errors != nil {
		r.line("--", "Auth0 and IMS", "not asked: correct the settings first (go run . demo needs none)")
		return false
	}
	r.upstream(ctx, in)
	if token == "" {
		r.line("--", "a user token", "none given: go run . check TOKEN says whether the server would accept it")
	} else {
		r.token(ctx, in, token)
	}
	return r.ok
}

// A report has a line for each finding.
type report struct {
	w  io.Writer
	ok bool // so far
}

// line writes a finding: "ok", "no", "!!" for a warning, or "--" for what was left out.
func (r *report) line(mark, what, format string, args ...any) {
	r.ok = r.ok && mark != "no"
	finding := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "\n"+strings.Repeat(" ", 20))
	fmt.Fprintf(r.w, "%s  %-14s  %s\n", mark, what, finding)
}

// settings writes where each setting comes from, and what is wrong with them.
func (r *report) settings(in Input) {
	for _, s := range in.Settings.Settings {
		source := ""
		if s.Source != "" {
			source = " (" + s.Source + ")"
		}
		fmt.Fprintf(r.w, "    %-37s  %s%s\n", s.Name, s.Shown, source)
	}
	fmt.Fprintln(r.w)
	if in.Errors != nil {
		r.line("no", "settings", "%v", in.Errors)
	} else {
		r.line("ok", "settings", "complete")
	}
	for _, warning := range in.Settings.Warnings {
		r.line("!!", "settings", "%s", warning)
	}
}

// upstream fetches Auth0's keys, makes a grant at IMS, and writes how both ended.
func (r *report) upstream(ctx context.Context, in Input) {
	errKeys := in.Keys(ctx)
	if errKeys == nil {
		r.line("ok", "Auth0's keys", "fetched from %s", in.Expected.Issuer)
	} else {
		r.line("no", "Auth0's keys", "%v.\nThe host is that of ITM_TOKEN_SERVER_AUTH0_DOMAIN: it should be the Domain on your application's page (manage.auth0.com, Applications).", errKeys)
	}
	lifetime, errGrant := in.Grant(ctx)
	switch failed, _ := errors.AsType[*upstream.Error](errGrant); {
	case errGrant == nil:
		r.line("ok", "a grant at IMS", "an iTwin token that lives %v", lifetime)
	case failed != nil && (failed.Kind == upstream.Unreachable || failed.Kind == upstream.Slow):
		r.line("no", "a grant at IMS", "%v.\nThe host is that of ITM_TOKEN_SERVER_AUTHORITY: Bentley's is https://ims.bentley.com.", errGrant)
	default: // the error names the setting
		r.line("no", "a grant at IMS", "%v.", errGrant)
	}
	if unreachable(errKeys) && unreachable(errGrant) {
		r.line("!!", "network", "neither host can be reached: this machine's network may be down")
	}
}

func unreachable(err error) bool {
	failed, ok := errors.AsType[*upstream.Error](err)
	return ok && failed.Kind == upstream.Unreachable
}

// token writes whether the server would accept a user token, and if not why.
func (r *report) token(ctx context.Context, in Input, raw string) {
	advice, err := in.Verify(ctx, raw)
	t := parse(raw)
	switch {
	case err == nil:
		r.line("ok", "a user token", "would be accepted")
		return
	case advice == None && t.text("iss") != "" && t.text("iss") != in.Expected.Issuer: // may be why there are no keys
		advice, err = Issuer, errors.New("wrong issuer")
	case advice == Opaque && strings.HasPrefix(raw, "eyJ") && strings.Count(raw, ".") < 2: // {" in Base64
		advice, err = Damaged, errors.New("the token is not whole")
	case advice == None:
		r.line("no", "a user token", "not checked: %v.", err)
		return
	}
	r.line("no", "a user token", "would be refused: %v.\n%s", err, t.advice(advice, in.Expected))
}
