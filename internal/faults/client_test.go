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
}

func (p *process) dial() (*connection, error) {
	conn, err := net.Dial("tcp", p.addr)
	return &connection{conn, bufio.NewReader(conn)}, err
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
	last       bool // the answer ends its connection
}

func (r result) took() time.Duration { return r.end.Sub(r.start) }

// request requests a path, with a token if that is not empty.
func (p *process) request(conn *connection, path, token string) result {
	p.t.Helper()
	r := result{start: time.Now()}
	conn.SetDeadline(r.start.Add(time.Minute))
	authorization := ""
	if token != "" {
		authorization = "Authorization: Bearer " + token + "\r\n"
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n", path, authorization)
	resp, err := http.ReadResponse(conn.answers, nil) // fails if the request could not be sent
	if err != nil {
		r.end, r.err = time.Now(), err
		return r
	}
	body, err := io.ReadAll(resp.Body)
	r.end, r.err = time.Now(), err
	if err != nil {
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

// getTokens sends a request on each connection at once.
func (p *process) getTokens(conns []*connection, tokens []string) []result {
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
	if r.status == http.StatusOK {
		if token, ok := strings.CutPrefix(r.body, "Bearer "); !ok || !p.IMS.Valid(token) {
			p.t.Errorf("200 with %q, want Bearer and a valid token of IMS", r.body)
		}
		return
	}
	text := fmt.Sprint(r.header, r.body)
	if err := p.leaks(text); err != nil {
		p.t.Errorf("an answer %d %v: %s", r.status, err, text)
	}
	retryAfter := r.header.Get("Retry-After")
	if seconds, _ := strconv.Atoi(retryAfter); r.status >= 500 && seconds < 1 {
		p.t.Errorf("an answer %d has Retry-After %q, want seconds", r.status, retryAfter)
	}
}

func (r result) wantStatus(t *testing.T, what string, statuses ...int) {
	t.Helper()
	wantStatuses(t, what, []result{r}, maxWait, statuses...)
}

// wantStatuses reports results with another status or after a longer wait, the first
// three in full. There must be a result.
func wantStatuses(t *testing.T, what string, got []result, wait time.Duration, statuses ...int) {
	t.Helper()
	wrong := slices.DeleteFunc(slices.Clone(got), func(r result) bool {
		return slices.Contains(statuses, r.status) && r.took() <= wait
	})
	for _, r := range wrong[:min(3, len(wrong))] {
		t.Errorf("%s: got status %d (%v) %q after %v, want %v within %v",
			what, r.status, r.err, r.body, r.took(), statuses, wait)
	}
	if len(wrong) > 3 || len(got) == 0 {
		t.Errorf("%s: %d of %d results are not %v", what, len(wrong), len(got), statuses)
	}
}

// await requests the path ten times a second until the answer has the status.
func (p *process) await(what, path, token string, status int, timeout time.Duration) {
	p.t.Helper()
	for start := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		r := p.get(path, token)
		if r.status == status {
			return
		}
		if time.Since(start) > timeout {
			p.t.Fatalf("%s: got status %d (%v) %q, want %d within %v",
				what, r.status, r.err, r.body, status, timeout)
		}
	}
}
