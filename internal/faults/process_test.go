package faults

import (
	"io"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"itwin-token-server/internal/standin"
)

// A process is the program under test.
type process struct {
	*fixture
	cmd    *exec.Cmd
	addr   string       // host:port
	log    *standin.Log // all that it wrote
	json   bool         // the log's format
	exited chan struct{}
}

// start runs the program, and returns once it listens. It ends with the test; then
// its log is checked.
func (f *fixture) start(settings ...string) *process {
	f.t.Helper()
	p := &process{log: new(standin.Log)}
	f.run(p, p.log, settings...)
	p.addr = p.log.Await(f.t, `msg"?[=:]"?listening"?[ ,]"?addr"?[=:]"?([0-9.:]+)`)
	return p
}

func (f *fixture) run(p *process, output io.Writer, settings ...string) {
	f.t.Helper()
	p.fixture, p.cmd, p.exited = f, f.command(nil, settings...), make(chan struct{})
	p.json = strings.Contains(strings.Join(settings, " "), "LOG_FORMAT=json")
	p.cmd.Stdout, p.cmd.Stderr = output, output
	if err := p.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		p.cmd.Wait()
	}()
	f.t.Cleanup(func() {
		p.kill()
		p.checkLog()
	})
}

// startReady is start, and returns once the server has keys and a token.
func (f *fixture) startReady(settings ...string) *process {
	f.t.Helper()
	p := f.start(settings...)
	p.ready(20 * time.Second)
	return p
}

func (p *process) kill() {
	p.cmd.Process.Kill() // an error means that it has ended already
	<-p.exited
}

func (p *process) terminate() {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Errorf("SIGTERM: %v", err)
	}
}

// exit waits for the process to end, and returns its exit code: -1 if it was ended
// by a signal.
func (p *process) exit(timeout time.Duration) (code int, ended bool) {
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode(), true
	case <-time.After(timeout):
		return 0, false
	}
}

// dial opens a connection for requests written by hand.
func (p *process) dial() net.Conn {
	p.t.Helper()
	conn, err := net.Dial("tcp", p.addr)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { conn.Close() })
	return conn
}
