package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"itwin-token-server/internal/bearer"
	"itwin-token-server/internal/fresh"
	"itwin-token-server/internal/jwks"
	"itwin-token-server/internal/problem"
	"itwin-token-server/internal/telemetry"
)

const (
	leeway = 30 * time.Second // between Auth0's clock and ours

	// Keys are fetched every keysRenew, so that a revoked key is refused within
	// minutes, and used for at most keysExpiry, so that users stay signed in when
	// Auth0 is down for a day.
	keysRenew  = 5 * time.Minute
	keysExpiry = 24 * time.Hour

	// keysMaxBackoff is the longest back-off while there are no keys: even after a fetch
	// that hung for 10 s, they are back within 15 s of Auth0's return.
	keysMaxBackoff = 4 * time.Second

	unknownKeyTimeout = 3 * time.Second // of a request that waits for newer keys

	// maxTime bounds the times in a token, in seconds. Larger numbers are not exact
	// in JSON (RFC 8259 §6), and a clock cannot hold them.
	maxTime = 1 << 53

	// jwt decodes header and claims before it verifies the signature. With these
	// bounds a request that is refused costs at most six times one that is accepted.
	maxHeader = 512 // bytes; Auth0 sends a hundred
	maxValues = 400 // in the claims, as countValues counts them
)

// A verifier checks user tokens of one Auth0 tenant.
type verifier struct {
	keys          *fresh.Value[*jwks.Set]
	parser        *jwt.Parser
	issuer        string
	scopes        []string // required
	organizations []string // allowed; none: any
}

// newVerifier returns a verifier with the settings of c. It fetches keys while
// keys.Run runs; report is called after each fetch.
func newVerifier(
	c config, transport http.RoundTripper, report func(time.Duration, error),
) *verifier {
	v := &verifier{
		parser: jwt.NewParser(
			// The algorithm is ours to choose, never the token's (RFC 8725 §3.1).
			jwt.WithValidMethods([]string{jwt.SigningMethodRS256.Alg()}),
			jwt.WithStrictDecoding(),
			jwt.WithJSONNumber(), // converting a number such as 9e-323 takes 30 µs
			jwt.WithIssuer(c.issuer()),
			jwt.WithExpirationRequired(),
			jwt.WithIssuedAt(),
			jwt.WithLeeway(leeway),
			jwt.WithAudience(c.Audiences...), // none: any
		),
		issuer:        c.issuer(),
		scopes:        c.RequiredScopes,
		organizations: c.Organizations,
	}
	v.keys = fresh.New(fresh.Config[*jwks.Set]{
		Fetch: func(ctx context.Context) (*jwks.Set, fresh.Term, error) {
			keys, err := jwks.Fetch(ctx, transport, c.Domain, v.keys.Last())
			return keys, fresh.Term{Renew: keysRenew, Until: keysExpiry}, err
		},
		Report:     report,
		MaxBackoff: keysMaxBackoff,
	})
	return v
}

// authorize verifies the user token in the Authorization header and returns its subject.
func (v *verifier) authorize(ctx context.Context, header []string) (subject string, err error) {
	raw, err := bearer.Token(header)
	if err != nil {
		return "", err
	}
	return v.verify(ctx, raw)
}

// verify checks a user token and returns its subject, as the log may show it. If there are
// no keys it waits for a fetch in progress, and if the token's key is unknown, for newer keys,
// at most unknownKeyTimeout; in both cases only until ctx ends. Every error is a
// [*problem.Problem] or wraps one. It also returns the subject if the problem's status is 403.
func (v *verifier) verify(ctx context.Context, raw string) (subject string, err error) {
	keys, err := v.keys.Get(ctx)
	if err != nil {
		return "", fmt.Errorf("%w: %w", problem.NoKeys, err)
	}
	hash := sha256.Sum256([]byte(raw))
	if subject, ok := keys.Verified.Get(hash); ok {
		return subject, nil
	}
	kid, err := checkHeader(raw)
	if err != nil {
		return "", err
	}
	if !keys.Has(kid) {
		waiting, cancel := context.WithTimeout(ctx, unknownKeyTimeout)
		defer cancel()
		keys, err = v.keys.Newer(waiting)
		if err != nil {
			return "", fmt.Errorf("%w: %w", problem.KeysOutdated, err)
		}
	}
	claims, err := v.parse(raw, keys.Keyfunc)
	if err != nil {
		return "", err
	}
	sub, _ := claims["sub"].(string)
	subject = telemetry.Subject(sub)
	if !v.allowsOrganization(claims) {
		return subject, problem.Organization
	}
	if !v.hasScopes(claims) {
		return subject, problem.Scope
	}
	expiry, _ := claims.GetExpirationTime() // there is one: parse requires it
	keys.Verified.Put(hash, subject, expiry.Time)
	return subject, nil
}

// opaque matches the opaque tokens of older tenants. Those of newer ones are JWE with the
// algorithm dir, which only Auth0 can decrypt.
var opaque = regexp.MustCompile(`^[A-Za-z0-9_-]{32}$`)

