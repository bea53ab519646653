package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"itwin-token-server/internal/fresh"
	"itwin-token-server/internal/server"
	"itwin-token-server/internal/telemetry"
	"itwin-token-server/internal/upstream"
)

const (
	// patience is how long a caller waits in all: for the first keys, the first
	// token, or the next one when the last has died.
	patience = 10 * time.Second

	// maxToken bounds a caller's token, in bytes: ten times what Auth0 makes.
	maxToken = 16 << 10

	// retryAfter is when to ask again after an outage, in seconds: whoever is
	// answered with it has hastened the next try, which is then over.
	retryAfter = "2"

	realm = `Bearer realm="itwin-token-server"`
)

// A service is what the routes need.
type service struct {
	config   config
	users    *verifier
	tokens   *fresh.Value[*itwinToken]
	log      *slog.Logger
	observer *telemetry.Observer
	draining atomic.Bool // shutting down: not ready any more
}

// routes are the server's answers; more adds to them.
func (s *service) routes(more ...route) http.Handler {
	mux := http.NewServeMux()
	for _, r := range more {
		mux.HandleFunc(r.pattern, r.handler)
	}
	mux.HandleFunc("GET /getToken", s.getToken)
	mux.HandleFunc("GET /healthz", healthz)
	mux.HandleFunc("GET /readyz", s.readyz)
	for _, path := range []string{"/getToken", "/healthz", "/readyz"} {
		mux.HandleFunc(path, s.methodNotAllowed)
	}
	mux.HandleFunc("/", s.notFound)
	return server.Headers(s.config.Origins, server.ExactPaths(http.HandlerFunc(s.notFound), mux))
}

// A route is one that only the demo has.
type route struct {
	pattern string
	handler http.HandlerFunc
}

// getToken gives the caller of a good Auth0 token the iTwin token.
func (s *service) getToken(w http.ResponseWriter, r *http.Request) {
	begun := time.Now()
	who, token, err := s.exchange(r, begun.Add(patience))
	result := good
	switch {
	case err != nil:
		result = problemOf(err)
		s.writeProblem(w, r, result)
	case server.PrefersJSON(r.Header):
		writeJSON(w, http.StatusOK, tokenJSON{token.access.reveal(), "Bearer", int(time.Until(token.expires).Seconds())})
	default:
		w.Header()["Content-Type"] = plainText
		w.Write(token.bearer)
	}
	fingerprint := ""
	if err == nil {
		fingerprint = token.fingerprint
	}
	s.observer.Request(r.Context(), result.status, result.reason, time.Since(begun), who.subject, fingerprint)
}

type tokenJSON struct {
	AccessToken string `json:"access_token"`
	TokenType   string `json:"token_type"`
	ExpiresIn   int    `json:"expires_in"` // seconds truly left
}

// exchange is the server's whole job. The caller is empty until tokencache.
func (s *service) exchange(r *http.Request, deadline time.Time) (caller, *itwinToken, error) {
	raw, err := bearerToken(r.Header)
	if err != nil {
		return caller{}, nil, err
	}
	who, err := s.users.verify(r.Context(), raw, deadline)
	if err != nil {
		return who, nil, err
	}
	ctx, cancel := context.WithDeadline(r.Context(), deadline)
	defer cancel()
	token, err := s.tokens.Get(ctx)
	return who, token, err
}

var (
	errNoToken    = errors.New("no bearer token")
	errTwoHeaders = errors.New("two Authorization headers")
	errTooLong    = refusal{"too_long", "the token is longer than 16 KiB"}
)

