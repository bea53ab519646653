package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
	"golang.org/x/sys/unix"
)

// target is one server to be measured.
type target struct {
	Name    string
	command []string
	addr    string
	env     []string
	want    string // the beginning of the body of its answers
	log     *os.File
}

// target is a command that answers on a port of its own, below those that the
// kernel gives to outgoing connections. Its log goes to a file.
func (b *bench) target(name string, command ...string) target {
	t := target{Name: name, command: command, want: "Bearer "}
	for listener := net.Listener(nil); listener == nil; b.lastPort++ {
		t.addr = fmt.Sprintf("127.0.0.1:%d", b.lastPort)
		if listener, _ = net.Listen("tcp", t.addr); listener != nil {
			listener.Close()
		}
	}
	t.log, _ = os.Create(filepath.Join(b.dir, t.addr))
	t.env = append(slices.Clone(b.env), "ADDR="+t.addr, "OAUTH2_PROXY_HTTP_ADDRESS="+t.addr,
		"ITM_TOKEN_SERVER_HOST=127.0.0.1", "ITM_TOKEN_SERVER_PORT="+t.addr[len("127.0.0.1:"):])
	return t
}

// server is the token server.
func (b *bench) server(name string) target { return b.target(name, "./.bin/server") }

// targets are the server, and all that it is compared with.
func (b *bench) targets() []target {
	proxy := b.target("oauth2-proxy", "./.bin/oauth2-proxy", "--config=oauth2-proxy.cfg")
	proxy.want = "Authenticated"
	return []target{
		b.server("this server"),
		b.target("bare", "./.bin/baseline", "bare"),
		b.target("floor", "./.bin/baseline", "floor"),
		b.target("naive", "./.bin/baseline", "naive"),
		b.target("HAProxy", "haproxy", "-db", "-f", "haproxy.cfg"),
		proxy,
	}
}

const startTimeout = 10 * time.Second

// workload is a kind of load. A distinct token is sent only once to a process.
type workload struct {
	distinct    bool
	Connections int
}

const fewConnections, manyConnections = 32, 2000

var workloads = []workload{
	{true, fewConnections}, {true, manyConnections}, {false, fewConnections}, {false, manyConnections},
}

func (w workload) String() string {
	tokens := "one token"
	if w.distinct {
		tokens = "distinct tokens"
	}
	return fmt.Sprintf("%s, %d connections", tokens, w.Connections)
}

// life is one process of a target under one workload.
type life struct {
	bench       *bench
	target      target
	workload    workload
	cmd         *exec.Cmd
	connections connections
	sent        int
	last        *vegeta.Result
}

// start runs t, waits until it listens, and asks it for a token.
func (b *bench) start(ctx context.Context, t target, w workload) (*life, error) {
	l := &life{bench: b, target: t, workload: w}
	l.connections = make(connections, w.Connections)
	for range w.Connections {
		l.connections <- &http.Transport{MaxConnsPerHost: 1, DisableCompression: true}
	}
	l.cmd = exec.CommandContext(ctx, t.command[0], t.command[1:]...)
	l.cmd.Env, l.cmd.Stdout, l.cmd.Stderr = t.env, t.log, t.log
	began := time.Now()
	if err := l.cmd.Start(); err != nil {
		return nil, err
	}
	conn, err := net.Dial("tcp", t.addr)
	for ; err != nil && time.Since(began) < startTimeout; conn, err = net.Dial("tcp", t.addr) {
		time.Sleep(100 * time.Microsecond)
	}
	l.note("listening", time.Since(began).Seconds()*1e3)
	if err == nil {
		conn.Close()
		err = l.send(1)
	}
	l.note("first token", time.Since(began).Seconds()*1e3)
	if err != nil {
		l.stop()
		return nil, fmt.Errorf("%s: %w", t.Name, err)
	}
	return l, nil
}

// refuses checks that t accepts no bad token. Bare is there to accept any.
func (b *bench) refuses(ctx context.Context, t target) error {
	l, err := b.start(ctx, t, workload{Connections: 1})
	if err != nil {
		return err
	}
	defer l.stop()
	for i, bad := range []string{"forged", "of another issuer", "expired"} {
		l.sent = len(b.tokens) - 3 + i
		err := l.send(1)
		if l.last.Code < http.StatusBadRequest && !slices.Contains(t.command, "bare") {
			return fmt.Errorf("%s: a token that is %s: %w", t.Name, bad, err)
		}
	}
	return nil
}

func (l *life) stop() {
	l.cmd.Process.Kill()
	l.cmd.Wait()
}

// note adds a value to the results.
func (l *life) note(figure string, value float64) {
	k := key{l.target.Name, figure}
	l.bench.results[k] = append(l.bench.results[k], value)
}

// noteMemory notes what is resident, in MB: VmRSS is now, VmHWM the most ever.
func (l *life) noteMemory(figure, field string) {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", l.cmd.Process.Pid))
	_, line, _ := strings.Cut(string(status), "\n"+field+":")
	var kB float64
	fmt.Sscan(line, &kB)
	l.note(figure, kB*1024/1e6)
}

// cpu is the user and system time that the process has used, of all its threads.
func (l *life) cpu() time.Duration {
	// The process's CPU clock, named as in clock_getcpuclockid(3): the inverted
	// pid over CPUCLOCK_SCHED. The same sum in /proc/PID/stat has steps of 10 ms.
	var t unix.Timespec
	unix.ClockGettime(int32(^l.cmd.Process.Pid<<3|2), &t) // fails only without the process
	return time.Duration(t.Nano())
}

// connections are transports with one connection each, so that all are used in turn.
type connections chan *http.Transport

// RoundTrip sends the request over the connection that was used least recently.
func (c connections) RoundTrip(r *http.Request) (*http.Response, error) {
	t := <-c
	defer func() { c <- t }()
	return t.RoundTrip(r)
}

// full is a pacer that sends requests as soon as a connection is free.
type full struct{ requests uint64 }

// Pace returns the time to wait, and whether all are sent.
func (f full) Pace(_ time.Duration, sent uint64) (time.Duration, bool) {
	return 0, sent >= f.requests
}

func (f full) Rate(time.Duration) float64 { return 0 }

// send sends n requests as fast as they are answered, with at most one in flight
// on each connection. Each must get a good answer.
func (l *life) send(n int) (err error) {
	queue := make(chan string, n)
	for range n {
		queue <- l.bench.tokens[l.sent]
		if l.workload.distinct {
			l.sent++
		}
	}
	targeter := func(t *vegeta.Target) error {
		t.Method, t.URL = "GET", "http://"+l.target.addr+"/getToken"
		t.Header = http.Header{"Authorization": {"Bearer " + <-queue}, "Accept": {"*/*"}}
		return nil
	}
	client := &http.Client{Transport: l.connections, Timeout: time.Minute}
	attacker := vegeta.NewAttacker(vegeta.Client(client),
		vegeta.MaxWorkers(uint64(l.workload.Connections)))
	for l.last = range attacker.Attack(targeter, full{uint64(n)}, 0, "") {
		if l.last.Code != http.StatusOK || !bytes.HasPrefix(l.last.Body, []byte(l.target.want)) {
			attacker.Stop()
			err = errors.Join(err, fmt.Errorf("%s: status %d %s %.200q",
				l.target.Name, l.last.Code, l.last.Error, l.last.Body))
		}
	}
	return err
}