// checkHeader checks all that needs no key: that the token is a JWT, that jwt can decode it
// at little cost, and its header. All values there must be strings, or null, which counts as
// empty. It returns the ID of the key. The header's jwk, jku, x5u and x5c are never looked at
// (RFC 8725 §3.1).
func checkHeader(raw string) (kid string, err error) {
	dots := strings.Count(raw, ".")
	if dots == 0 && opaque.MatchString(raw) {
		return "", problem.NotJWT
	}
	first, rest, _ := strings.Cut(raw, ".")
	second, _, _ := strings.Cut(rest, ".")
	// After an error, text is the part before it; jwt refuses such a token later, in parse.
	text, _ := base64.RawURLEncoding.DecodeString(first)
	if len(text) > maxHeader || countValues(second) > maxValues {
		return "", problem.TooLong
	}
	var header map[string]string
	if json.Unmarshal(text, &header) != nil {
		return "", problem.Malformed
	}
	typ, typed := header["typ"]
	_, critical := header["crit"] // no extension is supported (RFC 7515 §4.1.11)
	switch {
	case dots == 4 && header["alg"] == "dir": // opaque too
		return "", problem.NotJWT
	case dots == 4: // RFC 7516 §7.1
		return "", problem.Encrypted
	case dots != 2, critical:
		return "", problem.Malformed
	case header["alg"] != jwt.SigningMethodRS256.Alg():
		return "", problem.Algorithm
	case typed && !isJWT(typ):
		return "", problem.Type
	case header["kid"] == "": // keyfunc would try every key
		return "", problem.NoKeyID
	}
	return header["kid"], nil
}

// isJWT reports whether a typ is that of a JWT or of an access token (RFC 9068 §2.1). A
// media type is case-insensitive, and may leave out application/ (RFC 7515 §4.1.9).
func isJWT(typ string) bool {
	typ = strings.TrimPrefix(strings.ToLower(typ), "application/")
	return typ == "jwt" || typ == "at+jwt"
}

// countValues returns how many values the claims, in base64url, can have: each follows a
// comma, an opening bracket or an opening brace.
func countValues(claims string) int {
	text, _ := base64.RawURLEncoding.DecodeString(claims)
	return bytes.Count(text, []byte(",")) + bytes.Count(text, []byte("[")) +
		bytes.Count(text, []byte("{"))
}

// parse lets jwt verify the signature and the registered claims, and returns the claims.
// It turns jwt's errors into problems, since they contain parts of the token. Of several
// problems it returns the one that explains the others: a token of another tenant is not
// just expired, and its key is unknown here.
func (v *verifier) parse(raw string, key jwt.Keyfunc) (jwt.MapClaims, error) {
	// Not a struct: encoding/json ignores case when it matches field names.
	claims := jwt.MapClaims{}
	_, err := v.parser.ParseWithClaims(raw, claims, key)
	// jwt fills claims before it verifies anything: after an error they are not to be trusted.
	switch {
	case errors.Is(err, jwt.ErrTokenMalformed):
		return nil, problem.Malformed
	case errors.Is(err, jwt.ErrTokenSignatureInvalid):
		return nil, problem.Signature
	case claims["iss"] != v.issuer:
		return nil, problem.Issuer
	case errors.Is(err, keyfunc.ErrKeyfunc):
		return nil, problem.UnknownKey
	case !inRange(claims["exp"]), !inRange(claims["nbf"]), !inRange(claims["iat"]):
		return nil, problem.Claims
	case claims["exp"] == nil:
		return nil, problem.NoExpiry
	case errors.Is(err, jwt.ErrTokenExpired):
		return nil, problem.Expired
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return nil, problem.NotYet
	case errors.Is(err, jwt.ErrTokenInvalidAudience),
		errors.Is(err, jwt.ErrTokenRequiredClaimMissing):
		// The missing one is aud: iss and exp were checked above.
		return nil, problem.Audience
	case err != nil: // for example a time that is no number
		return nil, problem.Claims
	}
	return claims, nil
}

// inRange reports whether a time, if there is one, is within what a clock can hold.
func inRange(claim any) bool {
	number, _ := claim.(json.Number)
	seconds, _ := number.Float64() // infinite for 1e400
	return math.Abs(seconds) <= maxTime
}

// allowsOrganization compares org_id exactly and org_name in lower case, as Auth0's
// SDKs do. What is allowed is an ID if it begins with org_, and a name otherwise.
func (v *verifier) allowsOrganization(claims jwt.MapClaims) bool {
	id, _ := claims["org_id"].(string)
	name, _ := claims["org_name"].(string)
	name = strings.ToLower(name)
	return len(v.organizations) == 0 ||
		strings.HasPrefix(id, "org_") && slices.Contains(v.organizations, id) ||
		!strings.HasPrefix(name, "org_") && slices.Contains(v.organizations, name)
}

// hasScopes looks for each required scope in the token's scope (RFC 8693 §4.2) and in
// the permissions that Auth0 adds with RBAC.
func (v *verifier) hasScopes(claims jwt.MapClaims) bool {
	scope, _ := claims["scope"].(string)
	permissions, _ := claims["permissions"].([]any)
	isMissing := func(required string) bool {
		return !slices.Contains(strings.Fields(scope), required) &&
			!slices.Contains(permissions, any(required))
	}
	return !slices.ContainsFunc(v.scopes, isMissing)
}
