package faults

import (
	"context"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// An answer is what a caller got.
type answer struct {
	status int // 0: none
	header http.Header
	body   string
	err    error // why there is none
	began  time.Time
	took   time.Duration
}

// newClient is a client of its own connections, which end with the test.
func newClient(t *testing.T) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 1000, DialContext: (&net.Dialer{}).DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// get asks for a path with a token, or with none if that is empty.
func (s *server) get(ctx context.Context, client *http.Client, path, token string) answer {
	s.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+path, nil)
	if err != nil {
		return answer{err: err, began: time.Now()}
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	a := answer{began: time.Now()}
	resp, err := client.Do(req)
	if err == nil {
		defer resp.Body.Close()
		var body []byte
		body, err = io.ReadAll(resp.Body)
		a.status, a.header, a.body = resp.StatusCode, resp.Header, string(body)
	}
	a.took = time.Since(a.began)
	if err != nil {
		return answer{err: err, began: a.began, took: a.took}
	}
	if path == "/getToken" {
		s.check(a)
	}
	return a
}

// ask is a caller with this token, who is patient.
func (s *server) ask(token string) answer {
	s.t.Helper()
	return s.get(s.t.Context(), http.DefaultClient, "/getToken", token)
}

// check holds an answer against what is true of every answer: a token that IMS
// issued and that lives, or a refusal that gives nothing away and, where upstream
// is to blame, says when to come again.
func (s *server) check(a answer) {
	s.t.Helper()
	if a.header.Get("Cache-Control") != "no-store" {
		s.t.Errorf("an answer %d may be cached", a.status)
	}
	if a.status == http.StatusOK {
		if token, ok := strings.CutPrefix(a.body, "Bearer "); !ok || !s.world.IMS.Valid(token) {
			s.t.Errorf("200 with %q, want Bearer and a token of IMS that lives", a.body)
		}
		return
	}
	var said strings.Builder
	a.header.Write(&said)
	if err := s.world.leaks(said.String()+a.body, s.world.secrets()); err != nil {
		s.t.Errorf("an answer %d %v: %s%s", a.status, err, said.String(), a.body)
	}
	seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
	if a.status >= 500 && (err != nil || seconds < 1) {
		s.t.Errorf("an answer %d has Retry-After %q, want seconds", a.status, a.header.Get("Retry-After"))
	}
}

// want is check for the status too.
func (a answer) want(t *testing.T, what string, statuses ...int) {
	t.Helper()
	if !slices.Contains(statuses, a.status) {
		t.Errorf("%s: got status %d (%v) %q after %v, want %v", what, a.status, a.err, a.body, a.took, statuses)
	}
}

// eventually asks with the token until it is answered with the status, and returns
// how long that took. It is at least tenacious: ten times a second.
func (s *server) eventually(what, token string, status int, patience time.Duration) time.Duration {
	s.t.Helper()
	began := time.Now()
	for {
		a := s.ask(token)
		switch {
		case a.status == status:
			return time.Since(began)
		case time.Since(began) > patience:
			s.t.Errorf("%s: got status %d (%v) %q, want %d within %v", what, a.status, a.err, a.body, status, patience)
			return time.Since(began)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// ready waits until the server has keys and a token.
func (s *server) ready() {
	s.t.Helper()
	s.becomesReady(startLimit)
}

// keyed waits until the server has Auth0's keys, whatever IMS does.
func (s *server) keyed() {
	s.t.Helper()
	for {
		a := s.get(s.t.Context(), http.DefaultClient, "/readyz", "")
		switch {
		case a.err == nil && !strings.Contains(a.body, "no keys"):
			return
		case time.Since(s.started) > startLimit:
			s.t.Fatalf("no keys after %v: %v %s", startLimit, a.err, a.body)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// becomesReady looks at /readyz, which hastens nothing, and returns how long it
// took.
func (s *server) becomesReady(patience time.Duration) time.Duration {
	s.t.Helper()
	began := time.Now()
	for {
		if a := s.get(s.t.Context(), http.DefaultClient, "/readyz", ""); a.status == http.StatusOK {
			return time.Since(began)
		} else if time.Since(began) > patience {
			s.t.Fatalf("not ready after %v: %d (%v) %s", patience, a.status, a.err, a.body)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// together has n callers ask at the same moment, each on a connection of its own,
// and returns the answers.
func (s *server) together(n int, tokens []string) []answer {
	answers := make([]answer, n)
	client := newClient(s.t)
	var callers sync.WaitGroup
	for i := range answers {
		callers.Go(func() { answers[i] = s.get(s.t.Context(), client, "/getToken", tokens[i%len(tokens)]) })
	}
	callers.Wait()
	return answers
}

// counter adds up the samples of a metric whose labels hold the text.
func (s *server) counter(name, labels string) int {
	s.t.Helper()
	resp, err := http.Get("http://" + s.metrics + "/metrics")
	if err != nil {
		s.t.Errorf("metrics: %v", err)
		return 0
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Errorf("metrics: %v", err)
	}
	sum := 0
	for line := range strings.Lines(string(text)) {
		sample, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(sample, "itwin_token_server_"+name) && strings.Contains(sample, labels) {
			n, _ := strconv.Atoi(value)
			sum += n
		}
	}
	return sum
}
