// Package check diagnoses a set-up: the settings, Auth0's keys, a grant at IMS,
// and whether a user token would be accepted.
package check

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"itwin-token-server/internal/problem"
	"itwin-token-server/internal/settings"
	"itwin-token-server/internal/upstream"
)

// A Report has a line for each finding: neither a secret nor a whole token is in it.
type Report struct {
	W         io.Writer
	Program   string // as it was started
	Issuer    string // of the tokens that the server accepts
	Authority string // of IMS
	Failed    bool   // a finding is "no"

	words []string // the settings as advice shows them: {NAME}, value, {NAME}, value
}

// line writes a finding: "ok", "no", "!!" for a warning, or "--" for what was left out.
func (r *Report) line(mark, what, text string) {
	r.Failed = r.Failed || mark == "no"
	text = strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", 20))
	fmt.Fprintf(r.W, "%s  %-14s  %s\n", mark, what, text)
}

// Settings writes where each setting comes from, and what is wrong with them: err, which has
// a line for each. With an error nothing else can be checked, and advice follows. Call it before
// Token, whose advice shows settings as they are shown here.
func (r *Report) Settings(found *settings.Findings, err error, advice string) {
	for _, s := range found.Settings {
		fmt.Fprintf(r.W, "    %-37s  %-11s  %s\n", s.Name, s.Source, s.Shown)
		r.words = append(r.words, "{"+s.Name+"}", s.Shown)
	}
	fmt.Fprintln(r.W)
	for _, warning := range found.Warnings {
		r.line("!!", "settings", warning)
	}
	if err != nil {
		r.line("no", "settings", err.Error())
		r.line("--", "a user token", "not checked")
		r.line("--", "Auth0 and IMS", "not checked: correct the settings first"+advice)
	} else {
		r.line("ok", "settings", "complete")
	}
}

// Keys writes how the fetch of Auth0's keys ended.
func (r *Report) Keys(err error) {
	r.fetch("Auth0's keys", "fetched from "+settings.Shown(r.Issuer), err, "\nThe host is that of "+
		"ITM_TOKEN_SERVER_AUTH0_DOMAIN: it should be the Domain on your application's page "+
		"(manage.auth0.com, Applications).")
}

// Grant writes how a grant at IMS ended. Unless the host may be the wrong one, the error
// itself says what to change.
func (r *Report) Grant(lifetime time.Duration, err error) {
	advice := ""
	wrongHost := []upstream.Kind{upstream.Unreachable, upstream.Slow, upstream.Nonsense}
	failed, ok := errors.AsType[*upstream.Error](err)
	if ok && slices.Contains(wrongHost, failed.Kind) {
		advice = "\nThe host is that of ITM_TOKEN_SERVER_AUTHORITY: Bentley's is " +
			"https://ims.bentley.com."
	}
	r.fetch("a grant at IMS", fmt.Sprintf("an iTwin token valid for %v", lifetime), err, advice)
}

// fetch writes how a fetch ended: its result, or its error and advice.
func (r *Report) fetch(what, result string, err error, advice string) {
	if err != nil {
		r.line("no", what, err.Error()+"."+advice)
	} else {
		r.line("ok", what, result)
	}
}

// Token writes whether the server would accept the user token that was given; answer returns
// the server's problem with an Authorization header, nil if there is none. If the server
// refuses the token for what is around it, its verdict on the token itself follows.
func (r *Report) Token(given string, answer func(header string) *problem.Problem) {
	if given == "" {
		r.line("--", "a user token", "none given: "+r.Program+" check - reads one, and says "+
			"whether the server would accept it")
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
	if refused != nil {
		r.line("no", what, "would be refused: "+refused.Text+".\n"+r.advice(token, refused))
	} else {
		r.line("ok", what, "would be accepted")
	}
}
