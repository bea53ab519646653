package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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
	want    string    // the beginning of the body of its answers
	log     io.Writer // nil: /dev/null; not a file: os/exec makes a pipe
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

// server is the token server, with more settings if any are given.
func (b *bench) server(name string, env ...string) target {
	t := b.target(name, "./.bin/server")
	t.env = append(t.env, env...)
	return t
}

// targets are the server, and all that it is compared with.
func (b *bench) targets() []target {
	proxy := b.target("oauth2-proxy", "./.bin/oauth2-proxy", "--config=oauth2-proxy.cfg")
	proxy.want = "Authenticated"
	return []target{
		b.server("this server"), b.target("bare", "./.bin/baseline", "bare"), b.target("floor", "./.bin/baseline", "floor"),
		b.target("naive", "./.bin/baseline", "naive"), b.target("HAProxy", "haproxy", "-db", "-f", "haproxy.cfg"), proxy,
	}
}

// section is what is measured together. The first target is compared with the others.
type section struct {
	results
	Title     string
	Rate      int
	Workloads []workload
	Targets   []target
}

var few, many = workload{true, 32}, workload{true, 2000}

// section is the one of that name, or the comparison with the binary of that name.
func (b *bench) section(name string) section {
	b.results = results{}
	s := section{b.results, name, steadyRate, []workload{few, many, {false, 32}, {false, 2000}}, nil}
	switch name {
	case "targets":
		s.Targets = b.targets()
	case "growth":
		s.Workloads = []workload{{true, 1}, few, {true, 256}, many, {false, 1}, {false, 32}, {false, 256}, {false, 2000}}
		s.Targets = slices.Concat(b.targets()[:2], b.targets()[:2])
		for i := range s.Targets[2:] {
			s.Targets[2+i].Name += ", 1 core"
			s.Targets[2+i].command = append([]string{"taskset", "-c", "0"}, s.Targets[2+i].command...)
		}
	case "log":
		s.Workloads = []workload{few, {false, 32}}
		for _, format := range []string{"text", "json"} {
			setting := "ITM_TOKEN_SERVER_LOG_FORMAT=" + format
			file, pipe, null := b.server(format+", file", setting), b.server(format+", pipe", setting), b.server(format+", /dev/null", setting)
			pipe.log, null.log = io.Discard, nil
			s.Targets = append(s.Targets, file, pipe, null)
		}
		s.Targets = append(s.Targets, b.server("no line", "ITM_TOKEN_SERVER_LOG_LEVEL=warn"))
	case "gogc":
		for _, percent := range []string{"100", "200", "300", "400", "800"} {
			s.Targets = append(s.Targets, b.server("GOGC="+percent, "GOGC="+percent))
		}
	default:
		s.Targets = []target{b.server("this server"), b.server("the other")}
		s.Targets[1].command[0] = name
	}
	return s
}

const startTimeout = 10 * time.Second

// workload is a kind of load. A distinct token is sent only once to a process.
type workload struct {
	distinct    bool
	connections int
}

func (w workload) String() string {
	tokens := map[bool]string{true: "distinct tokens", false: "one token"}[w.distinct]
	return fmt.Sprintf("%s, %d conn.", tokens, w.connections)
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
	latency     vegeta.LatencyMetrics
}

// start runs t, waits until it listens, and asks it for a token.
func (b *bench) start(ctx context.Context, t target, w workload) (*life, error) {
	l := &life{bench: b, target: t, workload: w, connections: make(connections, w.connections)}
	for range w.connections {
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
		err = l.send(1, 0)
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
	l, err := b.start(ctx, t, few)
	if err != nil {
		return err
	}
	defer l.stop()
	for i, bad := range []string{"forged", "of another issuer", "expired"} {
		l.sent = len(b.tokens) - 3 + i
		if err := l.send(1, 0); l.last.Code < http.StatusBadRequest && !slices.Contains(t.command, "bare") {
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

// limited is a pacer that ends after a number of requests.
type limited struct {
	vegeta.Pacer
	requests uint64
}

func (l limited) Pace(elapsed time.Duration, hits uint64) (time.Duration, bool) {
	wait, _ := l.Pacer.Pace(elapsed, hits)
	return wait, hits >= l.requests
}

// send sends n requests at that rate (0: as fast as they are answered), with at
// most one in flight on each connection. Each must get a good answer.
func (l *life) send(n, rate int) (err error) {
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
	pacer := limited{vegeta.Rate{Freq: rate, Per: time.Second}, uint64(n)}
	attacker := vegeta.NewAttacker(vegeta.Client(&http.Client{Transport: l.connections, Timeout: time.Minute}),
		vegeta.MaxWorkers(uint64(l.workload.connections)))
	for l.last = range attacker.Attack(targeter, pacer, 0, "") {
		l.latency.Add(l.last.Latency)
		if l.last.Code != http.StatusOK || !bytes.HasPrefix(l.last.Body, []byte(l.target.want)) {
			attacker.Stop()
			err = errors.Join(err, fmt.Errorf("%s: status %d %s %.200q", l.target.Name, l.last.Code, l.last.Error, l.last.Body))
		}
	}
	return err
}
