package faults

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

// A process is the program under test.
type process struct {
	*fixture
	cmd    *exec.Cmd
	addr   string           // host:port
	stderr *os.File         // the pipe's end from which log is read
	log    *standintest.Log // all that it wrote
	exited chan struct{}    // closed when it has ended
}

// start runs the program, and returns once it listens. It ends with the test; then
// its log is checked.
func (f *fixture) start(settings ...string) *process {
	f.t.Helper()
	return f.startCommand(f.command(f.t.Context(), nil, settings...))
}

// startReady is start, and returns once the server has keys and a token.
func (f *fixture) startReady(settings ...string) *process {
	f.t.Helper()
	p := f.start(settings...)
	p.awaitReady()
	return p
}

// startCommand is start for a changed command.
func (f *fixture) startCommand(cmd *exec.Cmd) *process {
	f.t.Helper()
	p := f.run(cmd)
	p.addr = p.log.Await(f.t, `msg=listening addr=([0-9.:]+)`)
	return p
}

// run starts the command. Its output is kept, unless the command has a stderr already.
func (f *fixture) run(cmd *exec.Cmd) *process {
	f.t.Helper()
	reader, writer, err := os.Pipe()
	if err != nil {
		f.t.Fatal(err)
	}
	defer writer.Close()
	p := &process{f, cmd, "", reader, new(standintest.Log), make(chan struct{})}
	if cmd.Stderr == nil {
		cmd.Stdout, cmd.Stderr = writer, writer
	}
	if err := cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		io.Copy(p.log, reader) // until the process ends, or a test closes or stops the reader
		cmd.Wait()
	}()
	f.t.Cleanup(func() {
		p.kill()
		reader.Close()
		p.checkLog()
	})
	return p
}

func (p *process) awaitReady() {
	p.t.Helper()
	p.await("readiness", "/readyz", "", 200, 20*time.Second)
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
	if p.wantEnd(timeout) && p.cmd.ProcessState.ExitCode() != code {
		p.t.Errorf("it ended with %v, want exit code %d", p.cmd.ProcessState, code)
	}
}

// wantEnd waits for the process to end, and reports whether it has.
func (p *process) wantEnd(timeout time.Duration) bool {
	p.t.Helper()
	select {
	case <-p.exited:
		return true
	case <-time.After(timeout):
		p.t.Errorf("still running after %v", timeout)
		return false
	}
}

// wantStartError runs a command that must end at once, with exit code 1 and an error
// that names the setting. It returns the output.
func (f *fixture) wantStartError(command, name string, settings ...string) string {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(f.t.Context(), 10*time.Second)
	defer cancel()
	output, err := f.command(ctx, []string{command}, settings...).CombinedOutput()
	exit, _ := errors.AsType[*exec.ExitError](err)
	if exit == nil || exit.ExitCode() != 1 || !strings.Contains(string(output), prefix+name) {
		f.t.Errorf("%s with %q: %v, want exit status 1 and %s in:\n%s",
			command, settings, err, prefix+name, output)
	}
	return string(output)
}
