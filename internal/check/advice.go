package check

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"itwin-token-server/internal/dotenv"
	"itwin-token-server/internal/telemetry"
)

// Expected is what the server accepts.
type Expected struct {
	Issuer        string
	Audiences     []string // any, if empty
	Scopes        []string
	Organizations []string
}

// A Token is a user token that was refused: nothing in it is verified.
type Token struct {
	header map[string]any
	claims jwt.MapClaims
}

// An Advice says in one sentence what to do about a refusal, and where. It quotes
// only claims that name no person, and never the whole token.
type Advice func(Token, Expected) string

// parse reads what it can of a token; the rest is empty.
func parse(raw string) Token {
	claims := jwt.MapClaims{}
	token, _, _ := jwt.NewParser().ParseUnverified(raw, claims)
	if token == nil {
		return Token{claims: claims}
	}
	return Token{token.Header, claims}
}

// Damaged is the advice if there is no better one.
func Damaged(Token, Expected) string {
	return "It is not what Auth0 issued: copy the token whole and unchanged."
}

// Client is the advice if the app sent no token at all.
func Client(Token, Expected) string {
	return "The mistake is in the app: have it wait for its sign-in, and send Authorization: Bearer, a space and the token."
}

// Opaque is the advice for a token that is not a JWT.
func Opaque(_ Token, e Expected) string {
	audience := "an audience, the identifier of your API,"
	if len(e.Audiences) > 0 {
		audience = "the audience " + strings.Join(e.Audiences, " or ")
	}
	return fmt.Sprintf("Auth0 issues an opaque access token to an app that names no API: have the app request %s when it signs the user in (manage.auth0.com, Applications, APIs).", audience)
}

// Issuer is the advice for a token of another tenant.
func Issuer(t Token, e Expected) string {
	issuer := t.text("iss")
	domain, ok := dotenv.Domain(issuer)
	if !ok {
		return fmt.Sprintf("Its issuer is %s, but the server accepts %s only: have the app send the token that Auth0 issued.", quoted(issuer), e.Issuer)
	}
	return fmt.Sprintf("The app signs in at https://%s/, but the server accepts %s only: if the first is your tenant or its custom domain, set ITM_TOKEN_SERVER_AUTH0_DOMAIN to %[1]s, otherwise point the app to the second.", domain, e.Issuer)
}

// Audience is the advice for a token that is for another API or application. An
// ID token is for the application, an access token for the API.
func Audience(t Token, e Expected) string {
	got, want := t.audience(), strings.Join(e.Audiences, " or ")
	instead := "request the audience " + want + " when it signs the user in"
	typ, _ := t.header["typ"].(string)
	switch {
	case got == "":
		return fmt.Sprintf("It has no audience: have the app %s.", instead)
	case t.claims["scope"] == nil && t.claims["permissions"] == nil && !strings.EqualFold(typ, "at+jwt"):
		return fmt.Sprintf("It is an ID token for the application %s, but the server accepts %s: add %[1]s to ITM_TOKEN_SERVER_AUTH0_AUDIENCE, or have the app send its access token instead.", got, want)
	case slices.Contains(e.Audiences, t.text("azp")): // the application that signed the user in
		instead = "send its ID token instead"
	}
	return fmt.Sprintf("It is an access token for the API %s, but the server accepts %s: add %[1]s to ITM_TOKEN_SERVER_AUTH0_AUDIENCE, or have the app %[3]s.", got, want, instead)
}

// audience leaves out userinfo, which every access token with openid has too.
func (t Token) audience() string {
	all, _ := t.claims.GetAudience()
	var names []string
	for _, name := range all {
		if name != t.text("iss")+"userinfo" || len(all) == 1 {
			names = append(names, telemetry.Printable(name))
		}
	}
	return strings.Join(names, ",") // as in the setting
}

// Expired is the advice for a token past its exp.
func Expired(t Token, _ Expected) string {
	return fmt.Sprintf("It expired at %s, and this machine's clock says %s: have the app sign in again, or renew its token before it sends it.", t.time("exp"), now())
}

// NotYet is the advice for a token before its nbf or iat.
func NotYet(t Token, _ Expected) string {
	return fmt.Sprintf("It is valid from %s, and this machine's clock says %s: set the clock.", max(t.time("nbf"), t.time("iat")), now())
}

// UnknownKey is the advice for a kid that the tenant does not publish.
func UnknownKey(t Token, _ Expected) string {
	kid, _ := t.header["kid"].(string)
	return fmt.Sprintf("The tenant publishes no key %s: the key was revoked, or the token was not issued by this tenant: have the user sign in again.", quoted(kid))
}

// Scope is the advice for a missing scope.
func Scope(t Token, e Expected) string {
	granted := t.text("scope")
	permissions, _ := t.claims["permissions"].([]any)
	for _, permission := range permissions {
		granted += fmt.Sprintf(" %v", permission)
	}
	return fmt.Sprintf("Its scope is %s, but the server requires %q (ITM_TOKEN_SERVER_AUTH0_REQUIRED_SCOPE): have the app request that scope when it signs the user in, and with RBAC give the user that permission (manage.auth0.com, User Management, Users, Permissions).",
		quoted(strings.TrimSpace(granted)), strings.Join(e.Scopes, " "))
}

// Organization is the advice for another Auth0 Organization, or none.
func Organization(t Token, e Expected) string {
	return fmt.Sprintf("Its org_id is %s and its org_name is %s, but the server accepts %s only (ITM_TOKEN_SERVER_AUTH0_ORGANIZATION): have the app sign the user in with that organization, or add the token's to the setting.",
		quoted(t.text("org_id")), quoted(t.text("org_name")), strings.Join(e.Organizations, " or "))
}

// Algorithm is the advice for a token that is not signed with RS256.
func Algorithm(t Token, _ Expected) string {
	alg, _ := t.header["alg"].(string)
	return fmt.Sprintf("It is signed with %s: set the signing algorithm of the API, or for an ID token of the application, to RS256 (manage.auth0.com, Applications).", quoted(alg))
}

// text is a claim that is a string, else empty.
func (t Token) text(claim string) string {
	text, _ := t.claims[claim].(string)
	return text
}

func (t Token) time(claim string) string {
	seconds, _ := t.claims[claim].(float64)
	if seconds < 0 || seconds > 1e11 {
		return "an impossible time"
	}
	return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
}

func now() string { return time.Now().UTC().Format(time.RFC3339) }

func quoted(text string) string {
	if text == "" {
		return "missing"
	}
	return `"` + strings.Trim(telemetry.Printable(text), `"`) + `"`
}
