package faults

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
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

// load starts clients that pause between two requests.
func (p *process) load(clients int, pause time.Duration, token func() string) *load {
	ctx, stop := context.WithCancel(p.t.Context())
	l := &load{stop: stop}
	client := newClient(p.t)
	for range clients {
		l.clients.Go(func() {
			for ctx.Err() == nil {
				r := p.get(context.WithoutCancel(ctx), client, "/getToken", token())
				l.mu.Lock()
				l.results = append(l.results, r)
				l.mu.Unlock()
				sleep(ctx, pause)
			}
		})
	}
	p.t.Cleanup(func() { l.end() })
	return l
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
func oneOf(tokens []string) func() string {
	var next atomic.Int64
	return func() string { return tokens[int(next.Add(1))%len(tokens)] }
}

// A busyLoad is clients that keep their connections, and send each request as soon
// as the last one is answered. Unlike http.Client they repeat none after a broken
// connection.
type busyLoad struct {
	running  sync.WaitGroup
	answered atomic.Int64
	clients  []*busyClient
}

type busyClient struct {
	load     *busyLoad
	token    string
	answers  map[int]int // by status
	failures []failure
}

// A failure is a request on an open connection that was not answered.
type failure struct {
	dialed time.Time
	first  bool // on its connection, which may not have been accepted
	err    error
}

// busyLoad starts a client for each token. Each ends when it cannot connect.
func (p *process) busyLoad(tokens []string) *busyLoad {
	load := &busyLoad{}
	for _, token := range tokens {
		c := &busyClient{load: load, token: token, answers: map[int]int{}}
		load.clients = append(load.clients, c)
		load.running.Go(func() {
			for conn, err := net.Dial("tcp", p.addr); err == nil; conn, err = net.Dial("tcp", p.addr) {
				c.use(conn)
				conn.Close()
			}
		})
	}
	return load
}

// await waits for so many answers.
func (l *busyLoad) await(answers int64) {
	for l.answered.Load() < answers {
		time.Sleep(10 * time.Millisecond)
	}
}

// wait waits for the end of all clients.
func (l *busyLoad) wait() []*busyClient {
	l.running.Wait()
	return l.clients
}

// use sends requests until the connection ends.
func (c *busyClient) use(conn net.Conn) {
	dialed, answers := time.Now(), bufio.NewReader(conn)
	for first := true; ; first = false {
		io.WriteString(conn, "GET /getToken HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+c.token+"\r\n\r\n")
		resp, err := http.ReadResponse(answers, nil)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
		}
		if err != nil {
			c.failures = append(c.failures, failure{dialed, first, err})
			return
		}
		c.load.answered.Add(1)
		if c.answers[resp.StatusCode]++; resp.Close {
			return
		}
	}
}
