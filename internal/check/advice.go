// Package doctor says, of a user's token that was refused, what to do about it
// and where. It reads the token without believing it.
package check

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"itwin-token-server/internal/dotenv"
	"itwin-token-server/internal/telemetry"
)

// Wanted is what the server accepts.
type Wanted struct {
	Issuer    string
	Audiences []string
	Scopes    []string
}

// claims are what the advice looks at; any of them may be missing or false.
type claims struct {
	Issuer      string    `json:"iss"`
	Audience    audiences `json:"aud"`
	Client      string    `json:"azp"` // the application that signed the user in
	Expires     float64   `json:"exp"`
	NotBefore   float64   `json:"nbf"`
	IssuedAt    float64   `json:"iat"`
	Scope       *string   `json:"scope"`
	Permissions []string  `json:"permissions"`
}

// audiences is a string or a list of them (RFC 7519 §4.1.3).
type audiences []string

func (a *audiences) UnmarshalJSON(text []byte) error {
	var one string
	if json.Unmarshal(text, &one) == nil {
		*a = audiences{one}
		return nil
	}
	return json.Unmarshal(text, (*[]string)(a))
}

// Advice is one sentence for the reason of a refusal: what to do, and where. It
// quotes of the token only claims that name no person, and never the whole.
func Advice(reason, token string, want Wanted) string {
	header, c := read(token)
	switch reason {
	case "not_jwt":
		return adviseOpaque(want)
	case "issuer":
		return adviseIssuer(c, want)
	case "audience":
		return adviseAudience(header, c, want)
	case "expired":
		return fmt.Sprintf("It expired at %s, and this machine's clock says %s: have the app sign in again, or renew its token before it sends it.", at(c.Expires), now())
	case "not_yet":
		return fmt.Sprintf("It is valid from %s, and this machine's clock says %s: set the clock.", at(max(c.NotBefore, c.IssuedAt)), now())
	case "unknown_key":
		return fmt.Sprintf("The tenant publishes no key %s, so that key was revoked, or the token was not made by this tenant: have the user sign in again.", quoted(header.KeyID))
	case "scope":
		return fmt.Sprintf("It has %s, but the server wants %q (ITM_TOKEN_SERVER_AUTH0_REQUIRED_SCOPE): have the app request that scope when it signs the user in, and with RBAC give the user that permission (manage.auth0.com, User Management, Users, Permissions).", grantedScopes(c), strings.Join(want.Scopes, " "))
	case "algorithm":
		return fmt.Sprintf("It is signed with %s: set the signing algorithm of the API, or for an ID token of the application, to RS256 (manage.auth0.com, Applications).", quoted(header.Algorithm))
	}
	return "It is not as Auth0 made it: copy the token whole and unchanged."
}

// cut reports whether a token is a JWT without its end. Such a one is not opaque.
func cut(token string) bool {
	return strings.HasPrefix(token, "eyJ") && strings.Count(token, ".") < 2 // {" in base64
}

func adviseOpaque(want Wanted) string {
	audience := "an audience, the identifier of your API,"
	if len(want.Audiences) > 0 {
		audience = "the audience " + wantAudience(want)
	}
	return fmt.Sprintf("Auth0 gives an opaque access token to an app that names no API: have the app pass %s when it signs the user in (manage.auth0.com, Applications, APIs).", audience)
}

// adviseIssuer names the setting's value where the token tells it.
func adviseIssuer(c claims, want Wanted) string {
	domain, ok := dotenv.Domain(c.Issuer)
	if !ok {
		return fmt.Sprintf("It names the issuer %s, but the server accepts %s only: have the app send the token that Auth0 gave it.", quoted(c.Issuer), want.Issuer)
	}
	return fmt.Sprintf("The app signs in at https://%s/, but the server accepts %s only: if the first is your tenant or its custom domain, set ITM_TOKEN_SERVER_AUTH0_DOMAIN to %[1]s, or else point the app to the second.", domain, want.Issuer)
}

// adviseAudience tells the two mistakes apart: an ID token is made for the
// application, an access token for the API.
func adviseAudience(h header, c claims, want Wanted) string {
	got, wanted := audienceOf(c), wantAudience(want)
	instead := "request the audience " + wanted + " when it signs the user in"
	switch {
	case got == "":
		return fmt.Sprintf("It names no audience: have the app %s.", instead)
	case c.Scope == nil && len(c.Permissions) == 0 && !strings.EqualFold(h.Type, "at+jwt"):
		return fmt.Sprintf("It is an ID token for the application %s, but the server accepts %s: add %[1]s to ITM_TOKEN_SERVER_AUTH0_AUDIENCE, or have the app send its access token instead.", got, wanted)
	case slices.Contains(want.Audiences, c.Client):
		instead = "send its ID token instead"
	}
	return fmt.Sprintf("It is an access token for the API %s, but the server accepts %s: add %[1]s to ITM_TOKEN_SERVER_AUTH0_AUDIENCE, or have the app %[3]s.", got, wanted, instead)
}

// audienceOf leaves out what every access token with openid is for as well.
func audienceOf(c claims) string {
	var names []string
	for _, name := range c.Audience {
		if name != c.Issuer+"userinfo" || len(c.Audience) == 1 {
			names = append(names, telemetry.Printable(name))
		}
	}
	return strings.Join(names, ",") // as the setting wants it
}

type header struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
	Type      string `json:"typ"`
}

// read takes what it can of a token; what it cannot stays empty.
func read(token string) (h header, c claims) {
	parts := strings.Split(token, ".")
	if len(parts) == 3 {
		decode(parts[0], &h)
		decode(parts[1], &c)
	}
	return h, c
}

func decode(part string, into any) {
	if text, err := base64.RawURLEncoding.DecodeString(part); err == nil {
		json.Unmarshal(text, into)
	}
}

func wantAudience(want Wanted) string { return strings.Join(want.Audiences, " or ") }

func grantedScopes(c claims) string {
	scopes := strings.Join(c.Permissions, " ")
	if c.Scope != nil {
		scopes = strings.TrimSpace(*c.Scope + " " + scopes)
	}
	if scopes == "" {
		return "no scope"
	}
	return "the scope " + quoted(scopes)
}

func quoted(text string) string {
	if text == "" {
		return "none"
	}
	return `"` + strings.Trim(telemetry.Printable(text), `"`) + `"`
}

func now() string { return time.Now().UTC().Format(time.RFC3339) }

func at(seconds float64) string {
	if seconds < 0 || seconds > 1e11 {
		return "an impossible time"
	}
	return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
}
