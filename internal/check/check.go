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
	W      io.Writer
	Failed bool // a finding is "no"

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

// An Advice is what to do about a refused user token.
type Advice int

const (
	NotChecked   Advice = iota // it is not the token's fault
	Damaged                    // not what Auth0 issued
	TooLong                    // too much in it
	Client                     // the app sent no token
	Opaque                     // not a JWT
	Issuer                     // of another tenant
	Audience                   // for another API or application
	Expired                    // past its exp
	NotYet                     // before its nbf or iat
	UnknownKey                 // its kid is not published
	Scope                      // without a required scope
	Organization               // of another Auth0 Organization, or none
	Algorithm                  // not signed with RS256
)

// Token writes whether the server would accept a user token; err says why not.
func (r *Report) Token(raw string, err error, advice Advice) {
	t := parse(raw)
	switch {
	case raw == "":
		r.line("--", "a user token", "none given: go run . check - reads one, and says whether the server would accept it")
		return
	case err == nil:
		r.line("ok", "a user token", "would be accepted")
		return
	case advice == NotChecked && t.text("iss") != "" && t.text("iss") != r.issuer: // may be why there are no keys
		advice, err = Issuer, errors.New("wrong issuer")
	case advice == NotChecked:
		r.line("no", "a user token", "not checked: %v.", err)
		return
	case advice == Opaque && (strings.ContainsAny(raw, " \t\r\n") || strings.HasPrefix(raw, "eyJ") && strings.Count(raw, ".") != 4): // {" in Base64
		advice, err = Damaged, errors.New("the token is not whole")
	}
	r.line("no", "a user token", "would be refused: %v.\n%s", err, r.advice(t, advice))
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

// advice says in a few words what to do about the token, and where. It quotes only
// claims that name no person.
func (r *Report) advice(t token, advice Advice) string {
	setting := func(name string) string { return r.settings.Setting(name).Shown }
	now := time.Now().UTC().Format(time.RFC3339)
	switch advice {
	case Client:
		return "The mistake is in the app: have it wait for its sign-in, and send Authorization: Bearer, a space and the token."
	case TooLong:
		return "It is not a token of Auth0's, or has too many claims or permissions: have Auth0 add fewer of them."
	case Opaque:
		return fmt.Sprintf("Auth0 issues an opaque token to an app that names no API (manage.auth0.com, Applications, APIs).\nHave the app request the audience %s when it signs the user in.",
			strings.Replace(setting("ITM_TOKEN_SERVER_AUTH0_AUDIENCE"), "not set", "of your API", 1))
	case Issuer:
		return fmt.Sprintf("Its issuer is %s, but the server accepts %s only.\nIf the first is your tenant or its custom domain, set ITM_TOKEN_SERVER_AUTH0_DOMAIN to it; otherwise have the app sign in at the second.",
			shown(t.claims["iss"]), r.issuer)
	case Audience:
		return fmt.Sprintf("Its audience is %s, but the server accepts %s.\nHave the app send the right token (an access token's audience is the API that it requested, an ID token's the application), or add this one's to ITM_TOKEN_SERVER_AUTH0_AUDIENCE.",
			shown(t.audience()), setting("ITM_TOKEN_SERVER_AUTH0_AUDIENCE"))
	case Expired:
		return fmt.Sprintf("It expired at %s, and this machine's clock says %s.\nHave the app sign in again, or renew its token before it sends it.", t.time("exp"), now)
	case NotYet:
		return fmt.Sprintf("It is valid from %s, and this machine's clock says %s: set the clock.", max(t.time("nbf"), t.time("iat")), now)
	case UnknownKey:
		return fmt.Sprintf("The tenant publishes no key %s: it was revoked, or is of another tenant.\nHave the user sign in again.", shown(t.header["kid"]))
	case Scope:
		permissions, _ := t.claims["permissions"].([]any)
		return fmt.Sprintf("Its scope is %s and its permissions are %+q, but ITM_TOKEN_SERVER_AUTH0_REQUIRED_SCOPE is %s.\nHave the app request that scope when it signs the user in, and with RBAC give the user that permission (manage.auth0.com, User Management).",
			shown(t.claims["scope"]), permissions, setting("ITM_TOKEN_SERVER_AUTH0_REQUIRED_SCOPE"))
	case Organization:
		return fmt.Sprintf("Its org_id is %s and its org_name is %s, but the server accepts %s only.\nHave the app sign the user in with that organization, or add the token's to ITM_TOKEN_SERVER_AUTH0_ORGANIZATION.",
			shown(t.claims["org_id"]), shown(t.claims["org_name"]), setting("ITM_TOKEN_SERVER_AUTH0_ORGANIZATION"))
	case Algorithm:
		return fmt.Sprintf("It is signed with %s.\nSet the signing algorithm of the API, or for an ID token of the application, to RS256 (manage.auth0.com, Applications).", shown(t.header["alg"]))
	}
	return "It is not what Auth0 issued: copy the token whole and unchanged. A terminal may cut a long line: use a pipe, like pbpaste | go run . check -"
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
