package faults

import (
	"bufio"
	"fmt"
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

const (
	// noWait is what an answer takes at most that waits for nothing, on a busy machine.
	noWait = 1500 * time.Millisecond
	// maxWait is the 10 s that a caller waits at most.
	maxWait = 10*time.Second + noWait
)

// A connection sends one request after the other. Unlike http.Client it repeats none
// after a broken connection.
type connection struct {
	net.Conn
	answers *bufio.Reader
	dialed  time.Time
	used    bool
}

func (p *process) dial() (*connection, error) {
	dialed := time.Now()
	conn, err := net.Dial("tcp", p.addr)
	return &connection{conn, bufio.NewReader(conn), dialed, false}, err
}

// open opens connections, which are closed when the test ends.
func (p *process) open(n int) []*connection {
	p.t.Helper()
	conns := make([]*connection, n)
	for i := range conns {
		var err error
		if conns[i], err = p.dial(); err != nil {
			p.t.Fatal(err)
		}
		p.t.Cleanup(func() { conns[i].Close() })
	}
	return conns
}

// A result is what a client got.
type result struct {
	status     int // 0: no answer
	header     http.Header
	body       string
	err        error // why there is no answer
	start, end time.Time
	dialed     time.Time
	first      bool // on its connection
	last       bool
}

func (r result) took() time.Duration { return r.end.Sub(r.start) }

// retryAfter is 0 without the header.
func (r result) retryAfter() int {
	seconds, _ := strconv.Atoi(r.header.Get("Retry-After"))
	return seconds
}

// request requests a path, with a token if that is not empty.
func (p *process) request(conn *connection, path, token string) result {
	p.t.Helper()
	r := result{start: time.Now(), dialed: conn.dialed, first: !conn.used}
	conn.used = true
	conn.SetDeadline(r.start.Add(time.Minute))
	authorization := ""
	if token != "" {
		authorization = "Authorization: Bearer " + token + "\r\n"
	}
	_, r.err = fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", path, authorization)
	var resp *http.Response
	var body []byte
	if r.err == nil {
		resp, r.err = http.ReadResponse(conn.answers, nil)
	}
	if r.err == nil {
		body, r.err = io.ReadAll(resp.Body)
	}
	r.end = time.Now()
	if r.err != nil {
		return r
	}
	r.status, r.header, r.body, r.last = resp.StatusCode, resp.Header, string(body), resp.Close
	if path == "/getToken" {
		p.check(r)
	}
	return r
}

// get is request on a connection of its own.
func (p *process) get(path, token string) result {
	p.t.Helper()
	conn, err := p.dial()
	if err != nil {
		return result{err: err}
	}
	defer conn.Close()
	return p.request(conn, path, token)
}

func (p *process) getToken(token string) result {
	p.t.Helper()
	return p.get("/getToken", token)
}

// together sends a request on each connection at once.
func (p *process) together(conns []*connection, tokens []string) []result {
	results := make([]result, len(conns))
	var clients sync.WaitGroup
	for i, conn := range conns {
		clients.Go(func() { results[i] = p.request(conn, "/getToken", tokens[i%len(tokens)]) })
	}
	clients.Wait()
	return results
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
	text := fmt.Sprint(r.header, r.body)
	if err := p.leaks(text, p.secrets()); err != nil {
		p.t.Errorf("an answer %d %v: %s", r.status, err, text)
	}
	if r.status >= 500 && r.retryAfter() < 1 {
		p.t.Errorf("an answer %d has Retry-After %q, want seconds", r.status, r.header.Get("Retry-After"))
	}
}

func (r result) want(t *testing.T, what string, statuses ...int) {
	t.Helper()
	wantAll(t, what, []result{r}, maxWait, statuses...)
}

// wantAll reports results of other statuses or after a longer wait, the first three in full.
func wantAll(t *testing.T, what string, results []result, wait time.Duration, statuses ...int) {
	t.Helper()
	wrong := 0
	for _, r := range results {
		if slices.Contains(statuses, r.status) && r.took() <= wait {
			continue
		}
		if wrong++; wrong <= 3 {
			t.Errorf("%s: got status %d (%v) %q after %v, want %v within %v", what, r.status, r.err, r.body, r.took(), statuses, wait)
		}
	}
	if wrong > 3 || len(results) == 0 {
		t.Errorf("%s: %d of %d results are not %v", what, wrong, len(results), statuses)
	}
}

// await requests the path ten times a second until the answer has the status, and
// returns how long that took.
func (p *process) await(what, path, token string, status int, timeout time.Duration) time.Duration {
	p.t.Helper()
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		r := p.get(path, token)
		if r.status == status {
			return time.Since(start)
		}
		if time.Since(start) > timeout {
			p.t.Fatalf("%s: got status %d (%v) %q, want %d within %v", what, r.status, r.err, r.body, status, timeout)
		}
	}
}
