package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"itwin-token-server/internal/fresh"
	"itwin-token-server/internal/jwks"
	"itwin-token-server/internal/telemetry"
	"itwin-token-server/internal/tokencache"
)

const (
	// leeway is how far Auth0's clock and ours may differ.
	leeway = 30 * time.Second

	// Keys are fetched every keysRenew, so that a revoked key is refused within
	// minutes, and used for at most keysExpiry, so that users stay signed in when
	// Auth0 is down for a day.
	keysRenew  = 5 * time.Minute
	keysExpiry = 24 * time.Hour

	// keysMaxBackoff is the longest pause between two fetches while there are no
	// keys: short enough to recover within 15 s of Auth0's return.
	keysMaxBackoff = 4 * time.Second

	// unknownKeyTimeout is how long a request with an unknown key waits for a fetch.
	unknownKeyTimeout = 3 * time.Second

	// maxTime is the largest time in a token, in seconds: larger numbers are no
	// longer exact in JSON, and overflow when they are converted (RFC 8259 §6).
	maxTime = 1 << 53

	// A token of more than smallToken bytes may have at most maxJSONValues values:
	// to decode a few thousand costs many times as much as to verify a signature.
	smallToken    = 2 << 10
	maxJSONValues = 500
)

// A keySet is the tenant's keys as they were fetched, and the tokens that were
// verified with them.
type keySet struct {
	keyfunc.Keyfunc
	verified tokencache.Cache
}

// A verifier checks user tokens of one Auth0 tenant.
type verifier struct {
	keys          *fresh.Value[*keySet]
	parser        *jwt.Parser
	validator     *jwt.Validator
	scopes        []string // required
	organizations []string // allowed; none: any
}

// newVerifier returns a verifier for the tenant, audiences, scopes and
// organizations of c. It fetches keys while keys.Run runs; report is called after
// each fetch.
func newVerifier(c config, transport http.RoundTripper, report func(time.Duration, error)) *verifier {
	options := []jwt.ParserOption{
		// The algorithm is ours to choose, never the token's (RFC 8725 §3.1).
		jwt.WithValidMethods([]string{jwt.SigningMethodRS256.Alg()}),
		jwt.WithStrictDecoding(),
		jwt.WithIssuer(c.issuer()),
		jwt.WithExpirationRequired(),
		jwt.WithIssuedAt(),
		jwt.WithLeeway(leeway),
		jwt.WithAudience(c.Audiences...), // none: any
	}
	return &verifier{
		keys: fresh.New(fresh.Config[*keySet]{
			Fetch: func(ctx context.Context) (*keySet, fresh.Term, error) {
				keys, err := jwks.Fetch(ctx, transport, c.Domain)
				return &keySet{Keyfunc: keys}, fresh.Term{Renew: keysRenew, Until: keysExpiry}, err
			},
			Report:     report,
			MaxBackoff: keysMaxBackoff,
		}),
		parser:        jwt.NewParser(options...),
		validator:     jwt.NewValidator(options...),
		scopes:        c.RequiredScopes,
		organizations: c.Organizations,
	}
}

// verify checks a user token and returns its subject, as the log may show it. If
// there are no keys it waits for a fetch in progress, until ctx ends. Its errors
// are problems, or wrap one; with errScope and errOrganization the subject is
// known.
func (v *verifier) verify(ctx context.Context, raw string) (subject string, err error) {
	keys, err := v.keys.Get(ctx)
	if err != nil {
		return "", fmt.Errorf("%w: %w", errNoKeys, err)
	}
	id := tokencache.KeyOf(raw)
	if subject, ok := keys.verified.Get(id); ok {
		return subject, nil
	}
	if err := checkForm(raw); err != nil {
		return "", err
	}
	claims := jwt.MapClaims{} // not a struct, whose names would match in any case
	token, err := v.parser.ParseWithClaims(raw, claims, func(token *jwt.Token) (key any, err error) {
		if err := checkHeader(token.Header); err != nil {
			return nil, err
		}
		if key, err = keys.Keyfunc.Keyfunc(token); err == nil {
			return key, nil
		}
		// Only a token that would pass otherwise may cause a fetch.
		if err := v.checkClaims(claims, v.validator.Validate(claims)); err != nil {
			return nil, err
		}
		if keys, err = v.newerKeys(ctx, keys); err != nil {
			return nil, err
		}
		if key, err = keys.Keyfunc.Keyfunc(token); err != nil {
			return nil, errUnknownKey
		}
		return key, nil
	})
	if err != nil && !errors.Is(err, jwt.ErrTokenInvalidClaims) {
		return "", parseProblem(token, err)
	}
	err = v.checkClaims(claims, err)
	if err == nil || err == errScope || err == errOrganization { // the caller is who the token says
		subject, _ = claims["sub"].(string)
		subject = telemetry.Subject(subject)
	}
	if err == nil {
		expiry, _ := claims.GetExpirationTime() // present: checked
		keys.verified.Put(id, subject, expiry.Add(leeway))
	}
	return subject, err
}

