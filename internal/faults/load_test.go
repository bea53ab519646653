package faults

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// A load is a number of clients that send requests until it is ended.
type load struct {
	stop    context.CancelFunc
	clients sync.WaitGroup

	mu      sync.Mutex // guards results
	results []result
}

// load starts clients that pause between two requests. Each keeps its connection,
// and ends when it cannot connect.
func (p *process) load(clients int, pause time.Duration, token func() string) *load {
	ctx, stop := context.WithCancel(p.t.Context())
	l := &load{stop: stop}
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

// await waits for so many results.
func (l *load) await(n int) {
	for got := 0; got < n; time.Sleep(10 * time.Millisecond) {
		l.mu.Lock()
		got = len(l.results)
		l.mu.Unlock()
	}
}

// end stops the clients, and returns the results in the order of their starts.
func (l *load) end() []result {
	l.stop()
	l.clients.Wait()
	slices.SortFunc(l.results, func(a, b result) int { return a.start.Compare(b.start) })
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
