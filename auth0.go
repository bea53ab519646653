package main

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
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

	// keysRenew and keysUntil are how often the keys are fetched, and for how
	// long they serve when Auth0 is gone: a revoked key is dead within minutes,
	// and a day's outage leaves users signed in.
	keysRenew = 5 * time.Minute
	keysUntil = 24 * time.Hour

	// keysHurry is the longest pause between tries while there are no keys: after
	// a fetch that hangs, still within 15 s of Auth0's return.
	keysHurry = 4 * time.Second

	// keyPatience is how long a caller with an unknown key waits for a fetch.
	keyPatience = 3 * time.Second
)

// A refusal is why a token is not accepted: fixed words for the caller, and a
// short reason for the log and the metrics. Nothing in it comes from the token.
type refusal struct{ reason, words string }

func (r refusal) Error() string { return r.words }

var (
	errNotJWT    = refusal{"not_jwt", "the token is not a JWT: request an audience in Auth0"}
	errMalformed = refusal{"malformed", "the token is not a well-formed JWT"}
	errAlgorithm = refusal{"algorithm", "the token is not signed with RS256"}
	errType      = refusal{"type", "the token's typ is neither JWT nor at+jwt"}
	errCritical  = refusal{"critical", "the token's header has a crit"}
	errNoKeyID   = refusal{"no_kid", "the token names no signing key (kid)"}
	errIssuer    = refusal{"issuer", "another issuer: the token is not of this server's Auth0 tenant"}
	errAudience  = refusal{"audience", "another audience: the token is for none that this server accepts"}
	errExpired   = refusal{"expired", "expired"}
	errNoExpiry  = refusal{"no_exp", "the token has no expiry (exp)"}
	errNotYet    = refusal{"not_yet", "not valid yet"}
	errClaims    = refusal{"claims", "a claim of the token has the wrong type"}
	errUnknown   = refusal{"unknown_key", "signed with a key that this server's Auth0 tenant does not publish"}
	errSignature = refusal{"signature", "the signature does not verify"}
	errScope     = refusal{"scope", "a required scope is missing"}
)

// errNoKeys wraps what keeps the keys away. It is never the caller's fault.
var errNoKeys = errors.New("no keys of Auth0 to verify with")

// A caller is who sent a token that was found good.
type caller struct {
	subject string // the token's sub, as the log may show it
}

// A keySet is the tenant's signing keys at one moment, and what was found good by
// them: with another set, all is checked again.
type keySet struct {
	keys   keyfunc.Keyfunc
	good   tokencache.Tokens[caller]
	header atomic.Pointer[tokenHeader] // of the last good token
}

// key returns the key with this kid.
func (s *keySet) key(kid string) (*rsa.PublicKey, bool) {
	found, err := s.keys.Keyfunc(&jwt.Token{Header: map[string]any{"kid": kid, "alg": "RS256"}})
	key, ok := found.(*rsa.PublicKey)
	return key, err == nil && ok
}

// A verifier checks users' tokens against one Auth0 tenant.
type verifier struct {
	keys      *fresh.Value[*keySet]
	validator *jwt.Validator
	required  []string // scopes
}

// newVerifier makes a verifier for the tenant, audiences and scopes of c. Its
// keys are fetched once keys.Run runs; report hears of each fetch.
func newVerifier(c config, transport http.RoundTripper, report func(time.Duration, error)) *verifier {
	checks := []jwt.ParserOption{jwt.WithIssuer(c.issuer()), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(leeway)}
	if len(c.Audiences) > 0 { // jwt takes an empty list for "check nothing"
		checks = append(checks, jwt.WithAudience(c.Audiences...))
	}
	return &verifier{
		keys: fresh.New(fresh.Config[*keySet]{
			Fetch: func(ctx context.Context) (*keySet, fresh.Term, error) {
				keys, err := jwks.Fetch(ctx, transport, c.Domain)
				return &keySet{keys: keys}, fresh.Term{Renew: keysRenew, Until: keysUntil}, err
			},
			Report: report, MaxBackoff: keysHurry,
		}),
		validator: jwt.NewValidator(checks...),
		required:  c.RequiredScopes,
	}
}

