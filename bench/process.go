package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

const (
	startLimit = 10 * time.Second // exec to listening; longer, and it won't
	stopLimit  = 12 * time.Second // the server promises 10 s
)

// process is one target, running.
type process struct {
	cmd       *exec.Cmd
	pid       int
	addr      string
	started   time.Time
	listening time.Duration // exec to the first connection taken
	log       string        // the file that holds what it wrote
	ended     chan struct{} // closed when it ended, for whatever reason
	cancel    context.CancelFunc
}

// start runs t on a free port of loopback with its output in a file, as under
// a service manager, and returns once it listens.
func start(ctx context.Context, t target, dir string) (*process, error) {
	log, err := os.Create(filepath.Join(dir, t.name+".log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	return startTo(ctx, t, log, dir)
}

// startTo is start with the output going to out.
func startTo(ctx context.Context, t target, out *os.File, dir string) (*process, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	args, settings := t.command(addr)
	cmd := exec.CommandContext(ctx, t.binary, args...)
	cmd.Dir = dir // where no .env lies
	cmd.Env = append(append([]string{"HOME=" + dir}, settings...), t.env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopLimit

	p := &process{cmd: cmd, addr: addr, log: out.Name(), ended: make(chan struct{}), cancel: cancel}
	p.started = time.Now()
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	p.pid = cmd.Process.Pid
	go func() { cmd.Wait(); close(p.ended) }()
	if err := p.awaitListening(); err != nil {
		p.stop()
		output, _ := os.ReadFile(p.log)
		return nil, fmt.Errorf("%s: %w; it wrote:\n%s", t.name, err, output)
	}
	return p, nil
}

func (p *process) awaitListening() error {
	for {
		c, err := net.Dial("tcp", p.addr)
		p.listening = time.Since(p.started)
		if err == nil {
			return c.Close()
		}
		if p.listening > startLimit {
			return fmt.Errorf("not listening after %v: %w", startLimit, err)
		}
		select {
		case <-p.ended:
			return errors.New("ended before it listened")
		case <-time.After(200 * time.Microsecond):
		}
	}
}

// signal is for targets with the probe in them.
func (p *process) signal() error { return p.cmd.Process.Signal(syscall.SIGUSR1) }

// stop ends the process and waits until it is gone.
func (p *process) stop() {
	p.cancel()
	<-p.ended
}

// freeAddr finds a port for a target that must be told one. Another program
// could take it first; then the start fails, and says so.
func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
