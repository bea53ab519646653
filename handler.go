package main

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"itwin-token-server/internal/check"
	"itwin-token-server/internal/fresh"
	"itwin-token-server/internal/server"
	"itwin-token-server/internal/telemetry"
	"itwin-token-server/internal/upstream"
)

const (
	// maxWait is how long a request waits for the first keys and the first token.
	maxWait = 10 * time.Second

	// maxToken bounds a user token, in bytes: ten times what Auth0 sends.
	maxToken = 8 << 10
	realm    = `Bearer realm="itwin-token-server"`
)

// A problem is a response other than 200, and an error of the request path.
type problem struct {
	status int
	code   string // for the caller: of RFC 6750 §3.1 where it has one
	reason string // for the log and the metrics
	advice check.Advice
	text   string // for the caller: nothing in it was sent by one
}

// Error returns the text for the caller.
func (p *problem) Error() string { return p.text }

// The table of problems.
var (
	errNoToken      = &problem{401, "missing_token", "no_token", check.Damaged, "send the user's Auth0 token as Authorization: Bearer <token>"}
	errTwoHeaders   = &problem{400, "invalid_request", "two_headers", check.Damaged, "send one Authorization header"}
	errNoUserToken  = &problem{401, "invalid_token", "empty_value", check.Client, "the token is undefined, null or the like: the app had no user token yet when it called"}
	errTwoSchemes   = &problem{401, "invalid_token", "two_schemes", check.Client, "the header has Bearer twice: the app adds it to a value that begins with it"}
	errTooLong      = &problem{401, "invalid_token", "too_long", check.TooLong, "the token is longer than 8 KiB, or costs too much to decode"}
	errNotJWT       = &problem{401, "invalid_token", "not_jwt", check.Opaque, "the token is not a JWT: request an audience in Auth0"}
	errMalformed    = &problem{401, "invalid_token", "malformed", check.Damaged, "the token is not a well-formed JWT"}
	errAlgorithm    = &problem{401, "invalid_token", "algorithm", check.Algorithm, "the token is not signed with RS256"}
	errType         = &problem{401, "invalid_token", "type", check.Damaged, "the token's typ is neither JWT nor at+jwt"}
	errCritical     = &problem{401, "invalid_token", "critical", check.Damaged, "the token's header has a crit"}
	errNoKeyID      = &problem{401, "invalid_token", "no_kid", check.Damaged, "the token names no signing key (kid)"}
	errIssuer       = &problem{401, "invalid_token", "issuer", check.Issuer, "wrong issuer: the token is not of this server's Auth0 tenant"}
	errAudience     = &problem{401, "invalid_token", "audience", check.Audience, "wrong audience: the token is for another API or application"}
	errExpired      = &problem{401, "invalid_token", "expired", check.Expired, "expired"}
	errNoExpiry     = &problem{401, "invalid_token", "no_exp", check.Damaged, "the token has no expiry (exp)"}
	errNotYet       = &problem{401, "invalid_token", "not_yet", check.NotYet, "not valid yet"}
	errClaims       = &problem{401, "invalid_token", "claims", check.Damaged, "a claim of the token has the wrong type or an impossible value"}
	errUnknownKey   = &problem{401, "invalid_token", "unknown_key", check.UnknownKey, "signed with a key that this server's Auth0 tenant does not publish"}
	errSignature    = &problem{401, "invalid_token", "signature", check.Damaged, "the signature does not verify"}
	errScope        = &problem{403, "insufficient_scope", "scope", check.Scope, "a required scope is missing"}
	errOrganization = &problem{403, "insufficient_scope", "organization", check.Organization, "the token is not for an accepted Auth0 Organization"}
	errNoKeys       = &problem{503, "temporarily_unavailable", "no_keys", check.NotChecked, "Auth0's keys are not available: try again"}
	errKeysOutdated = &problem{503, "temporarily_unavailable", "keys_outdated", check.NotChecked, "the token's key is new, and Auth0's current keys are not available: try again"}
	errCanceled     = &problem{503, "temporarily_unavailable", "canceled", check.NotChecked, "interrupted: try again"} // reaches a caller only during shutdown
	errSlow         = &problem{504, "temporarily_unavailable", "itwin_slow", check.NotChecked, "iTwin is too slow: try again"}
	errUnreachable  = &problem{503, "temporarily_unavailable", "itwin_unreachable", check.NotChecked, "iTwin cannot be reached: try again"}
	errThrottled    = &problem{502, "temporarily_unavailable", "itwin_throttled", check.NotChecked, "iTwin asked this server to wait: try again later"}
	errRefused      = &problem{502, "temporarily_unavailable", "itwin_refused", check.NotChecked, "iTwin issued no token: try again, and see the server's log"}
	errMethod       = &problem{405, "method_not_allowed", "method", check.Damaged, "use GET"}
	errPath         = &problem{404, "not_found", "path", check.Damaged, "not found: the token is at /getToken"}
)

