// Package doctor says, of a user's token that was refused, what to do about it
// and where. It reads the token without believing it.
package doctor

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"itwin-token-server/internal/logs"
)

// Wanted is what the server accepts.
type Wanted struct {
	Issuer    string
	Audiences []string
	Scopes    []string
}

// claims are what the advice looks at; any of them may be missing or false.
type claims struct {
	Issuer      string          `json:"iss"`
	Audience    json.RawMessage `json:"aud"`
	Expires     float64         `json:"exp"`
	NotBefore   float64         `json:"nbf"`
	IssuedAt    float64         `json:"iat"`
	Scope       *string         `json:"scope"`
	Permissions []string        `json:"permissions"`
}

// Advice is one sentence for the reason of a refusal. It quotes of the token
// only claims that name no person, and never the whole.
func Advice(reason, token string, want Wanted) string {
	header, c := read(token)
	switch reason {
	case "not_jwt":
		return "Auth0 gives an opaque token where the app asks for no audience: have the app request audience " + wantAudience(want) + " when it signs the user in."
	case "issuer":
		return fmt.Sprintf("The token is of %s, the server wants %s: set ITM_TOKEN_SERVER_AUTH0_DOMAIN to the domain that the app signs in at, which with a custom domain is the custom one.", quoted(c.Issuer), want.Issuer)
	case "audience":
		return adviseAudience(c, want)
	case "expired":
		return fmt.Sprintf("It expired at %s: have the app sign in again, or renew its token before it sends it.", at(c.Expires))
	case "not_yet":
		return fmt.Sprintf("It is valid from %s: set the clock of this machine, which says %s.", at(max(c.NotBefore, c.IssuedAt)), time.Now().UTC().Format(time.RFC3339))
	case "unknown_key":
		return fmt.Sprintf("Its key %s is not among those that the tenant publishes: the key was revoked, or the token is of a test or another tenant; have the user sign in again.", quoted(header.KeyID))
	case "scope":
		return fmt.Sprintf("It has %s, the server wants %q: in Auth0 grant the user that permission (APIs, your API, Permissions; RBAC on), and have the app request the scope.", grantedScopes(c), strings.Join(want.Scopes, " "))
	case "algorithm":
		return fmt.Sprintf("It is signed with %s: in Auth0 set the API's (or the application's) signing algorithm to RS256.", quoted(header.Algorithm))
	}
	return "It is not as Auth0 made it: send the token whole and unchanged, without quotes around it."
}

// adviseAudience tells the two mistakes apart: an ID token is made for the
// application, an access token for the API.
func adviseAudience(c claims, want Wanted) string {
	got := logs.Printable(string(c.Audience))
	if got == "" {
		got = "no audience"
	}
	if c.Scope == nil && len(c.Permissions) == 0 {
		return fmt.Sprintf("It looks like an ID token for the application %s, the server wants an audience of %s: have the app send its access token, or add the application's client ID to ITM_TOKEN_SERVER_AUTH0_AUDIENCE.", got, wantAudience(want))
	}
	return fmt.Sprintf("It looks like an access token for %s, the server wants an audience of %s: have the app send its ID token or request that audience, or add the API's identifier to ITM_TOKEN_SERVER_AUTH0_AUDIENCE.", got, wantAudience(want))
}

type header struct {
	Algorithm string `json:"alg"`
	KeyID     string `json:"kid"`
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

func wantAudience(want Wanted) string {
	if len(want.Audiences) == 0 {
		return "your API's identifier"
	}
	return strings.Join(want.Audiences, " or ")
}

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
	return `"` + strings.Trim(logs.Printable(text), `"`) + `"`
}

func at(seconds float64) string {
	if seconds < 0 || seconds > 1e11 {
		return "an impossible time"
	}
	return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339)
}
