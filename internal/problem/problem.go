// Package problem is the table of all answers other than 200 to a request for a token.
//
// Adding a problem is adding a row. The answers, the log, the metrics and the check command
// read this table.
package problem

import "slices"

// A Problem is an answer other than 200. It is also an error: what refuses a request returns
// it.
type Problem struct {
	Status int
	Code   string // for the caller: of RFC 6750 §3.1 where it has one
	Reason string // for the log and the metrics: one of a fixed set of words

	// Text is for the caller. It is a fixed text, so that it never contains what a caller
	// sent, and it has no " and no \, since WWW-Authenticate quotes it.
	Text string

	Advice string // for the check command, which fills in the words in braces
}

// Error returns the text for the caller.
func (p *Problem) Error() string { return p.Text }

// All returns every problem, in the order of the table.
func All() []*Problem { return slices.Clone(table) }

// table has every problem that add has made.
var table []*Problem

func add(status int, code, reason, text, advice string) *Problem {
	p := &Problem{status, code, reason, text, advice}
	table = append(table, p)
	return p
}

// MissingToken is the code if there was no bearer token. RFC 6750 §3 has none for it.
const MissingToken = "missing_token"

// Advice that several rows share.
const (
	copyWhole = "It is not what Auth0 issued: copy the token whole and unchanged. " +
		"A terminal may cut a long line: use a pipe, like pbpaste | {program} check -"
	fixApp = "The mistake is in the app: have it wait for its sign-in, " +
		"and send Authorization: Bearer, a space and the token, with nothing around it."
	checkAgain = "That says nothing about the token: check it again when Auth0 can be reached."
)