// requestProblems are those that a request to /getToken can end with. The metrics
// count them; one that is missing here is counted as "other".
func requestProblems() []*problem {
	return []*problem{
		errNoToken, errTwoHeaders, errNoUserToken, errTwoSchemes, errTooLong, errNotJWT, errMalformed, errAlgorithm, errType,
		errCritical, errNoKeyID, errIssuer, errAudience, errExpired, errNoExpiry, errNotYet, errClaims, errUnknownKey,
		errSignature, errScope, errOrganization, errNoKeys, errKeysOutdated, errCanceled, errSlow, errUnreachable, errThrottled, errRefused, errMethod,
	}
}

// problemOf is the one place where errors become statuses.
func problemOf(err error) *problem {
	var p *problem
	failed := new(upstream.Error)
	errors.As(err, &failed)
	switch {
	case errors.Is(err, context.Canceled):
		return errCanceled
	case errors.As(err, &p):
		return p
	case failed.Kind == upstream.Slow, errors.Is(err, context.DeadlineExceeded):
		return errSlow
	case failed.Kind == upstream.Unreachable, errors.Is(err, fresh.ErrNotFetched):
		return errUnreachable
	case failed.Kind == upstream.Throttled:
		return errThrottled
	}
	return errRefused
}

// A service has what the routes need.
type service struct {
	config   config
	users    *verifier
	tokens   *fresh.Value[*itwinToken]
	log      *slog.Logger
	observer *telemetry.Observer
	draining atomic.Bool // shutting down, so not ready
}

// routes returns the server's handler; only the demo gives out user tokens.
func (s *service) routes(demoUserToken http.HandlerFunc) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /getToken", s.getToken(s.exchange))
	mux.HandleFunc("/getToken", s.getToken(func(*http.Request) (string, *itwinToken, error) { return "", nil, errMethod }))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { server.WriteText(w, http.StatusOK, "ok\n") })
	mux.HandleFunc("GET /readyz", s.readyz)
	mux.HandleFunc("/healthz", s.methodNotAllowed)
	mux.HandleFunc("/readyz", s.methodNotAllowed)
	if demoUserToken != nil {
		mux.HandleFunc("GET /demo/userToken", demoUserToken)
	}
	mux.HandleFunc("/", s.notFound)
	return server.Headers(s.config.Origins, server.ExactPaths(http.HandlerFunc(s.notFound), mux))
}

// getToken answers with the iTwin token that exchange returns, or its error, and
// records the request.
func (s *service) getToken(exchange func(*http.Request) (subject string, token *itwinToken, err error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		subject, token, err := exchange(r)
		record := s.answer(w, r, token, err)
		record.Subject, record.Duration = subject, time.Since(start)
		s.observer.Request(r.Context(), record)
	}
}

// answer writes the token, or the response for err.
func (s *service) answer(w http.ResponseWriter, r *http.Request, token *itwinToken, err error) telemetry.Request {
	if err == nil {
		writeToken(w, r, token)
		return telemetry.Request{Status: http.StatusOK, Reason: "ok", Token: token.fingerprint}
	}
	p := problemOf(err)
	s.writeProblem(w, r, p, retryAfter(err))
	return telemetry.Request{Status: p.status, Reason: p.reason}
}

func writeToken(w http.ResponseWriter, r *http.Request, token *itwinToken) {
	if !server.PrefersJSON(r.Header) {
		server.WriteText(w, http.StatusOK, token.bearer.reveal())
		return
	}
	secondsLeft := int(fresh.Until(token.expiry).Seconds())
	server.WriteJSON(w, http.StatusOK, map[string]any{"access_token": strings.TrimPrefix(token.bearer.reveal(), "Bearer "), "token_type": "Bearer", "expires_in": secondsLeft})
}

