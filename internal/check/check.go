// Package check diagnoses a set-up: the settings, Auth0's keys, a grant at IMS,
// and whether a user token would be accepted.
package check

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"itwin-token-server/internal/dotenv"
	"itwin-token-server/internal/problem"
	"itwin-token-server/internal/upstream"
)

// maxPasted bounds what is read of a user token, in bytes.
const maxPasted = 64 << 10

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

// A Report has a line for each finding: neither a secret nor a whole token is in it.
type Report struct {
	W       io.Writer
	Program string // as it was started
	Failed  bool   // a finding is "no"

	settings *dotenv.Findings
	issuer   string
	noAuth0  bool // it cannot be reached
}

// line writes a finding: "ok", "no", "!!" for a warning, or "--" for what was left out.
func (r *Report) line(mark, what, format string, args ...any) {
	r.Failed = r.Failed || mark == "no"
	finding := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "\n"+strings.Repeat(" ", 20))
	fmt.Fprintf(r.W, "%s  %-14s  %s\n", mark, what, finding)
}

// Settings writes where each setting comes from, and what is wrong with them, one a
// line in err. With an error nothing else can be checked.
func (r *Report) Settings(found *dotenv.Findings, err error) {
	r.settings = found
	for _, s := range found.Settings {
		source := ""
		if s.Source != "" {
			source = " (" + s.Source + ")"
		}
		fmt.Fprintf(r.W, "    %-37s  %s%s\n", s.Name, s.Shown, source)
	}
	fmt.Fprintln(r.W)
	if err != nil {
		r.line("no", "settings", "%v", err)
	} else {
		r.line("ok", "settings", "complete")
	}
	for _, warning := range found.Warnings {
		r.line("!!", "settings", "%s", warning)
	}
	if err != nil {
		r.line("--", "Auth0 and IMS", "not checked: correct the settings first (go run . demo needs none)")
	}
}

// Keys writes how the fetch of Auth0's keys ended.
func (r *Report) Keys(issuer string, err error) {
	r.issuer, r.noAuth0 = issuer, isOf(err, upstream.Unreachable)
	if err != nil {
		r.line("no", "Auth0's keys", "%v.\nThe host is that of ITM_TOKEN_SERVER_AUTH0_DOMAIN: it should be the Domain on your application's page (manage.auth0.com, Applications).", err)
		return
	}
	r.line("ok", "Auth0's keys", "fetched from %s", issuer)
}

// Grant writes how a grant at IMS ended.
func (r *Report) Grant(lifetime time.Duration, err error) {
	switch {
	case err == nil:
		r.line("ok", "a grant at IMS", "an iTwin token valid for %v", lifetime)
	case isOf(err, upstream.Unreachable, upstream.Slow):
		r.line("no", "a grant at IMS", "%v.\nThe host is that of ITM_TOKEN_SERVER_AUTHORITY: Bentley's is https://ims.bentley.com.", err)
	default: // the error names the setting
		r.line("no", "a grant at IMS", "%v.", err)
	}
	if r.noAuth0 && isOf(err, upstream.Unreachable) {
		r.line("!!", "network", "neither answered: look at this machine first (its network, HTTPS_PROXY, its CA certificates)")
	}
}

func isOf(err error, kinds ...upstream.Kind) bool {
	failed, ok := errors.AsType[*upstream.Error](err)
	return ok && slices.Contains(kinds, failed.Kind)
}

// Token writes whether the server would accept a user token; refused says why not.
func (r *Report) Token(raw string, refused *problem.Problem) {
	t := parse(raw)
	issuer := t.text("iss")
	switch {
	case raw == "":
		r.line("--", "a user token", "none given: %s check - reads one, and says whether the server would accept it", r.Program)
		return
	case refused == nil:
		r.line("ok", "a user token", "would be accepted")
		return
	case refused.Advice == "" && issuer != "" && issuer != r.issuer: // may be why there are no keys
		refused = problem.Issuer
	case refused.Advice == "":
		r.line("no", "a user token", "not checked: %v.", refused)
		return
	}
	r.line("no", "a user token", "would be refused: %v.\n%s", refused, r.advice(t, refused))
}

// A token is a user token that was refused: nothing in it is verified.
type token struct {
	header map[string]any
	claims jwt.MapClaims
}

// parse reads what it can of a token; the rest is empty.
func parse(raw string) token {
	claims := jwt.MapClaims{}
	if parsed, _, _ := jwt.NewParser().ParseUnverified(raw, claims); parsed != nil {
		return token{parsed.Header, claims}
	}
	return token{nil, claims}
}

// advice says what to do about the token, and where. It quotes only claims that name
// no person.
func (r *Report) advice(t token, refused *problem.Problem) string {
	permissions, _ := t.claims["permissions"].([]any)
	words := []string{
		"{program}", r.Program,
		"{issuer}", r.issuer,
		"{now}", time.Now().UTC().Format(time.RFC3339),
		"{iss}", shown(t.claims["iss"]),
		"{aud}", shown(t.audience()),
		"{exp}", t.time("exp"),
		"{nbf}", max(t.time("nbf"), t.time("iat")),
		"{kid}", shown(t.header["kid"]),
		"{alg}", shown(t.header["alg"]),
		"{scope}", shown(t.claims["scope"]),
		"{permissions}", fmt.Sprintf("%+q", permissions),
		"{org_id}", shown(t.claims["org_id"]),
		"{org_name}", shown(t.claims["org_name"]),
	}
	for _, s := range r.settings.Settings {
		words = append(words, "{"+s.Name+"}", s.Shown)
	}
	return strings.NewReplacer(words...).Replace(refused.Advice)
}

// text is a claim that is a string, else empty.
func (t token) text(claim string) string {
	text, _ := t.claims[claim].(string)
	return text
}

// audience leaves out userinfo, which every access token with openid has too.
func (t token) audience() string {
	all, _ := t.claims.GetAudience()
	all = slices.DeleteFunc(all, func(name string) bool { return name == t.text("iss")+"userinfo" })
	return strings.Join(all, ",") // as in the setting
}

// time is a claim that is a time.
func (t token) time(claim string) string {
	seconds, _ := t.claims[claim].(float64)
	return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
}

// shown is a caller's text in quotes, in printable ASCII and not long.
func shown(claim any) string {
	text, _ := claim.(string)
	if text == "" {
		return "missing"
	}
	return fmt.Sprintf("%+.128q", text)
}
