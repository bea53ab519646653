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
	"unicode/utf8"

	"itwin-token-server/internal/dotenv"
	"itwin-token-server/internal/upstream"
)

// columns is the width of the report, where its words allow it.
const columns = 100

// maxArgument bounds what is read of a token, in bytes.
const maxArgument = 64 << 10

// Input is what [Run] checks. Errors say what is wrong and what to change.
type Input struct {
	Settings []dotenv.Setting
	Errors   error // of the settings, one a line
	Warnings []string
	Expected Expected

	Keys   func(context.Context) (count int, err error)              // fetches Auth0's keys
	Grant  func(context.Context) (lifetime time.Duration, err error) // gets an iTwin token
	Verify func(ctx context.Context, token string) (Advice, error)   // verifies a user token
}

// around is what people copy with a token: the header's name, the scheme, quotes,
// spaces, a newline.
var around = regexp.MustCompile(`(?i)^["'\s]*(authorization:\s*)?(bearer\s+)?["'\s]*|["'\s]+$`)

// UserToken returns the token that the arguments name: "" if there is none, the
// first argument, or for "-" what stdin has.
func UserToken(arguments []string, stdin io.Reader) (string, error) {
	if len(arguments) == 0 {
		return "", nil
	}
	text := arguments[0]
	if text == "-" {
		read, err := io.ReadAll(io.LimitReader(stdin, maxArgument))
		if err != nil {
			return "", err
		}
		text = string(read)
	}
	switch token := around.ReplaceAllString(text, ""); token {
	case "": // of an unset variable of the shell, for example
		return "", errors.New("check: want a user token, got an empty one")
	case "TOKEN":
		return "", errors.New("check: put the user token in place of the word TOKEN, or - to read it from standard input")
	default:
		return token, nil
	}
}

// Run checks the input and writes a line for each finding. It returns whether
// everything is ok. Without a token ("") it checks none. It never writes a secret
// or a whole token.
func Run(ctx context.Context, w io.Writer, in Input, token string) (ok bool) {
	r := report{w: w, ok: true}
	r.settings(in)
	if in.Errors != nil {
		r.line("--", "Auth0 and IMS", "not asked: correct the settings first (go run . demo needs none)")
		return false
	}
	errKeys, errGrant := r.keys(ctx, in), r.grant(ctx, in)
	if unreachable(errKeys) && unreachable(errGrant) {
		r.line("!!", "network", "neither host can be reached: this machine's network may be down")
	}
	switch {
	case token == "":
		r.line("--", "a user token", "none given: go run . check TOKEN says whether the server would accept it")
	case errKeys == nil:
		r.token(ctx, in, token)
	default:
		r.tokenWithoutKeys(in, token)
	}
	return r.ok
}

func unreachable(err error) bool {
	var failed *upstream.Error
	return errors.As(err, &failed) && failed.Kind == upstream.Unreachable
}

// A report is written line by line.
type report struct {
	w  io.Writer
	ok bool // so far
}

func (r *report) settings(in Input) {
	for _, s := range in.Settings {
		shown := s.Shown
		if s.Source != "" {
			shown += " (" + s.Source + ")"
		}
		fmt.Fprintf(r.w, "    %-37s  %s\n", s.Name, shown)
	}
	fmt.Fprintln(r.w)
	if in.Errors == nil {
		r.line("ok", "settings", "complete")
	} else {
		for line := range strings.SplitSeq(in.Errors.Error(), "\n") {
			r.wrong("settings", line)
		}
	}
	for _, warning := range in.Warnings {
		r.line("!!", "settings", warning)
	}
}

func (r *report) keys(ctx context.Context, in Input) error {
	count, err := in.Keys(ctx)
	if err != nil {
		r.wrong("Auth0's keys", err.Error()+".\nThe host is that of ITM_TOKEN_SERVER_AUTH0_DOMAIN: it should be the Domain on your application's page (manage.auth0.com, Applications).")
		return err
	}
	r.line("ok", "Auth0's keys", fmt.Sprintf("%d for RS256, from %s", count, in.Expected.Issuer))
	return nil
}

func (r *report) grant(ctx context.Context, in Input) error {
	lifetime, err := in.Grant(ctx)
	var failed *upstream.Error
	switch {
	case err == nil:
		r.line("ok", "a grant at IMS", fmt.Sprintf("an iTwin token that lives %v", lifetime))
	case errors.As(err, &failed) && (failed.Kind == upstream.Unreachable || failed.Kind == upstream.Slow):
		r.wrong("a grant at IMS", err.Error()+".\nThe host is that of ITM_TOKEN_SERVER_AUTHORITY: Bentley's is https://ims.bentley.com.")
	default: // it names the setting itself
		r.wrong("a grant at IMS", err.Error()+".")
	}
	return err
}

func (r *report) token(ctx context.Context, in Input, token string) {
	advice, err := in.Verify(ctx, token)
	switch {
	case err == nil:
		r.line("ok", "a user token", "would be accepted")
	case advice == nil:
		r.wrong("a user token", err.Error()+".")
	case truncated(token):
		r.refused("the token is not whole", Damaged, token, in.Expected)
	default:
		r.refused(err.Error(), advice, token, in.Expected)
	}
}

// truncated reports whether a token is a JWT without its end, and so not opaque.
func truncated(token string) bool {
	return strings.HasPrefix(token, "eyJ") && strings.Count(token, ".") < 2 // {" in base64
}

// tokenWithoutKeys compares the issuer, which often is why there are no keys.
func (r *report) tokenWithoutKeys(in Input, token string) {
	if issuer := parse(token).text("iss"); issuer != "" && issuer != in.Expected.Issuer {
		r.refused("wrong issuer", Issuer, token, in.Expected)
		return
	}
	r.line("--", "a user token", "not checked: that needs Auth0's keys")
}

func (r *report) refused(why string, advice Advice, token string, expected Expected) {
	r.wrong("a user token", "would be refused: "+why+".\n"+advice(parse(token), expected))
}

func (r *report) wrong(what, finding string) {
	r.ok = false
	r.line("no", what, finding)
}

// line writes a finding in its column. Line breaks in it are kept.
func (r *report) line(mark, what, finding string) {
	lead := fmt.Sprintf("%s  %-14s  ", mark, what)
	for paragraph := range strings.SplitSeq(finding, "\n") {
		for _, line := range wrap(paragraph, columns-len(lead)) {
			fmt.Fprintln(r.w, lead+line)
			lead = strings.Repeat(" ", len(lead))
		}
	}
}

// wrap breaks text between words into lines of at most width characters; a longer
// word has its own line.
func wrap(text string, width int) (lines []string) {
	line := ""
	for word := range strings.FieldsSeq(text) {
		switch {
		case line == "":
			line = word
		case utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) <= width:
			line += " " + word
		default:
			lines = append(lines, line)
			line = word
		}
	}
	return append(lines, line)
}