// The table of problems. Those of status 400, 401 and 403 concern the user token.
var (
	NoToken      = add(401, MissingToken, "no_token", "send the user's Auth0 token as Authorization: Bearer <token>", fixApp)
	OtherScheme  = add(401, MissingToken, "other_scheme", "the header has no scheme, or another than Bearer, like Basic or DPoP: send Authorization: Bearer <token>", fixApp)
	TwoHeaders   = add(400, "invalid_request", "two_headers", "send one Authorization header", fixApp)
	EmptyValue   = add(401, "invalid_token", "empty_value", "the token is undefined, null or the like: the app had no user token yet when it called", fixApp)
	TwoSchemes   = add(401, "invalid_token", "two_schemes", "the header has Bearer twice: the app adds it to a value that begins with it", fixApp)
	Quoted       = add(401, "invalid_token", "quoted", "the token is in quotes: send it without them", fixApp)
	Template     = add(401, "invalid_token", "template", "a template was not filled in: send the token instead of a word like {{token}}, $TOKEN, <token> or Optional(...)", fixApp)
	TwoTokens    = add(401, "invalid_token", "two_tokens", "the header has several tokens, or a space within one: send one token", fixApp)
	TooLong      = add(401, "invalid_token", "too_long", "the token is longer than 8 KiB, or has too much in it", "It is not a token of Auth0's, or has too many claims or permissions: have Auth0 add fewer of them.")
	NotJWT       = add(401, "invalid_token", "not_jwt", "the token is not a JWT: request an audience in Auth0", "Auth0 issues an opaque token to an app that names no API (manage.auth0.com, Applications, APIs).\nHave the app request the audience of your API when it signs the user in (ITM_TOKEN_SERVER_AUTH0_AUDIENCE is {ITM_TOKEN_SERVER_AUTH0_AUDIENCE}).")
	Encrypted    = add(401, "invalid_token", "encrypted", "the token is encrypted (JWE): turn off encryption for this API in Auth0", "Turn off JSON Web Encryption (JWE) in the API's Token Settings (manage.auth0.com, Applications, APIs), and have the user sign in again.")
	Malformed    = add(401, "invalid_token", "malformed", "the token is not a well-formed JWT", copyWhole)
	Algorithm    = add(401, "invalid_token", "algorithm", "the token is not signed with RS256", "It is signed with {alg}.\nSet the signing algorithm of the API, or for an ID token of the application, to RS256 (manage.auth0.com, Applications).")
	Type         = add(401, "invalid_token", "type", "the token's typ is neither JWT nor at+jwt", copyWhole)
	NoKeyID      = add(401, "invalid_token", "no_kid", "the token names no signing key (kid)", copyWhole)
	Issuer       = add(401, "invalid_token", "issuer", "wrong issuer: the token is not of this server's Auth0 tenant", "{kind}Its issuer is {iss}, but the server accepts {issuer} only.\nIf the first is your tenant or its custom domain, set ITM_TOKEN_SERVER_AUTH0_DOMAIN to it; otherwise have the app sign in at the second.")
	Audience     = add(401, "invalid_token", "audience", "wrong audience: the token is for another API or application", "{kind}Its audience is {aud}, but the server accepts {ITM_TOKEN_SERVER_AUTH0_AUDIENCE}.\nHave the app send the right token (an access token's audience is the API that it requested, an ID token's the application), or add this one's to ITM_TOKEN_SERVER_AUTH0_AUDIENCE.")
	Expired      = add(401, "invalid_token", "expired", "expired", "It expired at {exp}, and this machine's clock says {now}.\nHave the app sign in again, or renew its token before it sends it.")
	NoExpiry     = add(401, "invalid_token", "no_exp", "the token has no expiry (exp)", copyWhole)
	NotYet       = add(401, "invalid_token", "not_yet", "not valid yet", "Its nbf is {nbf} and its iat is {iat}, but this machine's clock says {now}: set the clock.")
	Claims       = add(401, "invalid_token", "claims", "a claim of the token has the wrong type or an impossible value", copyWhole)
	UnknownKey   = add(401, "invalid_token", "unknown_key", "signed with a key that this server's Auth0 tenant does not publish", "The tenant publishes no key {kid}: it was revoked, or is of another tenant.\nHave the user sign in again.")
	Signature    = add(401, "invalid_token", "signature", "the signature does not verify", copyWhole)
	Scope        = add(403, "insufficient_scope", "scope", "a required scope is missing", "{kind}Its scope is {scope} and its permissions are {permissions}, but ITM_TOKEN_SERVER_AUTH0_REQUIRED_SCOPE is {ITM_TOKEN_SERVER_AUTH0_REQUIRED_SCOPE}.\nHave the app request that scope when it signs the user in, and with RBAC give the user that permission (manage.auth0.com, User Management).")
	Organization = add(403, "insufficient_scope", "organization", "the token is not for an accepted Auth0 Organization", "Its org_id is {org_id} and its org_name is {org_name}, but the server accepts {ITM_TOKEN_SERVER_AUTH0_ORGANIZATION} only.\nHave the app sign the user in with that organization, or add the token's to ITM_TOKEN_SERVER_AUTH0_ORGANIZATION.")
	NoKeys       = add(503, "temporarily_unavailable", "no_keys", "Auth0's keys are not available: try again", checkAgain)
	KeysOutdated = add(503, "temporarily_unavailable", "keys_outdated", "the token's key is new, and Auth0's current keys are not available: try again", checkAgain)

	// The check command never meets the following, so they have no advice.
	Canceled    = add(503, "temporarily_unavailable", "canceled", "interrupted: try again", "") // reaches a caller only during shutdown
	Slow        = add(504, "temporarily_unavailable", "itwin_slow", "iTwin is too slow: try again", "")
	Unreachable = add(503, "temporarily_unavailable", "itwin_unreachable", "iTwin cannot be reached: try again", "")
	Throttled   = add(502, "temporarily_unavailable", "itwin_throttled", "iTwin asked this server to wait: try again later", "")
	Refused     = add(502, "temporarily_unavailable", "itwin_refused", "iTwin issued no token: try again, and see the server's log", "")
	Method      = add(405, "method_not_allowed", "method", "use GET", "")
	NotFound    = add(404, "not_found", "path", "not found: the token is at /getToken", "")
)
