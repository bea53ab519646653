// Package check diagnoses a set-up: the settings, Auth0's keys, a grant at IMS,
// and whether a user token would be accepted.
package check

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"itwin-token-server/internal/problem"
	"itwin-token-server/internal/settings"
)

// A Report has a line for each finding: neither a secret nor a whole token is in it. What was
// interrupted has no line.
type Report struct {
	W         io.Writer
	Program   string // as it was started
	Issuer    string // of the tokens that the server accepts
	Authority string // of IMS
	Failed    bool   // a finding is "no"

	words []string // the settings as advice shows them: {NAME}, value, {NAME}, value
}

// line writes a finding: "ok", "no", "!!" for a warning, or "--" for what was left out.
func (r *Report) line(mark, what, format string, args ...any) {
	r.Failed = r.Failed || mark == "no"
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "\n"+strings.Repeat(" ", 20))
	fmt.Fprintf(r.W, "%s  %-14s  %s\n", mark, what, text)
}

// Settings writes where each setting comes from, and what is wrong with them, one a
// line in err. With an error nothing else can be checked.
func (r *Report) Settings(found *settings.Findings, err error) {
	for _, s := range found.Settings {
		fmt.Fprintf(r.W, "    %-37s  %-11s  %s\n", s.Name, s.Source, s.Shown)
		r.words = append(r.words, "{"+s.Name+"}", s.Shown)
	}
	fmt.Fprintln(r.W)
	for _, warning := range found.Warnings {
		r.line("!!", "settings", "%s", warning)
	}
	if err != nil {
		r.line("no", "settings", "%v", err)
		r.line("--", "Auth0 and IMS", "not checked: correct the settings first (%s demo needs none)",
			r.Program)
		return
	}
	r.line("ok", "settings", "complete")
}

// Keys writes how the fetch of Auth0's keys ended.
func (r *Report) Keys(err error) {
	r.fetch("Auth0's keys", "fetched from "+r.Issuer, err, "The host is that of "+
		"ITM_TOKEN_SERVER_AUTH0_DOMAIN: it should be the Domain on your application's page "+
		"(manage.auth0.com, Applications).")
}

// Grant writes how a grant at IMS ended.
func (r *Report) Grant(lifetime time.Duration, err error) {
	r.fetch("a grant at IMS", fmt.Sprintf("an iTwin token valid for %v", lifetime), err,
		"The host is that of ITM_TOKEN_SERVER_AUTHORITY: Bentley's is https://ims.bentley.com.")
}

// fetch writes how a fetch ended: its result, or its error and advice.
func (r *Report) fetch(what, result string, err error, advice string) {
	if errors.Is(err, context.Canceled) {
		return
	}
	if err != nil {
		r.line("no", what, "%v.\n%s", err, advice)
		return
	}
	r.line("ok", what, "%s", result)
}

// Token writes whether the server would accept the user token that was given; answer returns
// the server's problem with an Authorization header, nil if there is none. If the server
// refuses the token for what is around it, its verdict on the token itself follows.
func (r *Report) Token(given string, answer func(header string) *problem.Problem) {
	if given == "" {
		r.line("--", "a user token", "none given: %s check - reads one, and says whether the "+
			"server would accept it", r.Program)
		return
	}
	token := bare(given)
	asGiven, itself := answer(header(given)), answer("Bearer "+token)
	if asGiven != itself {
		r.verdict("as given", given, asGiven)
	}
	r.verdict("a user token", token, itself)
}

// verdict writes what the server makes of a token.
func (r *Report) verdict(what, token string, refused *problem.Problem) {
	if refused == nil {
		r.line("ok", what, "would be accepted")
		return
	}
	if refused != problem.Canceled {
		r.line("no", what, "would be refused: %s.\n%s", refused.Text, r.advice(token, refused))
	}
}
