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

	"itwin-token-server/internal/fresh"
	"itwin-token-server/internal/problem"
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

// problemOf is the one place where errors become statuses.
func problemOf(err error) *problem.Problem {
	var p *problem.Problem
	failed := new(upstream.Error)
	errors.As(err, &failed)
	switch {
	case errors.Is(err, context.Canceled):
		return problem.Canceled
	case errors.As(err, &p):
		return p
	case failed.Kind == upstream.Slow, errors.Is(err, context.DeadlineExceeded):
		return problem.Slow
	case failed.Kind == upstream.Unreachable, errors.Is(err, fresh.ErrNotFetched):
		return problem.Unreachable
	case failed.Kind == upstream.Throttled:
		return problem.Throttled
	}
	return problem.Refused
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
	mux.HandleFunc("/getToken", s.getToken(func(*http.Request) (string, *itwinToken, error) { return "", nil, problem.Method }))
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
	return telemetry.Request{Status: p.Status, Reason: p.Reason}
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
	subject, err = s.users.verify(r.Context(), raw)
	if err == nil {
		token, err = s.tokens.Get(r.Context())
	}
	return subject, token, err
}

// bearerToken takes the token from the Authorization header (RFC 6750 §2.1).
func bearerToken(header http.Header) (string, error) {
	values := header["Authorization"]
	if len(values) > 1 { // a proxy may have checked the other one
		return "", problem.TwoHeaders
	}
	scheme, token, _ := strings.Cut(strings.Join(values, ""), " ")
	token = strings.Trim(token, " ")
	first, _, several := strings.Cut(token, " ")
	switch {
	case !strings.EqualFold(scheme, "Bearer") || token == "":
		return "", problem.NoToken
	case len(token) > maxToken:
		return "", problem.TooLong
	case strings.EqualFold(first, "Bearer"):
		return "", problem.TwoSchemes
	case isPlaceholder(token):
		return "", problem.EmptyValue
	case several:
		return "", problem.Malformed
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
func (s *service) writeProblem(w http.ResponseWriter, r *http.Request, p *problem.Problem, retry string) {
	challenge := realm // without a code if no token was sent (RFC 6750 §3)
	if p != problem.NoToken {
		challenge += `, error="` + p.Code + `", error_description="` + p.Text + `"`
	}
	if p.Status == http.StatusForbidden && len(s.config.RequiredScopes) > 0 {
		challenge += `, scope="` + strings.Join(s.config.RequiredScopes, " ") + `"`
	}
	switch p.Status {
	case 400, 401, 403:
		w.Header().Set("WWW-Authenticate", challenge)
	case 405:
		w.Header().Set("Allow", "GET, HEAD")
	case 502, 503, 504:
		w.Header().Set("Retry-After", retry)
	}
	if server.PrefersJSON(r.Header) {
		server.WriteJSON(w, p.Status, map[string]any{"error": p.Code, "error_description": p.Text})
		return
	}
	server.WriteText(w, p.Status, p.Text+"\n")
}

func (s *service) methodNotAllowed(w http.ResponseWriter, r *http.Request) {
	s.writeProblem(w, r, problem.Method, "")
}

func (s *service) notFound(w http.ResponseWriter, r *http.Request) {
	s.log.Debug("not found", "bytes", len(r.URL.Path)) // not the path: it may hold a token
	s.writeProblem(w, r, problem.NotFound, "")
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
