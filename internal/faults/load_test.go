package faults

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A load is a number of clients that send requests until it is ended.
type load struct {
	t       *testing.T
	stop    context.CancelFunc
	clients sync.WaitGroup

	mu      sync.Mutex // guards results
	results []result
}

// load starts clients that pause between two requests. Each keeps its connection,
// and ends when it cannot connect.
func (p *process) load(clients int, pause time.Duration, token func() string) *load {
	ctx, stop := context.WithCancel(p.t.Context())
	l := &load{t: p.t, stop: stop}
	client := func(conn *connection) {
		defer conn.Close()
		for ctx.Err() == nil {
			r := p.request(conn, "/getToken", token())
			l.mu.Lock()
			l.results = append(l.results, r)
			l.mu.Unlock()
			if r.err != nil || r.last || !sleep(ctx, pause) {
				return
			}
		}
	}
	for range clients {
		l.clients.Go(func() {
			for ctx.Err() == nil {
				conn, err := p.dial()
				if err != nil {
					return
				}
				client(conn)
			}
		})
	}
	p.t.Cleanup(func() { l.end() })
	return l
}

// count is the number of results until now.
func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.results)
}

// await waits for so many results.
func (l *load) await(n int) {
	l.t.Helper()
	for start := time.Now(); l.count() < n; time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > 30*time.Second {
			l.t.Fatalf("%d results after 30 s, want %d", l.count(), n)
		}
	}
}

// awaitEnd waits until no request is answered any more.
func (l *load) awaitEnd() {
	l.t.Helper()
	before := -1
	for start := time.Now(); before != l.count(); time.Sleep(time.Second) {
		if before = l.count(); time.Since(start) > 20*time.Second {
			l.t.Fatalf("requests are still answered, %d until now", before)
		}
	}
}

// end stops the clients, and returns the results.
func (l *load) end() []result {
	l.stop()
	l.clients.Wait()
	return l.results
}

// sleep waits, and reports whether ctx has not ended.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}

// oneOf returns the tokens in turn.
func oneOf(tokens ...string) func() string {
	var next atomic.Int64
	return func() string { return tokens[int(next.Add(1))%len(tokens)] }
}
