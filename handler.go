package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math"
	"net/http"
	"regexp"
	"slices"
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

// maxToken bounds a user token, in bytes: ten times what Auth0 sends.
const maxToken = 8 << 10

const realm = `Bearer realm="itwin-token-server"`

// problemOf is the one place where errors become statuses.
func problemOf(err error) *problem.Problem {
	if errors.Is(err, context.Canceled) { // the caller has gone, whatever it waited for
		return problem.Canceled
	}
	if p, ok := errors.AsType[*problem.Problem](err); ok {
		return p
	}
	if failed, ok := errors.AsType[*upstream.Error](err); ok {
		return cmp.Or(grantProblems[failed.Kind], problem.Refused)
	}
	if errors.Is(err, fresh.ErrNotFetched) {
		return problem.Unreachable
	}
	return problem.Refused // nothing was sent, for example because the secret's file is missing
}

// grantProblems are the problems of grants that failed, if not problem.Refused.
var grantProblems = map[upstream.Kind]*problem.Problem{
	upstream.Unreachable: problem.Unreachable,
	upstream.Slow:        problem.Slow,
	upstream.Throttled:   problem.Throttled,
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
//
// A path is compared as it was sent. http.ServeMux would redirect //getToken to /getToken,
// with the query in its answer, and would take /%67etToken for it.
func (s *service) routes(demoUserToken http.HandlerFunc) http.Handler {
	handlers := map[string]http.HandlerFunc{
		"/getToken":       s.getToken, // refuses other methods itself, to record that
		"/healthz":        s.onlyGet(healthz),
		"/readyz":         s.onlyGet(s.readyz),
		"/demo/userToken": demoUserToken, // nil: not found
	}
	return server.Headers(s.config.Origins, http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			if handler := handlers[r.URL.EscapedPath()]; handler != nil {
				handler(w, r)
			} else {
				s.writeProblem(w, r, problem.NotFound)
			}
		}))
}

// methods are those of every path. To HEAD net/http sends the answer without its body.
var methods = []string{http.MethodGet, http.MethodHead}

// onlyGet passes GET and HEAD to next, and refuses other methods.
func (s *service) onlyGet(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if slices.Contains(methods, r.Method) {
			next(w, r)
		} else {
			s.writeProblem(w, r, problem.Method)
		}
	}
}

// getToken answers with an iTwin token, or a problem. It records the request before it
// answers, so that no token leaves without its line in the log.
func (s *service) getToken(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	subject, token, err := s.exchange(r)
	if err != nil {
		p := problemOf(err)
		s.observer.Request(r.Context(), telemetry.Request{
			Status: p.Status, Reason: p.Reason, Duration: time.Since(start), Subject: subject,
		})
		if failed, ok := errors.AsType[*fresh.Error](err); ok {
			w.Header().Set("Retry-After", retryAfter(failed.Retry))
		}
		s.writeProblem(w, r, p)
		return
	}
	s.observer.Request(r.Context(), telemetry.Request{
		Status: http.StatusOK, Reason: "ok", Duration: time.Since(start), Subject: subject,
		Token: token.fingerprint,
	})
	writeToken(w, r, token)
}

// exchange returns the subject of the request's user token, and the iTwin token for it. It
// waits for keys and for a token only while a fetch is in progress.
func (s *service) exchange(r *http.Request) (subject string, token *itwinToken, err error) {
	if !slices.Contains(methods, r.Method) {
		return "", nil, problem.Method
	}
	subject, err = s.users.authorize(r.Context(), r.Header["Authorization"])
	if err != nil {
		return subject, nil, err
	}
	token, err = s.tokens.Get(r.Context())
	return subject, token, err
}

// authorize verifies the user token in the Authorization header and returns its subject.
func (v *verifier) authorize(ctx context.Context, header []string) (subject string, err error) {
	raw, err := bearerToken(header)
	if err != nil {
		return "", err
	}
	return v.verify(ctx, raw)
}

// bearerToken takes the token from the values of the Authorization header (RFC 6750 §2.1).
func bearerToken(header []string) (string, error) {
	if len(header) > 1 { // a proxy may have checked the other one
		return "", problem.TwoHeaders
	}
	scheme, token, _ := strings.Cut(strings.Join(header, ""), " ") // with no header: empty
	token = strings.Trim(token, " ")
	switch {
	case scheme != "" && !strings.EqualFold(scheme, "Bearer"):
		return "", problem.OtherScheme
	case token == "":
		return "", problem.NoToken
	case len(token) > maxToken:
		return "", problem.TooLong
	}
	if strings.HasPrefix(token, "eyJ") && strings.Count(token, ".") == 2 { // the form of a JWT
		return token, nil
	}
	for _, m := range mistakes {
		if m.sent.MatchString(token) {
			return "", m.problem
		}
	}
	if strings.ContainsAny(token, " ,") {
		return "", problem.TwoTokens
	}
	return token, nil
}