// verify checks a token, and says whose it is. Where the keys are not there it
// waits for the fetch under way, until the deadline. Its errors are a [refusal],
// or wrap errNoKeys; with errScope it is still known who asks.
func (v *verifier) verify(ctx context.Context, raw string, deadline time.Time) (caller, error) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	keys, err := v.keys.Get(ctx)
	if err != nil {
		return caller{}, fmt.Errorf("%w: %w", errNoKeys, err)
	}
	place := keys.good.Place(raw)
	if who, ok := place.Get(); ok {
		return who, nil
	}
	token, err := parse(raw, keys.header.Load())
	if err != nil {
		return caller{}, err
	}
	if err := v.validate(token.claims); err != nil {
		return caller{}, err
	}
	scoped := v.hasScopes(token.claims)
	key, known := keys.key(token.header.kid)
	if !known && scoped {
		// Only now: a token that would fail anyway must not cause a fetch.
		newerCtx, cancel := context.WithTimeout(ctx, keyPatience)
		defer cancel()
		keys, err = v.keys.Newer(newerCtx, keys)
		if err != nil {
			return caller{}, fmt.Errorf("%w: %w", errNoKeys, err)
		}
		key, known = keys.key(token.header.kid)
		place = keys.good.Place(raw)
	}
	if !known {
		return caller{}, errUnknown
	}
	if rsa.VerifyPKCS1v15(key, crypto.SHA256, token.sum[:], token.signature) != nil { // RS256 (RFC 7518 §3.3)
		return caller{}, errSignature
	}
	sub, _ := token.claims["sub"].(string)
	who := caller{telemetry.Subject(sub)}
	if !scoped {
		return who, errScope
	}
	expires, _ := token.claims.GetExpirationTime() // validate has seen it
	place.Put(who, expires.Add(leeway))
	if keys.header.Load() != token.header {
		keys.header.Store(token.header)
	}
	return who, nil
}

// A parsedToken is a token taken apart. Nothing in it is to be believed yet.
type parsedToken struct {
	header    *tokenHeader
	claims    jwt.MapClaims
	sum       [sha256.Size]byte // of what the signature is over
	signature []byte
}

// A tokenHeader is a header that passed its checks.
type tokenHeader struct{ text, kid string }

// segment is how a part of a token is written (RFC 7515 §2), and the only way.
var segment = base64.RawURLEncoding.Strict()

// parse takes a token apart (RFC 7515 §3.1) and checks its header, unless that is
// the last good one: a tenant's tokens differ in their claims, hardly ever in
// their headers.
func parse(raw string, last *tokenHeader) (token parsedToken, err error) {
	header, rest, _ := strings.Cut(raw, ".")
	payload, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.Contains(signature, ".") { // Auth0's opaque tokens have no dot, or four
		return token, errNotJWT
	}
	if token.header = last; last == nil || last.text != header {
		if token.header, err = parseHeader(header); err != nil {
			return token, err
		}
	}
	claims, err := segment.DecodeString(payload)
	if err != nil || json.Unmarshal(claims, &token.claims) != nil {
		return token, errMalformed
	}
	if token.signature, err = segment.DecodeString(signature); err != nil {
		return token, errMalformed
	}
	var buffer [1 << 10]byte // most tokens fit, and are then not copied to the heap
	token.sum = sha256.Sum256(append(buffer[:0], raw[:len(header)+1+len(payload)]...))
	return token, nil
}

// parseHeader checks a header. The algorithm is ours to choose, never the
// token's (RFC 8725 §3.1), and so is the key: jwk, jku, x5u and x5c are not
// looked at. Names match exactly, as they do in a map and not in a struct.
func parseHeader(text string) (*tokenHeader, error) {
	decoded, err := segment.DecodeString(text)
	var header map[string]any
	if err != nil || json.Unmarshal(decoded, &header) != nil {
		return nil, errMalformed
	}
	if header["alg"] != "RS256" {
		return nil, errAlgorithm
	}
	// To honour a crit is to know each name in it (RFC 7515 §4.1.11). We know none.
	if _, critical := header["crit"]; critical {
		return nil, errCritical
	}
	if typ, ok := header["typ"]; ok && !isTokenType(typ) {
		return nil, errType
	}
	kid, _ := header["kid"].(string)
	if kid == "" {
		return nil, errNoKeyID
	}
	return &tokenHeader{text, kid}, nil
}

// isTokenType takes JWT, and at+jwt of the RFC 9068 profile. Media types have
// no case (RFC 7515 §4.1.9).
func isTokenType(typ any) bool {
	text, _ := typ.(string)
	return strings.EqualFold(text, "JWT") || strings.EqualFold(text, "at+jwt")
}

// validate checks the claims. Of several faults it names the one that explains
// the others: a token of another tenant is not "expired".
func (v *verifier) validate(claims jwt.MapClaims) error {
	err := v.validator.Validate(claims)
	if err == nil {
		return nil
	}
	expires, _ := claims.GetExpirationTime()
	switch {
	case claims["iss"] == nil, claims["iss"] == "", errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return errIssuer
	case errors.Is(err, jwt.ErrInvalidType):
		return errClaims
	case expires == nil:
		return errNoExpiry
	case errors.Is(err, jwt.ErrTokenExpired):
		return errExpired
	case errors.Is(err, jwt.ErrTokenNotValidYet), errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return errNotYet
	}
	return errAudience // the one check that is left
}

// hasScopes looks for each required scope in the token's scope (RFC 8693 §4.2),
// and in the permissions that Auth0 adds with RBAC.
func (v *verifier) hasScopes(claims jwt.MapClaims) bool {
	if len(v.required) == 0 {
		return true
	}
	text, _ := claims["scope"].(string)
	scopes := strings.Fields(text)
	permissions, _ := claims["permissions"].([]any)
	return !slices.ContainsFunc(v.required, func(required string) bool {
		return !slices.Contains(scopes, required) && !slices.Contains(permissions, any(required))
	})
}
