//go:build long

package faults

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"itwin-token-server/internal/standin"
)

// 300 connections that trickle their headers are cut after 10 s, and honest callers
// are served meanwhile.
func TestTricklingHeaders(t *testing.T) {
	t.Parallel()
	const crowd, bound = 300, 12 * time.Second // 10 s, and what a busy machine adds
	w := newWorld(t)
	s := w.serve(t)
	s.ready()
	machine := s.control(t)
	honest := s.load(t, 4, 20*time.Millisecond, oneOf(w.users(10)))
	before := s.descriptors()

	var trickling sync.WaitGroup
	for range crowd {
		conn := s.dial()
		trickling.Go(func() {
			if took := trickle(conn); took > bound {
				t.Errorf("a trickling connection lived %v, want 10 s", took)
			}
		})
	}
	trickling.Wait()
	answers := honest.end()
	wantAll(t, "honest callers", answers, 200)
	longest := machine.checkWaits("honest callers", answers, waitBound)
	time.Sleep(time.Second)
	if after := s.descriptors(); after > before+10 {
		t.Errorf("%d descriptors, %d before: the cut connections are still held", after, before)
	}
	t.Logf("honest callers waited %v at most", longest)
}

// trickle sends a header a byte at a time, until the connection is cut, and returns
// how long that took.
func trickle(conn net.Conn) time.Duration {
	began := time.Now()
	conn.SetDeadline(began.Add(20 * time.Second))
	go func() {
		for _, b := range []byte("GET /getToken HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("a", 100)) {
			if _, err := conn.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(200 * time.Millisecond)
		}
	}()
	io.Copy(io.Discard, conn) // until it is cut
	return time.Since(began)
}

// 2,000 connections at once, each open before the first has asked, are all served,
// twice.
func TestTwoThousandConnections(t *testing.T) {
	t.Parallel()
	const crowd = 2000
	w := newWorld(t)
	s := w.serve(t)
	s.ready()
	request := fmt.Sprintf("GET /getToken HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", w.user())
	conns := make([]net.Conn, crowd)
	for i := range conns {
		conns[i] = s.dial()
		conns[i].SetDeadline(time.Now().Add(30 * time.Second))
	}
	for range 2 {
		var callers sync.WaitGroup
		for _, conn := range conns {
			callers.Go(func() {
				io.WriteString(conn, request)
				line, err := bufio.NewReader(conn).ReadString('\n')
				if !strings.HasPrefix(line, "HTTP/1.1 200") {
					t.Errorf("one of %d: got %q (%v), want 200", crowd, line, err)
				}
			})
		}
		callers.Wait()
	}
	if n := s.descriptors(); n < crowd {
		t.Errorf("%d descriptors, want %d: they were not open at once", n, crowd)
	}
	for _, conn := range conns {
		conn.Close()
	}
	time.Sleep(2 * time.Second)
	if n := s.descriptors(); n > 50 {
		t.Errorf("%d descriptors after all have gone", n)
	}
}

// SIGTERM under load, with some waiting for a slow IMS: whoever asked before, or
// while the server still listens, is answered; the exit is in order.
func TestShutdownUnderLoad(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fault standin.Fault // of the first grant
	}{
		{"with a token", nil},
		{"waiting for the first token", standin.Delay(5 * time.Second)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.IMS.Misbehave(c.fault)
			tokens := w.users(20)
			s := w.serve(t)
			l := s.load(t, 50, 5*time.Millisecond, oneOf(tokens))
			time.Sleep(3 * time.Second)
			s.terminate()
			began := time.Now()
			s.drains(began)
			s.exitsWell(began)
			took := time.Since(began)
			answers := l.end()
			refused, heard := 0, 0
			for _, a := range answers {
				if a.status != 0 {
					heard++
					a.want(t, "who was heard", 200)
				} else if refused++; a.began.Before(began.Add(800 * time.Millisecond)) {
					// It goes on listening for 1 s, for probes and for whom they steer.
					t.Errorf("a question %v after SIGTERM was not answered: %v", a.began.Sub(began), a.err)
				}
			}
			t.Logf("over after %v; %d answered, %d refused", took, heard, refused)
		})
	}
}