// bearerToken takes the token out of the Authorization header (RFC 6750 §2.1).
func bearerToken(header http.Header) (string, error) {
	values := header["Authorization"]
	if len(values) > 1 { // which of them a proxy has checked, nobody knows
		return "", errTwoHeaders
	}
	if len(values) == 0 {
		return "", errNoToken
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.Trim(token, " ")
	switch {
	case !strings.EqualFold(scheme, "Bearer") || token == "":
		return "", errNoToken
	case len(token) > maxToken:
		return "", errTooLong
	}
	return token, nil
}

// A problem is an answer other than 200.
type problem struct {
	status int
	reason string // for the log and the metrics
	code   string // for the caller: of RFC 6750 §3.1 where that has one
	words  string // for the caller: fixed, and helpful
}

var good = problem{status: http.StatusOK, reason: "ok"}

// problemOf is the one place where errors become statuses.
func problemOf(err error) problem {
	var refused refusal
	var failed *upstream.Error
	switch {
	case errors.Is(err, errNoToken):
		return problem{401, "no_token", "missing_token", "send the user's Auth0 token as Authorization: Bearer <token>"}
	case errors.Is(err, errTwoHeaders):
		return problem{400, "two_headers", "invalid_request", "send one Authorization header"}
	case errors.Is(err, errScope):
		return problem{403, errScope.reason, "insufficient_scope", errScope.words}
	case errors.As(err, &refused):
		return problem{401, refused.reason, "invalid_token", refused.words}
	case errors.Is(err, context.Canceled): // nobody reads this, unless we are shutting down
		return problem{503, "canceled", "temporarily_unavailable", "interrupted: try again"}
	case errors.Is(err, errNoKeys):
		return problem{503, "no_keys", "temporarily_unavailable", "Auth0's keys cannot be had: try again"}
	case errors.Is(err, context.DeadlineExceeded):
		return problem{504, "itwin_slow", "temporarily_unavailable", "iTwin is too slow: try again"}
	case errors.Is(err, fresh.ErrNotFetched):
		return problem{503, "itwin_unreachable", "temporarily_unavailable", "there is no iTwin token yet: try again"}
	case errors.As(err, &failed) && failed.Kind == upstream.Slow:
		return problem{504, "itwin_slow", "temporarily_unavailable", "iTwin is too slow: try again"}
	case errors.As(err, &failed) && failed.Kind == upstream.Unreachable:
		return problem{503, "itwin_unreachable", "temporarily_unavailable", "iTwin cannot be reached: try again"}
	}
	return problem{502, "itwin_refused", "temporarily_unavailable", "iTwin gives no token: try again, and have the server's log looked at"}
}

// outcomes are all that can become of a request, for the metrics to count.
func outcomes() map[string]int {
	all := map[string]int{good.reason: good.status}
	for _, err := range []error{
		errNoToken, errTwoHeaders, errTooLong, errNotJWT, errMalformed, errAlgorithm, errType, errCritical, errNoKeyID, errIssuer,
		errAudience, errExpired, errNoExpiry, errNotYet, errClaims, errUnknown, errSignature, errScope,
		context.Canceled, errNoKeys, context.DeadlineExceeded, fresh.ErrNotFetched, errors.New("any other"),
	} {
		p := problemOf(err)
		all[p.reason] = p.status
	}
	return all
}

// writeProblem answers with the problem, and the headers that go with it.
func (s *service) writeProblem(w http.ResponseWriter, r *http.Request, p problem) {
	challenge := realm // without a code where no token was sent (RFC 6750 §3)
	if p.reason != "no_token" {
		challenge += `, error="` + p.code + `", error_description="` + p.words + `"`
	}
	switch p.status {
	case 403:
		challenge += `, scope="` + strings.Join(s.config.RequiredScopes, " ") + `"`
		fallthrough
	case 400, 401:
		w.Header().Set("WWW-Authenticate", challenge)
	case 502, 503, 504:
		w.Header().Set("Retry-After", retryAfter)
	}
	if server.PrefersJSON(r.Header) {
		writeJSON(w, p.status, problemJSON{p.code, p.words})
		return
	}
	w.Header()["Content-Type"] = plainText
	w.WriteHeader(p.status)
	w.Write([]byte(p.words + "\n"))
}

type problemJSON struct {
	Error       string `json:"error"`
	Description string `json:"error_description"`
}

func (s *service) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Allow", "GET, HEAD")
	s.writeProblem(w, r, problem{405, "method", "method_not_allowed", "use GET"})
}

func (s *service) notFound(w http.ResponseWriter, r *http.Request) {
	s.log.Debug("not found", "bytes", len(r.URL.Path)) // not the path: some put their token there
	s.writeProblem(w, r, problem{404, "path", "not_found", "there is nothing here: the token is at /getToken"})
}

func healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header()["Content-Type"] = plainText
	w.Write([]byte("ok\n"))
}

// readyz is 200 once there have been keys and a token, and through outages: they
// concern every replica alike, and none left is worse than an honest 503.
func (s *service) readyz(w http.ResponseWriter, _ *http.Request) {
	var missing []string
	if s.draining.Load() {
		missing = append(missing, "shutting down")
	}
	if !s.users.keys.Had() {
		missing = append(missing, "no keys of Auth0 yet")
	}
	if !s.tokens.Had() {
		missing = append(missing, "no iTwin token yet")
	}
	w.Header()["Content-Type"] = plainText
	if len(missing) > 0 {
		w.WriteHeader(http.StatusServiceUnavailable)
		w.Write([]byte("not ready: " + strings.Join(missing, ", ") + "\n"))
		return
	}
	w.Write([]byte("ready\n"))
}

// Header values that never change are made once, not for each answer.
var (
	plainText = []string{"text/plain; charset=utf-8"}
	jsonText  = []string{"application/json"}
)

func writeJSON(w http.ResponseWriter, status int, v any) {
	body, _ := json.Marshal(v) // structs of text and numbers: nothing to fail
	w.Header()["Content-Type"] = jsonText
	w.WriteHeader(status)
	w.Write(body)
}
