package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// stuck bounds one call of send: longer, and the target hangs.
const stuck = 2 * time.Minute

// pool is a number of raw keep-alive connections to one target. Requests are
// bytes made beforehand, so that the load costs the machine little.
type pool []*conn

type conn struct {
	net.Conn
	answer [4 << 10]byte
}

// dial opens n connections to addr, in order, so that no backlog overflows.
func dial(addr string, n int) (pool, error) {
	var p pool
	for range n {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			p.close()
			return nil, fmt.Errorf("connection %d of %d: %w", len(p)+1, n, err)
		}
		p = append(p, &conn{Conn: c})
	}
	return p, nil
}

func (p pool) close() {
	for _, c := range p {
		c.Close()
	}
}

// send sends n requests, request(0) to request(n-1), each once, over all the
// connections at the same time, each with one request under way. Every answer
// must be a 200 whose body begins with want; send ends at the first that isn't.
func (p pool) send(n int, request func(int) []byte, want string) error {
	var (
		next   atomic.Int64
		failed atomic.Bool
		errs   = make(chan error, len(p))
		wg     sync.WaitGroup
	)
	for _, c := range p {
		wg.Go(func() {
			c.SetDeadline(time.Now().Add(stuck))
			for !failed.Load() {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := c.exchange(request(i), want); err != nil {
					failed.Store(true)
					errs <- fmt.Errorf("request %d of %d: %w", i+1, n, err)
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs // nil from a closed channel
}

// exchange sends one request and reads its answer whole.
func (c *conn) exchange(request []byte, want string) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	for n := 0; ; {
		m, err := c.Read(c.answer[n:])
		if n += m; err != nil {
			return fmt.Errorf("%w after %q", err, c.answer[:n])
		}
		switch done, err := whole(c.answer[:n], want); {
		case err != nil:
			return err
		case done:
			return nil
		case n == len(c.answer):
			return fmt.Errorf("an answer of over %d bytes", n)
		}
	}
}

var (
	headEnd       = []byte("\r\n\r\n")
	contentLength = []byte("\r\nContent-Length: ")
	ok200         = []byte("HTTP/1.1 200 OK\r\n")
)

// whole says whether data is all of a good answer. Data that can't become one
// is an error that shows it.
func whole(data []byte, want string) (bool, error) {
	head, body, ended := bytes.Cut(data, headEnd)
	if !ended {
		return false, nil
	}
	if !bytes.HasPrefix(data, ok200) {
		return false, fmt.Errorf("got %q, want a 200", data)
	}
	_, length, _ := bytes.Cut(head, contentLength)
	length, _, _ = bytes.Cut(length, []byte("\r\n"))
	size, err := strconv.Atoi(string(length))
	if err != nil {
		return false, fmt.Errorf("got %q, want a Content-Length", data)
	}
	if len(body) < size {
		return false, nil
	}
	if len(body) > size || !bytes.HasPrefix(body, []byte(want)) {
		return false, fmt.Errorf("got %q, want a body of %d bytes that begins with %q", data, size, want)
	}
	return true, nil
}

// record sends one request over a connection of its own and returns the answer
// as it came, for bare and floor to give back.
func record(addr string, request []byte, want string) ([]byte, error) {
	p, err := dial(addr, 1)
	if err != nil {
		return nil, err
	}
	defer p.close()
	if err := p.send(1, func(int) []byte { return request }, want); err != nil {
		return nil, err
	}
	answer := p[0].answer[:]
	parsed, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(answer)), nil)
	if err != nil {
		return nil, err
	}
	if parsed.ContentLength <= 0 {
		return nil, errors.New("the recorded answer has no body")
	}
	end := bytes.Index(answer, headEnd) + len(headEnd) + int(parsed.ContentLength)
	return bytes.Clone(answer[:end]), nil
}
