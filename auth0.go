package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"itwin-token-server/internal/fresh"
	"itwin-token-server/internal/jwks"
	"itwin-token-server/internal/problem"
	"itwin-token-server/internal/telemetry"
	"itwin-token-server/internal/tokencache"
)

const (
	leeway = 30 * time.Second // between Auth0's clock and ours

	// Keys are fetched every keysRenew, so that a revoked key is refused within
	// minutes, and used for at most keysExpiry, so that users stay signed in when
	// Auth0 is down for a day.
	keysRenew  = 5 * time.Minute
	keysExpiry = 24 * time.Hour

	// keysMaxBackoff is the longest pause between two fetches while there are no
	// keys: short enough to recover within 15 s of Auth0's return.
	keysMaxBackoff = 4 * time.Second

	unknownKeyTimeout = 3 * time.Second // of a request that waits for a newer key
	maxTime           = 1 << 53         // in a token, in seconds: larger numbers are not exact in JSON (RFC 8259 §6)

	// Bounds on what jwt decodes before it verifies the signature: a number with an
	// exponent or many digits takes up to 30 µs.
	maxJSONValues = 500
	maxDigits     = 20
)

// A verifier checks user tokens of one Auth0 tenant.
type verifier struct {
	keys          *fresh.Value[*jwks.Set]
	parser        *jwt.Parser
	validator     *jwt.Validator
	scopes        []string // required
	organizations []string // allowed; none: any
}

// newVerifier returns a verifier with the settings of c. It fetches keys while
// keys.Run runs; report is called after each fetch.
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
		keys: fresh.New(fresh.Config[*jwks.Set]{
			Fetch: func(ctx context.Context) (*jwks.Set, fresh.Term, error) {
				keys, err := jwks.Fetch(ctx, transport, c.Domain)
				return keys, fresh.Term{Renew: keysRenew, Until: keysExpiry}, err
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
// are problems, or wrap one; with problem.Scope and problem.Organization the subject is
// known.
func (v *verifier) verify(ctx context.Context, raw string) (subject string, err error) {
	keys, err := v.keys.Get(ctx)
	if err != nil {
		return "", fmt.Errorf("%w: %w", problem.NoKeys, err)
	}
	id := tokencache.KeyOf(raw)
	if subject, ok := keys.Verified.Get(id); ok {
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
		keys, key, err = v.newerKey(ctx, token)
		return key, err
	})
	if err != nil && !errors.Is(err, jwt.ErrTokenInvalidClaims) {
		return "", parseProblem(token, err)
	}
	err = v.checkClaims(claims, err)
	if err == nil || err == problem.Scope || err == problem.Organization { // the signature is verified
		subject, _ = claims["sub"].(string)
		subject = telemetry.Subject(subject)
	}
	if err == nil {
		expiry, _ := claims.GetExpirationTime() // present: checked
		keys.Verified.Put(id, subject, expiry.Add(leeway))
	}
	return subject, err
}

// newerKey returns the key of the token from keys that [fresh.Value.Newer] returns.
func (v *verifier) newerKey(ctx context.Context, token *jwt.Token) (*jwks.Set, any, error) {
	ctx, cancel := context.WithTimeout(ctx, unknownKeyTimeout)
	defer cancel()
	newer, err := v.keys.Newer(ctx)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", problem.KeysOutdated, err)
	}
	key, err := newer.Keyfunc.Keyfunc(token)
	if err != nil {
		return nil, nil, problem.UnknownKey
	}
	return newer, key, nil
}

// checkForm refuses what is not a JWT, and what would cost too much to decode.
func checkForm(raw string) error {
	header, rest, _ := strings.Cut(raw, ".")
	claims, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(signature, ".") {
		if strings.HasPrefix(raw, "eyJ") && strings.Count(raw, ".") != 4 { // {" in base64
			return problem.Malformed // a part of a JWT; an opaque token has no dot, or four
		}
		return problem.NotJWT
	}
	text, err := base64.RawURLEncoding.AppendDecode(make([]byte, 0, len(raw)), []byte(header))
	if err == nil {
		text, err = base64.RawURLEncoding.AppendDecode(text, []byte(claims))
	}
	switch {
	case err != nil:
		return problem.Malformed
	case costly(text):
		return problem.TooLong
	}
	return nil
}

// costly reports whether JSON has too many values, or a number that is expensive.
func costly(text []byte) bool {
	values, digits := 0, 0
	for i := 0; i < len(text) && digits <= maxDigits; i++ {
		switch c := text[i]; {
		case c == '"':
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++ // the next character ends no string
				}
			}
		case c == ',' || c == '[' || c == '{':
			values, digits = values+1, 0
		case '0' <= c && c <= '9' || c == '.':
			digits++
		case digits > 0 && (c == 'e' || c == 'E'):
			return true
		}
	}
	return digits > maxDigits || values > maxJSONValues
}

// checkHeader checks what jwt doesn't. The header's jwk, jku, x5u and x5c are
// never looked at (RFC 8725 §3.1).
func checkHeader(header map[string]any) error {
	// No extension is supported, so none may be critical (RFC 7515 §4.1.11).
	if _, ok := header["crit"]; ok {
		return problem.Critical
	}
	if typ, ok := header["typ"]; ok {
		// Media types have no case (RFC 7515 §4.1.9); at+jwt is RFC 9068's.
		text, _ := typ.(string)
		if !strings.EqualFold(text, "JWT") && !strings.EqualFold(text, "at+jwt") {
			return problem.Type
		}
	}
	if kid, _ := header["kid"].(string); kid == "" { // keyfunc would try every key
		return problem.NoKeyID
	}
	return nil
}

// parseProblem says why jwt could not verify the signature.
func parseProblem(token *jwt.Token, err error) error {
	var p *problem.Problem
	switch {
	case errors.As(err, &p): // of the key function
		return err
	case errors.Is(err, jwt.ErrTokenMalformed):
		return problem.Malformed
	case token.Header["alg"] != jwt.SigningMethodRS256.Alg():
		return problem.Algorithm
	}
	return problem.Signature
}

// checkClaims turns the validator's result into a problem, and checks what the
// validator doesn't. Of several problems it returns the one that explains the
// others: a token of another tenant is not just expired.
func (v *verifier) checkClaims(claims jwt.MapClaims, invalid error) error {
	expiry, _ := claims.GetExpirationTime()
	switch {
	case claims["iss"] == nil, claims["iss"] == "", errors.Is(invalid, jwt.ErrTokenInvalidIssuer):
		return problem.Issuer
	case errors.Is(invalid, jwt.ErrInvalidType), !validTimes(claims):
		return problem.Claims
	case expiry == nil:
		return problem.NoExpiry
	case errors.Is(invalid, jwt.ErrTokenExpired):
		return problem.Expired
	case errors.Is(invalid, jwt.ErrTokenNotValidYet), errors.Is(invalid, jwt.ErrTokenUsedBeforeIssued):
		return problem.NotYet
	case invalid != nil: // the audience is the one check that is left
		return problem.Audience
	case !v.allowsOrganization(claims):
		return problem.Organization
	case !v.hasScopes(claims):
		return problem.Scope
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
