package main

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"itwin-token-server/internal/fresh"
	"itwin-token-server/internal/problem"
	"itwin-token-server/internal/server"
	"itwin-token-server/internal/settings"
	"itwin-token-server/internal/telemetry"
	"itwin-token-server/internal/upstream"
)

// bearerChallenge begins every WWW-Authenticate header.
const bearerChallenge = `Bearer realm="itwin-token-server"`

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

// newService returns a service; no fetch runs yet.
func newService(c config, transport http.RoundTripper, log *slog.Logger) *service {
	statuses := map[string]int{"ok": http.StatusOK}
	for _, p := range problem.All() {
		statuses[p.Reason] = p.Status
	}
	s := &service{config: c, log: log}
	observe := telemetry.Config{
		Log:      log,
		Version:  version,
		Statuses: statuses,
		// Called at a scrape only: users and tokens, which report to the observer, are made last.
		KeysFetched: func() time.Time { return s.users.keys.Begun() },
		TokenExpiry: func() time.Time {
			if token := s.tokens.Last(); token != nil {
				return token.expiry
			}
			return time.Time{}
		},
	}
	if c.Certificate != nil {
		observe.CertificateExpiry = c.Certificate.Expiry
	}
	s.observer = telemetry.New(observe)
	s.users = newVerifier(c, transport, s.observer.KeyFetch)
	s.tokens = newTokens(c, transport, s.observer.Grant)
	return s
}

// announce logs where the server can be reached and which setting chose its port, warns
// about plain http beyond this machine, and logs the warnings about the settings.
func (s *service) announce(addr net.Addr, found *settings.Findings) {
	s.log.Info("listening", "addr", addr.String(), "port_from", found.Setting(prefix+"PORT").Source)
	scheme := "http"
	if s.config.Certificate != nil {
		scheme = "https"
	}
	for _, a := range server.Addresses(addr) {
		s.log.Info("reachable", "from", a.From, "url", scheme+"://"+a.HostPort+"/getToken")
	}
	if s.config.Certificate == nil && !addr.(*net.TCPAddr).IP.IsLoopback() {
		s.log.Warn("plain http: anyone on the same network can read the tokens; set " + prefix +
			"TLS_CERT_FILE and _TLS_KEY_FILE, or make this port reachable for a TLS proxy only")
	}
	for _, warning := range found.Warnings {
		s.log.Warn(warning)
	}
}

// run serves the handler until ctx ends and the requests in flight are answered.
func (s *service) run(ctx context.Context, open ports, handler http.Handler) error {
	// Requests in flight still need keys and token when ctx has ended.
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { s.users.keys.Run(background) })
	running.Go(func() { s.tokens.Run(background) })
	srv := server.Server{
		Listener: open.tokens, Handler: handler, Certificate: s.config.Certificate, Log: s.log,
		Stopping: func() {
			s.draining.Store(true)
			s.log.Info("shutting down")
		},
	}
	if open.metrics != nil {
		running.Go(func() { server.ServeMetrics(background, open.metrics, s.observer, s.log) })
	}
	return server.Run(ctx, srv)
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
// (RFC 6750 §3). The required scopes are in it for every 403, also that of an organization,
// since the next token must have both.
func (s *service) challenge(p *problem.Problem) string {
	if p.Code == problem.MissingToken {
		return bearerChallenge
	}
	challenge := bearerChallenge + `, error="` + p.Code + `", error_description="` + p.Text + `"`
	if p.Status == http.StatusForbidden && len(s.config.RequiredScopes) > 0 {
		challenge += `, scope="` + strings.Join(s.config.RequiredScopes, " ") + `"`
	}
	return challenge
}

func healthz(w http.ResponseWriter, _ *http.Request) { server.WriteText(w, http.StatusOK, "ok\n") }

// readyz is 200 once there have been keys and a token, during an outage of Auth0 or IMS too:
// it hits all replicas, and removing them all would refuse every connection.
func (s *service) readyz(w http.ResponseWriter, _ *http.Request) {
	var reasons []string
	if s.draining.Load() {
		reasons = append(reasons, "shutting down")
	}
	if s.users.keys.Begun().IsZero() {
		reasons = append(reasons, "no Auth0 keys yet")
	}
	if s.tokens.Begun().IsZero() {
		reasons = append(reasons, "no iTwin token yet")
	}
	if len(reasons) > 0 {
		server.WriteText(w, http.StatusServiceUnavailable,
			"not ready: "+strings.Join(reasons, ", ")+"\n")
	} else {
		server.WriteText(w, http.StatusOK, "ready\n")
	}
}
