package check

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Expected is what the server accepts.
type Expected struct {
	Issuer        string
	Audiences     []string // any, if empty
	Scopes        []string
	Organizations []string
}

// An Advice is what to do about a refused user token.
type Advice int

const (
	None         Advice = iota // it is not the token's fault
	Damaged                    // not what Auth0 issued
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
func (t token) advice(a Advice, e Expected) string {
	now := time.Now().UTC().Format(time.RFC3339)
	switch a {
	case Client:
		return "The mistake is in the app: have it wait for its sign-in, and send Authorization: Bearer, a space and the token."
	case Opaque:
		return fmt.Sprintf("Auth0 issues an opaque token to an app that names no API (manage.auth0.com, Applications, APIs).\nHave the app request the audience %s when it signs the user in.",
			cmp.Or(strings.Join(e.Audiences, " or "), "of your API"))
	case Issuer:
		return fmt.Sprintf("Its issuer is %s, but the server accepts %s only.\nIf the first is your tenant or its custom domain, set ITM_TOKEN_SERVER_AUTH0_DOMAIN to it; otherwise have the app sign in at the second.",
			shown(t.claims["iss"]), e.Issuer)
	case Audience:
		return fmt.Sprintf("Its audience is %s, but the server accepts %s.\nHave the app send the right token (an access token's audience is the API that it requested, an ID token's the application), or add this one's to ITM_TOKEN_SERVER_AUTH0_AUDIENCE.",
			shown(t.audience()), strings.Join(e.Audiences, " or "))
	case Expired:
		return fmt.Sprintf("It expired at %s, and this machine's clock says %s.\nHave the app sign in again, or renew its token before it sends it.", t.time("exp"), now)
	case NotYet:
		return fmt.Sprintf("It is valid from %s, and this machine's clock says %s: set the clock.", max(t.time("nbf"), t.time("iat")), now)
	case UnknownKey:
		return fmt.Sprintf("The tenant publishes no key %s: it was revoked, or is of another tenant.\nHave the user sign in again.", shown(t.header["kid"]))
	case Scope:
		permissions, _ := t.claims["permissions"].([]any)
		return fmt.Sprintf("Its scope is %s and its permissions are %+q, but ITM_TOKEN_SERVER_AUTH0_REQUIRED_SCOPE is %q.\nHave the app request that scope when it signs the user in, and with RBAC give the user that permission (manage.auth0.com, User Management).",
			shown(t.claims["scope"]), permissions, strings.Join(e.Scopes, " "))
	case Organization:
		return fmt.Sprintf("Its org_id is %s and its org_name is %s, but the server accepts %s only.\nHave the app sign the user in with that organization, or add the token's to ITM_TOKEN_SERVER_AUTH0_ORGANIZATION.",
			shown(t.claims["org_id"]), shown(t.claims["org_name"]), strings.Join(e.Organizations, " or "))
	case Algorithm:
		return fmt.Sprintf("It is signed with %s.\nSet the signing algorithm of the API, or for an ID token of the application, to RS256 (manage.auth0.com, Applications).", shown(t.header["alg"]))
	}
	return "It is not what Auth0 issued: copy the token whole and unchanged."
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
