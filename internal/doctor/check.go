package doctor

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"itwin-token-server/internal/settings"
)

// A Patient is what [Check] looks at. Errors say what is wrong, which setting to
// change, and how.
type Patient struct {
	Settings []settings.Setting
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
	if p.Faults == nil {
		r.remote(ctx, p)
	} else {
		r.line("--", "Auth0 and IMS", "not asked: the settings come first")
	}
	if token != "" && p.Faults == nil {
		r.token(ctx, p, token)
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
		shown := "not set"
		switch {
		case s.From != "" && s.Secret:
			shown = "set (" + s.From + ")"
		case s.From != "":
			shown = fmt.Sprintf("%q (%s)", s.Value, s.From)
		}
		r.line("  ", s.Name, shown)
	}
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

func (r *report) remote(ctx context.Context, p Patient) {
	if count, err := p.Keys(ctx); err != nil {
		r.wrong("Auth0's keys", err.Error())
	} else {
		r.line("ok", "Auth0's keys", fmt.Sprintf("%d for RS256, of %s", count, p.Wanted.Issuer))
	}
	if life, err := p.Grant(ctx); err != nil {
		r.wrong("a grant at IMS", err.Error())
	} else {
		r.line("ok", "a grant at IMS", fmt.Sprintf("a token that lives %v", life))
	}
}

func (r *report) token(ctx context.Context, p Patient, token string) {
	reason, err := p.Verify(ctx, token)
	switch {
	case err == nil:
		r.line("ok", "the user's token", "would be accepted")
	case reason == "":
		r.wrong("the user's token", err.Error())
	default:
		r.wrong("the user's token", "would be refused: "+err.Error()+". "+Advice(reason, token, p.Wanted))
	}
}

func (r *report) wrong(what, finding string) {
	r.well = false
	r.line("no", what, finding)
}

func (r *report) line(mark, what, finding string) {
	fmt.Fprintf(r.w, "%s  %-37s  %s\n", mark, what, finding)
}