// exchange verifies the user token and returns its subject and the iTwin token.
func (s *service) exchange(r *http.Request) (subject string, token *itwinToken, err error) {
	raw, err := bearerToken(r.Header)
	if err != nil {
		return "", token, err
	}
	ctx := r.Context()
	if !s.users.keys.Usable() || !s.tokens.Usable() { // only a request that waits needs a timer
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, maxWait)
		defer cancel()
	}
	subject, err = s.users.verify(ctx, raw)
	if err == nil {
		token, err = s.tokens.Get(ctx)
	}
	return subject, token, err
}

// bearerToken takes the token from the Authorization header (RFC 6750 §2.1).
func bearerToken(header http.Header) (string, error) {
	values := header["Authorization"]
	if len(values) > 1 { // a proxy may have checked the other one
		return "", errTwoHeaders
	}
	scheme, token, _ := strings.Cut(strings.Join(values, ""), " ")
	token = strings.Trim(token, " ")
	first, _, several := strings.Cut(token, " ")
	switch {
	case !strings.EqualFold(scheme, "Bearer") || token == "":
		return "", errNoToken
	case len(token) > maxToken:
		return "", errTooLong
	case strings.EqualFold(first, "Bearer"):
		return "", errTwoSchemes
	case isPlaceholder(token):
		return "", errNoUserToken
	case several:
		return "", errNotJWT
	}
	return token, nil
}

// isPlaceholder recognises what programs make of a missing token when they turn
// it into text: JavaScript, Swift, Objective-C, Go, Python and JSON.
func isPlaceholder(token string) bool {
	if strings.HasPrefix(token, "eyJ") { // {" in base64, so a JWT: not worth the copy in lower case
		return false
	}
	text := strings.ToLower(strings.Trim(token, `"'`))
	switch text {
	case "", "undefined", "null", "nan", "nil", "none", "false", "(null)", "<nil>", "{}", "[]":
		return true
	}
	return strings.HasPrefix(text, "[object ") || strings.HasPrefix(text, "optional(")
}

// retryAfter is when the server will next be able to help, in seconds.
func retryAfter(err error) string {
	failed := new(fresh.Error)
	errors.As(err, &failed)
	return strconv.Itoa(max(1, int(math.Ceil(fresh.Until(failed.Retry).Seconds()))))
}

// writeProblem writes the response for a problem, with the headers that it needs.
func (s *service) writeProblem(w http.ResponseWriter, r *http.Request, p *problem, retry string) {
	challenge := realm // without a code if no token was sent (RFC 6750 §3)
	if p != errNoToken {
		challenge += `, error="` + p.code + `", error_description="` + p.text + `"`
	}
	if p.status == http.StatusForbidden && len(s.config.RequiredScopes) > 0 {
		challenge += `, scope="` + strings.Join(s.config.RequiredScopes, " ") + `"`
	}
	switch p.status {
	case 400, 401, 403:
		w.Header().Set("WWW-Authenticate", challenge)
	case 405:
		w.Header().Set("Allow", "GET, HEAD")
	case 502, 503, 504:
		w.Header().Set("Retry-After", retry)
	}
	if server.PrefersJSON(r.Header) {
		server.WriteJSON(w, p.status, map[string]any{"error": p.code, "error_description": p.text})
		return
	}
	server.WriteText(w, p.status, p.text+"\n")
}

func (s *service) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	s.writeProblem(w, r, errMethod, "")
}

func (s *service) notFound(w http.ResponseWriter, r *http.Request) {
	s.log.Debug("not found", "bytes", len(r.URL.Path)) // not the path: it may hold a token
	s.writeProblem(w, r, errPath, "")
}

// readyz is 200 once there have been keys and a token, during an outage too: all
// replicas share it, and removing them all would refuse every connection.
func (s *service) readyz(w http.ResponseWriter, _ *http.Request) {
	var missing []string
	if s.draining.Load() {
		missing = append(missing, "shutting down")
	}
	if s.users.keys.Begun().IsZero() {
		missing = append(missing, "no Auth0 keys yet")
	}
	if s.tokens.Begun().IsZero() {
		missing = append(missing, "no iTwin token yet")
	}
	if len(missing) > 0 {
		server.WriteText(w, http.StatusServiceUnavailable, "not ready: "+strings.Join(missing, ", ")+"\n")
		return
	}
	server.WriteText(w, http.StatusOK, "ready\n")
}