// mistakes are what programs send in place of a token. The first that matches counts. No
// pattern looks at more than the beginning: a token has up to 8 KiB.
var mistakes = []struct {
	problem *problem.Problem
	sent    *regexp.Regexp
}{
	// Missing values, as JavaScript, Swift, Objective-C, Go, Python and shells print them.
	{problem.EmptyValue, regexp.MustCompile(`(?i)^["']?(undefined|null|nan|nil|none|false)?["']?$`)},
	{problem.EmptyValue, regexp.MustCompile(`^(\(null\)$|<nil>$|\{\}$|\[\]$|\[object )`)},
	{problem.TwoSchemes, regexp.MustCompile(`(?i)^bearer( |$)`)},
	{problem.Quoted, regexp.MustCompile("^[\"'`“”‘’]")},
	{problem.Template, regexp.MustCompile(`^(<|\$|\{+ ?\w|%\w{1,40}%|Optional\()`)},
	{problem.Template, regexp.MustCompile(`^[A-Z_]{0,30}TOKEN$`)},
}

// retryAfter is the number of seconds until the time, at least 1.
func retryAfter(t time.Time) string {
	return strconv.Itoa(max(1, int(math.Ceil(fresh.Until(t).Seconds()))))
}

// writeToken writes the iTwin token, as text or as JSON.
func writeToken(w http.ResponseWriter, r *http.Request, token *itwinToken) {
	if server.PrefersJSON(r.Header) {
		server.WriteJSON(w, http.StatusOK, map[string]any{
			"access_token": strings.TrimPrefix(token.bearer.reveal(), "Bearer "),
			"token_type":   "Bearer",
			"expires_in":   int(fresh.Until(token.expiry).Seconds()),
		})
	} else {
		server.WriteText(w, http.StatusOK, token.bearer.reveal())
	}
}

// writeProblem writes the answer for a problem, with the headers that its status needs.
func (s *service) writeProblem(w http.ResponseWriter, r *http.Request, p *problem.Problem) {
	switch p.Status {
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
		w.Header().Set("WWW-Authenticate", s.challenge(p))
	case http.StatusMethodNotAllowed:
		w.Header().Set("Allow", strings.Join(methods, ", "))
	}
	if server.PrefersJSON(r.Header) {
		server.WriteJSON(w, p.Status, map[string]any{"error": p.Code, "error_description": p.Text})
	} else {
		server.WriteText(w, p.Status, p.Text+"\n")
	}
}

// challenge is the WWW-Authenticate header. If no bearer token was sent it has no error code
// (RFC 6750 §3).
func (s *service) challenge(p *problem.Problem) string {
	if p.Code == problem.MissingToken {
		return realm
	}
	challenge := realm + `, error="` + p.Code + `", error_description="` + p.Text + `"`
	if p.Status == http.StatusForbidden && len(s.config.RequiredScopes) > 0 {
		challenge += `, scope="` + strings.Join(s.config.RequiredScopes, " ") + `"`
	}
	return challenge
}

func healthz(w http.ResponseWriter, _ *http.Request) { server.WriteText(w, http.StatusOK, "ok\n") }

// readyz is 200 once there have been keys and a token, during an outage too: all
// replicas share it, and removing them all would refuse every connection.
func (s *service) readyz(w http.ResponseWriter, _ *http.Request) {
	var reasons []string
	for _, reason := range []struct {
		applies bool
		text    string
	}{
		{s.draining.Load(), "shutting down"},
		{s.users.keys.Begun().IsZero(), "no Auth0 keys yet"},
		{s.tokens.Begun().IsZero(), "no iTwin token yet"},
	} {
		if reason.applies {
			reasons = append(reasons, reason.text)
		}
	}
	if len(reasons) > 0 {
		server.WriteText(w, http.StatusServiceUnavailable,
			"not ready: "+strings.Join(reasons, ", ")+"\n")
	} else {
		server.WriteText(w, http.StatusOK, "ready\n")
	}
}
