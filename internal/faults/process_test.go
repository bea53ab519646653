package faults

import (
	"os/exec"
	"syscall"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

// A process is the program under test.
type process struct {
	*fixture
	cmd    *exec.Cmd
	addr   string           // host:port
	log    *standintest.Log // all that it wrote
	exited chan struct{}
}

// start runs the program, and returns once it listens. It ends with the test; then
// its log is checked.
func (f *fixture) start(settings ...string) *process {
	f.t.Helper()
	p := &process{fixture: f, cmd: f.command(f.t.Context(), nil, settings...), log: new(standintest.Log), exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
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
	p.addr = p.log.Await(f.t, `msg=listening addr=([0-9.:]+)`)
	return p
}

// startReady is start, and returns once the server has keys and a token.
func (f *fixture) startReady(settings ...string) *process {
	f.t.Helper()
	p := f.start(settings...)
	p.await("readiness", "/readyz", "", 200, 20*time.Second)
	return p
}

func (p *process) kill() {
	p.cmd.Process.Kill() // an error means that it has ended already
	<-p.exited
}

func (p *process) signal(signal syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.t.Errorf("%v: %v", signal, err)
	}
}

// wantExit waits for the process to end with the exit code: -1 is an end by a signal.
func (p *process) wantExit(code int, timeout time.Duration) {
	p.t.Helper()
	select {
	case <-p.exited:
		if got := p.cmd.ProcessState.ExitCode(); got != code {
			p.t.Errorf("exit code %d, want %d", got, code)
		}
	case <-time.After(timeout):
		p.t.Errorf("still running after %v", timeout)
	}
}
