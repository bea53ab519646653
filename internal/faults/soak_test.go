//go:build soak

package faults

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"itwin-token-server/internal/standin"
)

var soak = flag.Duration("soak", 10*time.Minute, "how long to soak; the first tenth is compared with the last")

// Mixed load with faults coming and going: nothing grows between the first tenth of
// the time and the last, every 200 carries a good token, and no honest caller is
// told that it is at fault.
func TestSoak(t *testing.T) {
	w := newWorld(t)
	w.IMS.SetLife(10 * time.Second)
	fresh := w.serve(t)
	fresh.ready()
	atFirst := fresh.goroutines()

	s := w.serve(t)
	s.ready()
	pool := &atomic.Pointer[func() string]{}
	w.signIn(pool)
	honest := s.load(t, 8, 20*time.Millisecond, func() string { return (*pool.Load())() })
	strangers := s.load(t, 2, 50*time.Millisecond, w.strangers())
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	go s.rude(ctx)
	go s.leaving(ctx, w.user())
	go w.trouble(ctx, pool)

	first, last := s.sample(*soak)
	stop()
	answers, refused := honest.end(), strangers.end()
	wantAll(t, "honest callers", answers, 200, 502, 503, 504)
	wantAll(t, "unknown keys", refused, 401)
	good := len(slices.DeleteFunc(slices.Clone(answers), func(a answer) bool { return a.status != 200 }))
	if good < len(answers)/2 {
		t.Errorf("%d of %d honest callers got a token, want half of them", good, len(answers))
	}
	first.compare(t, last)
	honest.client.CloseIdleConnections()
	strangers.client.CloseIdleConnections()
	http.DefaultClient.CloseIdleConnections()
	time.Sleep(15 * time.Second) // half-sent requests are cut after 10 s
	if atLast := s.goroutines(); atLast > atFirst+5 {
		t.Errorf("%d goroutines when all have gone, %d in a server that nobody called", atLast, atFirst)
	} else {
		t.Logf("goroutines without load: %d, in a server that nobody called %d", atLast, atFirst)
	}
	t.Logf("%d answers with a token, %d without, %d random kids, %d grants, %d key fetches",
		good, len(answers)-good, len(refused), w.IMS.Requests(), w.Tenant.Requests())
}

// signIn gives honest callers new tokens, signed with the current key.
func (w *world) signIn(pool *atomic.Pointer[func() string]) {
	next := oneOf(w.users(200))
	pool.Store(&next)
}

// trouble has Auth0 and IMS fail in turn: 10 s of each fault, which iTwin tokens of
// 10 s seldom outlive, and 5 s of peace. The first faults come again at the end, so
// that the first and the last minute are alike.
func (w *world) trouble(ctx context.Context, pool *atomic.Pointer[func() string]) {
	faults := append(standin.Nonsense(),
		standin.NamedFault{Name: "slow", Fault: standin.Delay(2 * time.Second)},
		standin.NamedFault{Name: "hangs", Fault: standin.Hang()},
		standin.NamedFault{Name: "hangs up", Fault: standin.HangUp()},
		standin.NamedFault{Name: "drips", Fault: standin.Drip(10 * time.Millisecond)},
		standin.NamedFault{Name: "is gone"})
	around := int(*soak * 9 / 10 / (15 * time.Second))
	for n := 0; ; n++ {
		kind := n % max(1, around)
		server, fault := &w.IMS.Server, faults[kind%len(faults)].Fault
		if kind%2 == 1 {
			server = &w.Tenant.Server
		}
		if server.Misbehave(fault); fault == nil {
			server.Stop()
		}
		if !pause(ctx, 10*time.Second) {
			return
		}
		server.Behave()
		if err := server.Restart(); err != nil {
			w.t.Error(err)
		}
		switch n % 12 {
		case 5: // users sign in anew, with a key that was published long ago
			w.Tenant.Rotate()
			w.signIn(pool)
		case 11:
			w.Tenant.Revoke()
		}
		if !pause(ctx, 5*time.Second) {
			return
		}
	}
}

// rude sends what no honest client sends, and leaves some of it half-sent.
func (s *server) rude(ctx context.Context) {
	client := newClient(s.t)
	defer client.CloseIdleConnections()
	texts := append(slices.Clone(nasty), "", "\r\n", "a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", strings.Repeat("a", 1<<20))
	for n := 0; pause(ctx, 200*time.Millisecond); n++ {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			s.t.Errorf("a rude connection: %v", err)
			continue
		}
		go fmt.Fprintf(conn, "GET /getToken HTTP/1.1\r\nHost: x\r\nX-B: %s\r\n", texts[n%len(texts)])
		time.AfterFunc(5*time.Second, func() { conn.Close() })
		s.get(ctx, client, "/"+strings.Repeat("x", 50), "")
		s.get(ctx, client, "/getToken", "not.a.token")
	}
}

// leaving asks and does not stay for the answer.
func (s *server) leaving(ctx context.Context, token string) {
	client := newClient(s.t)
	defer client.CloseIdleConnections()
	for n := 0; pause(ctx, 50*time.Millisecond); n++ {
		hasty, leave := context.WithTimeout(ctx, time.Duration(n%20)*100*time.Microsecond)
		s.get(hasty, client, "/getToken", token)
		leave()
	}
}

// pause waits, and reports whether ctx has not ended.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// usage is what a process held at one time, the median of a span.
type usage struct{ memory, descriptors, threads int }

// sample looks at the process every half second, and returns the medians of the
// first and the last tenth of the time.
func (s *server) sample(span time.Duration) (first, last usage) {
	var memory, descriptors, threads []int
	for end := time.Now().Add(span); time.Now().Before(end); time.Sleep(500 * time.Millisecond) {
		memory = append(memory, s.memory())
		descriptors = append(descriptors, s.descriptors())
		threads = append(threads, s.status("Threads:"))
	}
	tenth := max(1, len(memory)/10)
	at := func(of []int, from int) int { return slices.Sorted(slices.Values(of[from : from+tenth]))[tenth/2] }
	from := len(memory) - tenth
	return usage{at(memory, 0), at(descriptors, 0), at(threads, 0)}, usage{at(memory, from), at(descriptors, from), at(threads, from)}
}

// compare allows for noise: 8 MiB, ten descriptors, three threads.
func (first usage) compare(t *testing.T, last usage) {
	t.Helper()
	t.Logf("memory %d to %d KiB, descriptors %d to %d, threads %d to %d",
		first.memory>>10, last.memory>>10, first.descriptors, last.descriptors, first.threads, last.threads)
	if last.memory > first.memory+8<<20 || last.descriptors > first.descriptors+10 || last.threads > first.threads+3 {
		t.Errorf("%+v grew to %+v", first, last)
	}
}

// goroutines ends the process and counts them in what it then says.
func (s *server) goroutines() int {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGQUIT); err != nil {
		s.t.Fatal(err)
	}
	if _, ended := s.exit(10 * time.Second); !ended {
		s.t.Fatal("SIGQUIT did not end the server")
	}
	_, dump, _ := strings.Cut(s.logged(), "SIGQUIT: quit")
	n := strings.Count(dump, "\ngoroutine ")
	if n == 0 {
		s.t.Fatal("no goroutine in the dump")
	}
	return n
}
