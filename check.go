package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"itwin-token-server/internal/dotenv"
)

// maxPasted bounds what check reads of a user token, in bytes.
const maxPasted = 64 << 10

// runCheck diagnoses a set-up: the settings, Auth0's keys, a grant at IMS, and
// perhaps a user token. It writes neither a secret nor a whole token.
func runCheck(ctx context.Context, p program, args []string) error {
	token, err := pastedToken(args, p.stdin)
	if err != nil {
		return err
	}
	r := &report{w: p.stdout}
	c, found, err := loadConfig(p.environ, p.dir)
	if r.settings(found, err); err != nil {
		r.line("--", "Auth0 and IMS", "not asked: correct the settings first (go run . demo needs none)")
		return errReported
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	users := newVerifier(c, p.transport, nil)
	go users.keys.Run(ctx)
	r.upstream(ctx, c, users, p.transport)
	if token == "" {
		r.line("--", "a user token", "none given: go run . check TOKEN says whether the server would accept it")
	} else {
		r.userToken(ctx, c, users, token)
	}
	if r.failed {
		return errReported
	}
	return nil
}

// around is what people copy with a token: the header's name, the scheme, quotes,
// spaces, a newline.
var around = regexp.MustCompile(`(?i)^["'\s]*(authorization:\s*)?(bearer\s+)?["'\s]*|["'\s]+$`)

// pastedToken returns the user token that is the argument or, for "-", what stdin
// has. Without an argument it is empty.
func pastedToken(args []string, stdin io.Reader) (string, error) {
	if len(args) == 0 {
		return "", nil
	}
	if len(args) > 1 {
		return "", fmt.Errorf("%w: check takes one user token, or - to read it from standard input", errUsage)
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

// A report has a line for each finding.
type report struct {
	w      io.Writer
	failed bool // a finding was "no"
}

// line writes a finding: "ok", "no", "!!" for a warning, or "--" for what was left out.
func (r *report) line(mark, what, format string, args ...any) {
	r.failed = r.failed || mark == "no"
	finding := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "\n"+strings.Repeat(" ", 20))
	fmt.Fprintf(r.w, "%s  %-14s  %s\n", mark, what, finding)
}

// settings writes where each setting comes from, and what is wrong with them.
func (r *report) settings(found *dotenv.Findings, err error) {
	for _, s := range found.Settings {
		source := ""
		if s.Source != "" {
			source = " (" + s.Source + ")"
		}
		fmt.Fprintf(r.w, "    %-37s  %s%s\n", s.Name, s.Shown, source)
	}
	fmt.Fprintln(r.w)
	if err != nil {
		r.line("no", "settings", "%v", err)
	} else {
		r.line("ok", "settings", "complete")
	}
	for _, warning := range found.Warnings {
		r.line("!!", "settings", "%s", warning)
	}
}

// upstream waits for Auth0's keys, makes a grant at IMS, and writes how both ended.
func (r *report) upstream(ctx context.Context, c config, users *verifier, transport http.RoundTripper) {
	_, errKeys := users.keys.Get(ctx)
	if errKeys == nil {
		r.line("ok", "Auth0's keys", "fetched from %s", c.issuer())
	} else {
		r.line("no", "Auth0's keys", "%v.\nThe host is that of %sAUTH0_DOMAIN: it should be the Domain on your application's page (manage.auth0.com, Applications).", errKeys, prefix)
	}
	_, lifetime, errGrant := grant(ctx, c, transport)
	switch p := problemOf(errGrant); {
	case errGrant == nil:
		r.line("ok", "a grant at IMS", "an iTwin token that lives %v", lifetime)
	case p == errUnreachable, p == errSlow:
		r.line("no", "a grant at IMS", "%v.\nThe host is that of %sAUTHORITY: Bentley's is https://ims.bentley.com.", errGrant, prefix)
	default: // the error names the setting
		r.line("no", "a grant at IMS", "%v.", errGrant)
	}
	if problemOf(errKeys) == errUnreachable && problemOf(errGrant) == errUnreachable {
		r.line("!!", "network", "neither host can be reached: this machine's network may be down")
	}
}

// userToken writes whether the server would accept a user token, and if not why.
func (r *report) userToken(ctx context.Context, c config, users *verifier, raw string) {
	bearer, err := bearerToken(http.Header{"Authorization": {"Bearer " + raw}})
	if err == nil {
		_, err = users.verify(ctx, bearer)
	}
	if err == nil {
		r.line("ok", "a user token", "would be accepted")
		return
	}
	p := problemOf(err)
	header, claims := parseUnverified(raw)
	if issuer, _ := claims["iss"].(string); p == errNoKeys && issuer != "" && issuer != c.issuer() {
		p = errIssuer // which may be why there are no keys
	}
	if strings.HasPrefix(raw, "eyJ") && strings.Count(raw, ".") < 2 { // {" in Base64
		p = errMalformed // not opaque, but without its end
	}
	if p.status == http.StatusServiceUnavailable {
		r.line("no", "a user token", "not checked: %v.", p)
		return
	}
	r.line("no", "a user token", "would be refused: %v.\n%s", p, c.advice(p, header, claims))
}

// parseUnverified reads what it can of a token; the rest is empty.
func parseUnverified(raw string) (header map[string]any, claims jwt.MapClaims) {
	claims = jwt.MapClaims{}
	if token, _, _ := jwt.NewParser().ParseUnverified(raw, claims); token != nil {
		header = token.Header
	}
	return header, claims
}

// advice says what to do about a refused token, and where. It quotes only claims
// that name no person.
func (c *config) advice(p problem, header map[string]any, claims jwt.MapClaims) string {
	now := time.Now().UTC().Format(time.RFC3339)
	audiences := strings.Join(c.Audiences, " or ")
	switch p {
	case errNoUserToken, errTwoSchemes:
		return "The mistake is in the app: have it wait for its sign-in, and send Authorization: Bearer, a space and the token."
	case errNotJWT:
		return fmt.Sprintf("Auth0 issues an opaque token to an app that names no API (manage.auth0.com, Applications, APIs).\nHave the app request the audience %s when it signs the user in.",
			cmp.Or(audiences, "of your API"))
	case errIssuer:
		return fmt.Sprintf("Its issuer is %s, but the server accepts %s only.\nIf the first is your tenant or its custom domain, set %sAUTH0_DOMAIN to it; otherwise have the app sign in at the second.",
			shown(claims["iss"]), c.issuer(), prefix)
	case errAudience:
		return fmt.Sprintf("Its audience is %s, but the server accepts %s.\nHave the app send the right token (an access token's audience is the API that it requested, an ID token's the application), or add this one's to %sAUTH0_AUDIENCE.",
			shown(c.audience(claims)), audiences, prefix)
	case errExpired:
		return fmt.Sprintf("It expired at %s, and this machine's clock says %s.\nHave the app sign in again, or renew its token before it sends it.", timeOf(claims["exp"]), now)
	case errNotYet:
		return fmt.Sprintf("It is valid from %s, and this machine's clock says %s: set the clock.", max(timeOf(claims["nbf"]), timeOf(claims["iat"])), now)
	case errUnknownKey:
		return fmt.Sprintf("The tenant publishes no key %s: it was revoked, or is of another tenant.\nHave the user sign in again.", shown(header["kid"]))
	case errScope:
		permissions, _ := claims["permissions"].([]any)
		return fmt.Sprintf("Its scope is %s and its permissions are %+q, but %sAUTH0_REQUIRED_SCOPE is %q.\nHave the app request that scope when it signs the user in, and with RBAC give the user that permission (manage.auth0.com, User Management).",
			shown(claims["scope"]), permissions, prefix, strings.Join(c.RequiredScopes, " "))
	case errOrganization:
		return fmt.Sprintf("Its org_id is %s and its org_name is %s, but the server accepts %s only.\nHave the app sign the user in with that organization, or add the token's to %sAUTH0_ORGANIZATION.",
			shown(claims["org_id"]), shown(claims["org_name"]), strings.Join(c.Organizations, " or "), prefix)
	case errAlgorithm:
		return fmt.Sprintf("It is signed with %s.\nSet the signing algorithm of the API, or for an ID token of the application, to RS256 (manage.auth0.com, Applications).", shown(header["alg"]))
	}
	return "It is not what Auth0 issued: copy the token whole and unchanged."
}

// audience leaves out userinfo, which every access token with openid has too.
func (c *config) audience(claims jwt.MapClaims) string {
	all, _ := claims.GetAudience()
	all = slices.DeleteFunc(all, func(name string) bool { return name == c.issuer()+"userinfo" })
	return strings.Join(all, ",") // as in the setting
}

// shown is a caller's text in quotes, in printable ASCII and not long.
func shown(claim any) string {
	text, _ := claim.(string)
	if text == "" {
		return "missing"
	}
	return fmt.Sprintf("%+.128q", text)
}

// timeOf is a time in a token, which is valid if there is one.
func timeOf(claim any) string {
	seconds, _ := claim.(float64)
	return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
}
