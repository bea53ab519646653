package faults

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// rawLimit is for one exchange by hand; an answer takes a millisecond.
const rawLimit = 8 * time.Second

// dial opens a connection to be written to by hand.
func (s *server) dial() net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(rawLimit))
	s.t.Cleanup(func() { conn.Close() })
	return conn
}

// raw sends the bytes and returns all that comes, until the server closes.
func (s *server) raw(request string) (string, error) {
	conn := s.dial()
	if _, err := io.WriteString(conn, request); err != nil {
		return "", err
	}
	text, err := io.ReadAll(conn)
	return string(text), err
}

// Requests that two servers in a row could read as different ones. Each gets one
// answer, and the connection ends with it, so that nothing hidden in a body is ever
// taken for the next request.
func TestSmuggling(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve(t, "LOG_LEVEL=debug")
	s.ready()
	bearer := "Authorization: Bearer " + w.user() + "\r\n"
	const get, end = "GET /getToken HTTP/1.1\r\nHost: x\r\n", "\r\n"
	hidden := "GET /getToken HTTP/1.1\r\nHost: hidden\r\n" + bearer + end
	length := fmt.Sprintf("Content-Length: %d\r\n", len(hidden))
	for _, c := range []struct {
		name, request string
		statuses      []int
	}{
		{"two Content-Lengths", get + "Content-Length: 0\r\n" + length + end + hidden, []int{400}},
		{"a list of Content-Lengths", get + "Content-Length: 0, 5\r\n" + end + hidden, []int{400}},
		{"a signed Content-Length", get + "Content-Length: +5\r\n" + end + hidden, []int{400}},
		{"CL with TE", get + length + "Transfer-Encoding: chunked\r\n" + end + "0\r\n\r\n" + hidden, []int{400, 401}},
		{"TE with CL", get + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n" + end + "0\r\n\r\n" + hidden, []int{400, 401}},
		{"TE of a made-up kind", get + "Transfer-Encoding: xchunked\r\n" + length + end + hidden, []int{400, 501}},
		{"two TEs", get + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n" + end + "0\r\n\r\n" + hidden, []int{400, 501}},
		{"a body that is a request", get + length + end + hidden, []int{401}},
		{"chunks with bad sizes", get + "Transfer-Encoding: chunked\r\n" + end + "zz\r\n" + hidden, []int{400, 401}},
		{"a folded header", get + "X-A: b\r\n c\r\nConnection: close\r\n" + end, []int{400, 401}},
		{"a folded first header", "GET /getToken HTTP/1.1\r\n Host: x\r\n" + bearer + end, []int{400}},
		{"a bare CR in a value", get + "X-A: b\rAuthorization: Bearer x\r\n" + end, []int{400}},
		{"a bare CR in a name", get + "X-A\r: b\r\n" + end, []int{400}},
		{"NUL in a value", get + "X-A: b\x00c\r\n" + bearer + end, []int{400}},
		{"NUL in the path", "GET /getToken\x00 HTTP/1.1\r\nHost: x\r\n" + end, []int{400}},
		{"a space before the colon", get + "Authorization : Bearer x\r\n" + end, []int{400}},
		{"a tab before the colon", get + "Content-Length\t: 5\r\n" + end + hidden, []int{400}},
		{"two Authorization headers", get + bearer + "authorization: Bearer x\r\nConnection: close\r\n" + end, []int{400}},
		{"the same Authorization twice", get + bearer + bearer + "Connection: close\r\n" + end, []int{400}},
		{"two Hosts", get + "Host: y\r\n" + bearer + end, []int{400}},
		{"no Host", "GET /getToken HTTP/1.1\r\n" + bearer + end, []int{400}},
		{"HTTP/0.9", "GET /getToken\r\n" + bearer + end, []int{400}},
		{"HTTP/2 over plain text", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", []int{400, 404, 405, 505}},
	} {
		text, err := s.raw(c.request)
		if err != nil && !isReset(err) {
			t.Errorf("%s: %v after %q", c.name, err, text)
		}
		checkOne(t, c.name, text, c.statuses)
	}
	s.ask(w.user()).want(t, "an honest caller afterwards", 200)
}

// isReset allows for a server that closes a connection with something unread in it.
func isReset(err error) bool {
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// checkOne wants one answer, of one of the statuses, without a token in it.
func checkOne(t *testing.T, what, text string, statuses []int) {
	t.Helper()
	status := 0
	if fields := strings.Fields(text); len(fields) > 1 {
		status, _ = strconv.Atoi(fields[1])
	}
	if !slices.Contains(statuses, status) {
		t.Errorf("%s: got %q, want %v", what, text, statuses)
	}
	if n := strings.Count(text, "HTTP/1."); n != 1 {
		t.Errorf("%s: got %d answers, want 1: %q", what, n, text)
	}
	if strings.Contains(text, "Bearer eyJ") {
		t.Errorf("%s: got a token", what)
	}
}

// A header of 1 MiB is refused before all of it has come.
func TestHugeHeader(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve(t)
	s.ready()
	before := s.memory()
	for _, request := range []string{
		"GET /getToken HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("a", 1<<20) + "\r\n\r\n",
		"GET /getToken HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X-A: a\r\n", 1<<17) + "\r\n",
		"GET /" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		conn := s.dial()
		go io.WriteString(conn, request) // the server need not read all of it
		line, _ := bufio.NewReader(conn).ReadString('\n')
		if line != "" && !strings.HasPrefix(line, "HTTP/1.1 431") {
			t.Errorf("1 MiB of header: got %q, want 431, or to be cut", line)
		}
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("1 MiB of header: the connection stays open")
		}
	}
	s.flat("1 MiB of header", before)
	s.ask(w.user()).want(t, "an honest caller afterwards", 200)
	a := "Bearer " + strings.Repeat("a", 17<<10)
	s.ask(a).want(t, "a token of 17 KiB", 401)
}

// A body of 100 MB is announced and sent: the answer comes at once, and the body is
// not read.
func TestHugeBody(t *testing.T) {
	t.Parallel()
	const announced, buffers = 100_000_000, 16 << 20 // what the two ends of a socket may hold
	w := newWorld(t)
	s := w.serve(t)
	s.ready()
	before := s.memory()
	for method, status := range map[string]string{"GET": "200", "POST": "405"} {
		conn := s.dial()
		fmt.Fprintf(conn, "%s /getToken HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", method, w.user(), announced)
		sent := make(chan int64, 1)
		go func() {
			n, _ := io.Copy(conn, io.LimitReader(zeros{}, announced))
			sent <- n
		}()
		line, err := bufio.NewReader(conn).ReadString('\n')
		if !strings.HasPrefix(line, "HTTP/1.1 "+status) {
			t.Errorf("%s with 100 MB: got %q (%v), want %s", method, line, err, status)
		}
		if n := <-sent; n > buffers {
			t.Errorf("%s with 100 MB: %d bytes were taken, want none read", method, n)
		}
	}
	s.flat("100 MB of body", before)
}

// A body that is announced and never comes does not delay the answer.
func TestBodyThatNeverComes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve(t)
	s.ready()
	for _, body := range []string{"Content-Length: 10", "Transfer-Encoding: chunked", "Content-Length: 10\r\nExpect: 100-continue"} {
		conn := s.dial()
		fmt.Fprintf(conn, "GET /getToken HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n%s\r\n\r\n", w.user(), body)
		line, err := bufio.NewReader(conn).ReadString('\n')
		if !strings.HasPrefix(line, "HTTP/1.1 200") {
			t.Errorf("%s: got %q (%v), want 200 without the body", body, line, err)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// flat wants no more than 16 MiB on top of the memory before.
func (s *server) flat(what string, before int) {
	s.t.Helper()
	if after := s.memory(); after > before+16<<20 && !raceEnabled {
		s.t.Errorf("%s: memory went from %d to %d KiB, want at most 16 MiB more", what, before>>10, after>>10)
	}
}