// newerKeys fetches the keys again, within the limits of [fresh.Value.Newer].
func (v *verifier) newerKeys(ctx context.Context, keys *keySet) (*keySet, error) {
	ctx, cancel := context.WithTimeout(ctx, unknownKeyTimeout)
	defer cancel()
	keys, err := v.keys.Newer(ctx, keys)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errKeysOutdated, err)
	}
	return keys, nil
}

// checkForm refuses what is not a JWT, and what would cost too much to decode: jwt
// decodes the claims before it verifies the signature.
func checkForm(raw string) error {
	if strings.Count(raw, ".") != 2 { // an opaque token has none, or four
		return errNotJWT
	}
	if len(raw) <= smallToken {
		return nil
	}
	values := 0
	for part := range strings.SplitSeq(raw, ".") {
		text, _ := base64.RawURLEncoding.DecodeString(part) // jwt reports the error
		values += bytes.Count(text, []byte("{")) + bytes.Count(text, []byte("[")) + bytes.Count(text, []byte(","))
	}
	if values > maxJSONValues {
		return errTooLong
	}
	return nil
}

// checkHeader checks what jwt doesn't. The header's jwk, jku, x5u and x5c are
// never looked at (RFC 8725 §3.1).
func checkHeader(header map[string]any) error {
	// No extension is supported, so none may be critical (RFC 7515 §4.1.11).
	if _, ok := header["crit"]; ok {
		return errCritical
	}
	if typ, ok := header["typ"]; ok {
		// Media types have no case (RFC 7515 §4.1.9); at+jwt is RFC 9068's.
		text, _ := typ.(string)
		if !strings.EqualFold(text, "JWT") && !strings.EqualFold(text, "at+jwt") {
			return errType
		}
	}
	if kid, _ := header["kid"].(string); kid == "" { // keyfunc would try every key
		return errNoKeyID
	}
	return nil
}

// parseProblem says why jwt could not verify the signature.
func parseProblem(token *jwt.Token, err error) error {
	var p problem
	switch {
	case errors.As(err, &p): // of the key function
		return err
	case errors.Is(err, jwt.ErrTokenMalformed):
		return errMalformed
	case token.Header["alg"] != jwt.SigningMethodRS256.Alg():
		return errAlgorithm
	}
	return errSignature
}

// checkClaims turns the validator's result into a problem, and checks what the
// validator doesn't. Of several problems it returns the one that explains the
// others: a token of another tenant is not just expired.
func (v *verifier) checkClaims(claims jwt.MapClaims, invalid error) error {
	expiry, _ := claims.GetExpirationTime()
	switch {
	case claims["iss"] == nil, claims["iss"] == "", errors.Is(invalid, jwt.ErrTokenInvalidIssuer):
		return errIssuer
	case errors.Is(invalid, jwt.ErrInvalidType), !validTimes(claims):
		return errClaims
	case expiry == nil:
		return errNoExpiry
	case errors.Is(invalid, jwt.ErrTokenExpired):
		return errExpired
	case errors.Is(invalid, jwt.ErrTokenNotValidYet), errors.Is(invalid, jwt.ErrTokenUsedBeforeIssued):
		return errNotYet
	case invalid != nil: // the audience is the one check that is left
		return errAudience
	case !v.allowsOrganization(claims):
		return errOrganization
	case !v.hasScopes(claims):
		return errScope
	}
	return nil
}

// validTimes reports whether the times can be converted without overflow.
func validTimes(claims jwt.MapClaims) bool {
	return !slices.ContainsFunc([]string{"exp", "nbf", "iat"}, func(name string) bool {
		seconds, _ := claims[name].(float64)
		return math.Abs(seconds) > maxTime
	})
}

// allowsOrganization compares org_id exactly and org_name in lower case, as
// Auth0's SDKs do.
func (v *verifier) allowsOrganization(claims jwt.MapClaims) bool {
	id, _ := claims["org_id"].(string)
	name, _ := claims["org_name"].(string)
	return len(v.organizations) == 0 || slices.ContainsFunc(v.organizations, func(allowed string) bool {
		if strings.HasPrefix(allowed, "org_") {
			return allowed == id
		}
		return allowed == strings.ToLower(name)
	})
}

// hasScopes looks for each required scope in the token's scope (RFC 8693 §4.2)
// and in the permissions that Auth0 adds with RBAC.
func (v *verifier) hasScopes(claims jwt.MapClaims) bool {
	scope, _ := claims["scope"].(string)
	permissions, _ := claims["permissions"].([]any)
	return !slices.ContainsFunc(v.scopes, func(required string) bool {
		return !slices.Contains(strings.Fields(scope), required) && !slices.Contains(permissions, any(required))
	})
}
