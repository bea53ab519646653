package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"

	"itwin-token-server/internal/dotenv"
	"itwin-token-server/internal/upstream"
)

// columns is how wide the report is where its words allow it.
const columns = 100

// A Patient is what [Check] looks at. Errors say what is wrong, which setting to
// change, and how.
type Patient struct {
	Settings []dotenv.Setting
	Faults   error // of the settings, one a line
	Warnings []string

	Keys   func(context.Context) (count int, err error)             // fetches Auth0's keys
	Grant  func(context.Context) (life time.Duration, err error)    // gets a token of IMS
	Verify func(context.Context, string) (reason string, err error) // checks a user's token: why it is refused, in one word and in a sentence
	Wanted Wanted
}

// Check examines the patient and writes a line for each finding. A token of ""
// is not looked at. It returns whether all is well. Nothing it writes holds a
// secret or a whole token.
func Check(ctx context.Context, w io.Writer, p Patient, token string) (well bool) {
	r := report{w: w, well: true}
	r.settings(p)
	if p.Faults != nil {
		r.line("--", "Auth0 and IMS", "not asked: the settings come first (go run . demo needs none)")
		return false
	}
	keys := r.keys(ctx, p)
	r.grant(ctx, p)
	switch {
	case token == "":
		r.line("--", "a user's token", "none given: go run . check TOKEN says whether the server would accept it")
	case keys:
		r.token(ctx, p, token)
	default:
		r.tokenWithoutKeys(p, token)
	}
	return r.well
}

// A report is written line by line.
type report struct {
	w    io.Writer
	well bool
}

func (r *report) settings(p Patient) {
	for _, s := range p.Settings {
		fmt.Fprintf(r.w, "    %-37s  %s\n", s.Name, shown(s))
	}
	fmt.Fprintln(r.w)
	if p.Faults != nil {
		for fault := range strings.SplitSeq(p.Faults.Error(), "\n") {
			r.wrong("settings", fault)
		}
	} else {
		r.line("ok", "settings", "complete")
	}
	for _, warning := range p.Warnings {
		r.line("!!", "settings", warning)
	}
}

// shown is a setting's value and source.
func shown(s dotenv.Setting) string {
	if s.Source == "" {
		return s.Shown
	}
	return s.Shown + " (" + s.Source + ")"
}

func (r *report) keys(ctx context.Context, p Patient) (found bool) {
	count, err := p.Keys(ctx)
	if err != nil {
		r.wrong("Auth0's keys", err.Error()+".\nITM_TOKEN_SERVER_AUTH0_DOMAIN names that host: it should be the Domain on your application's page (manage.auth0.com, Applications).")
		return false
	}
	r.line("ok", "Auth0's keys", fmt.Sprintf("%d for RS256, of %s", count, p.Wanted.Issuer))
	return true
}

func (r *report) grant(ctx context.Context, p Patient) {
	life, err := p.Grant(ctx)
	var failed *upstream.Error
	switch {
	case err == nil:
		r.line("ok", "a grant at IMS", fmt.Sprintf("a token that lives %v", life))
	case errors.As(err, &failed) && failed.Kind != upstream.Refused && !strings.Contains(failed.Text, "ITM_TOKEN_SERVER_AUTHORITY"):
		r.wrong("a grant at IMS", err.Error()+".\nITM_TOKEN_SERVER_AUTHORITY names that host: Bentley's is https://ims.bentley.com.")
	default: // it says itself which setting to change
		r.wrong("a grant at IMS", err.Error()+".")
	}
}

func (r *report) token(ctx context.Context, p Patient, token string) {
	reason, err := p.Verify(ctx, token)
	switch {
	case err == nil:
		r.line("ok", "a user's token", "would be accepted")
	case reason == "":
		r.wrong("a user's token", err.Error()+".")
	case cut(token):
		r.refused("it is not whole", "cut", token, p.Wanted)
	default:
		r.refused(err.Error(), reason, token, p.Wanted)
	}
}

// tokenWithoutKeys says what a token tells by itself: often why there are no keys.
func (r *report) tokenWithoutKeys(p Patient, token string) {
	if _, c := read(token); c.Issuer != "" && c.Issuer != p.Wanted.Issuer {
		r.refused("another issuer", "issuer", token, p.Wanted)
		return
	}
	r.line("--", "a user's token", "not tried: Auth0's keys come first")
}

func (r *report) refused(why, reason, token string, wanted Wanted) {
	r.wrong("a user's token", "would be refused: "+why+".\n"+Advice(reason, token, wanted))
}

func (r *report) wrong(what, finding string) {
	r.well = false
	r.line("no", what, finding)
}

// line writes a finding in its column. Its own line breaks are kept.
func (r *report) line(mark, what, finding string) {
	lead := fmt.Sprintf("%s  %-14s  ", mark, what)
	for paragraph := range strings.SplitSeq(finding, "\n") {
		for _, line := range wrap(paragraph, columns-len(lead)) {
			fmt.Fprintln(r.w, lead+line)
			lead = strings.Repeat(" ", len(lead))
		}
	}
}

// wrap breaks text between words into lines of so many characters; a word that
// is longer has a line of its own.
func wrap(text string, width int) (lines []string) {
	line, length := "", 0
	for word := range strings.FieldsSeq(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case line == "":
			line, length = word, n
		case length+1+n <= width:
			line, length = line+" "+word, length+1+n
		default:
			lines = append(lines, line)
			line, length = word, n
		}
	}
	return append(lines, line)
}
