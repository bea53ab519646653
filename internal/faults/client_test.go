package faults

import (
	"context"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A result is what a client got.
type result struct {
	status     int // 0: no answer
	header     http.Header
	body       string
	err        error // why there is no answer
	start, end time.Time
}

func (r result) took() time.Duration { return r.end.Sub(r.start) }

// newClient has connections of its own, which are closed when the test ends.
func newClient(t *testing.T) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 1000}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// get requests a path, with a token if that is not empty.
func (p *process) get(ctx context.Context, client *http.Client, path, token string) result {
	p.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.addr+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	r := result{start: time.Now()}
	resp, err := client.Do(req)
	if err == nil {
		var body []byte
		body, err = io.ReadAll(resp.Body)
		resp.Body.Close()
		r.status, r.header, r.body = resp.StatusCode, resp.Header, string(body)
	}
	r.end = time.Now()
	if err != nil {
		return result{err: err, start: r.start, end: r.end}
	}
	if path == "/getToken" {
		p.check(r)
	}
	return r
}

func (p *process) getToken(token string) result {
	p.t.Helper()
	return p.get(p.t.Context(), http.DefaultClient, "/getToken", token)
}

// check checks what holds for every answer: a valid token of IMS, or a refusal that
// shows no secret and, if upstream is the cause, says when to try again.
func (p *process) check(r result) {
	p.t.Helper()
	if r.header.Get("Cache-Control") != "no-store" {
		p.t.Errorf("an answer %d may be cached", r.status)
	}
	if r.status == http.StatusOK {
		if token, ok := strings.CutPrefix(r.body, "Bearer "); !ok || !p.IMS.Valid(token) {
			p.t.Errorf("200 with %q, want Bearer and a valid token of IMS", r.body)
		}
		return
	}
	var header strings.Builder
	r.header.Write(&header)
	if err := p.leaks(header.String()+r.body, p.secrets()); err != nil {
		p.t.Errorf("an answer %d %v: %s%s", r.status, err, header.String(), r.body)
	}
	if r.status >= 500 && r.retryAfter() < 1 {
		p.t.Errorf("an answer %d has Retry-After %q, want seconds", r.status, r.header.Get("Retry-After"))
	}
}

// retryAfter is 0 without the header.
func (r result) retryAfter() int {
	seconds, _ := strconv.Atoi(r.header.Get("Retry-After"))
	return seconds
}

func (r result) want(t *testing.T, what string, statuses ...int) {
	t.Helper()
	if !slices.Contains(statuses, r.status) {
		t.Errorf("%s: got status %d (%v) %q after %v, want %v", what, r.status, r.err, r.body, r.took(), statuses)
	}
}

// await requests the path ten times a second until the answer has the status, and
// returns how long that took.
func (p *process) await(what, path, token string, status int, timeout time.Duration) time.Duration {
	p.t.Helper()
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		r := p.get(p.t.Context(), http.DefaultClient, path, token)
		if r.status == status {
			return time.Since(start)
		}
		if time.Since(start) > timeout {
			p.t.Fatalf("%s: got status %d (%v) %q, want %d within %v", what, r.status, r.err, r.body, status, timeout)
		}
	}
}

// ready waits for /readyz, which brings no fetch forward.
func (p *process) ready(timeout time.Duration) time.Duration {
	p.t.Helper()
	return p.await("readiness", "/readyz", "", 200, timeout)
}

// together sends n requests at once, each on a connection of its own.
func (p *process) together(n int, tokens []string) []result {
	results := make([]result, n)
	client := newClient(p.t)
	var clients sync.WaitGroup
	for i := range results {
		clients.Go(func() { results[i] = p.get(p.t.Context(), client, "/getToken", tokens[i%len(tokens)]) })
	}
	clients.Wait()
	return results
}

// wantAll reports results of other statuses, the first three in full.
func wantAll(t *testing.T, what string, results []result, statuses ...int) {
	t.Helper()
	wrong := slices.DeleteFunc(slices.Clone(results), func(r result) bool { return slices.Contains(statuses, r.status) })
	for _, r := range wrong[:min(3, len(wrong))] {
		r.want(t, what, statuses...)
	}
	if len(wrong) > 3 || len(results) == 0 {
		t.Errorf("%s: %d of %d results are not %v", what, len(wrong), len(results), statuses)
	}
}

// slowest is the longest time that a request took.
func slowest(results []result) time.Duration {
	var longest time.Duration
	for _, r := range results {
		longest = max(longest, r.took())
	}
	return longest
}
