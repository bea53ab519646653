package faults

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"
)

// startLimit is for a machine that is busy with other tests: alone it takes 50 ms.
const startLimit = 20 * time.Second

// A server is the program under test, as a child process.
type server struct {
	t       *testing.T
	world   *world
	cmd     *exec.Cmd
	addr    string // host:port
	metrics string // host:port
	log     string // the file that holds all it wrote
	json    bool   // the log's format
	started time.Time
	exited  chan struct{} // closed when it has ended
}

// serve starts the program with the world's settings and the given ones, each
// NAME=value without the prefix, and returns once it listens. It ends with the
// test; then its log is checked.
func (w *world) serve(t *testing.T, settings ...string) *server {
	t.Helper()
	s := w.command(t, settings...)
	s.start()
	s.addr = s.listening()
	return s
}

// command is serve without starting.
func (w *world) command(t *testing.T, settings ...string) *server {
	t.Helper()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, w.CACert(), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, world: w, log: filepath.Join(dir, "log"), exited: make(chan struct{})}
	s.metrics = freeAddr(t)
	s.cmd = exec.Command(binary)
	s.cmd.Dir = dir // where no .env lies
	s.cmd.Env = []string{"SSL_CERT_FILE=" + ca, "HOME=" + dir}
	for _, setting := range append([]string{
		"CLIENT_ID=" + w.IMS.ClientID(), "CLIENT_SECRET=" + w.IMS.ClientSecret(), "AUTHORITY=" + w.IMS.URL(),
		"AUTH0_DOMAIN=" + w.Tenant.Domain(), "AUTH0_AUDIENCE=" + audience + "," + appID,
		"HOST=127.0.0.1", "PORT=0", "METRICS_ADDR=" + s.metrics,
	}, settings...) {
		s.cmd.Env = append(s.cmd.Env, "ITM_TOKEN_SERVER_"+setting)
		s.json = s.json || setting == "LOG_FORMAT=json"
	}
	return s
}

// start starts the process, and sees to its end.
func (s *server) start() {
	s.t.Helper()
	log, err := os.Create(s.log)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	s.started = time.Now()
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		defer close(s.exited)
		s.cmd.Wait()
	}()
	s.t.Cleanup(func() {
		s.kill()
		s.checkLog()
	})
}

var listening = regexp.MustCompile(`(?:msg=listening addr=|"msg":"listening","addr":")([0-9.:]+)`)

// listening waits for the line that tells the address, and returns that.
func (s *server) listening() string {
	s.t.Helper()
	for time.Since(s.started) < startLimit {
		if found := listening.FindStringSubmatch(s.logged()); found != nil {
			return found[1]
		}
		select {
		case <-s.exited:
			s.t.Fatalf("the server ended: %s", s.logged())
		case <-time.After(2 * time.Millisecond):
		}
	}
	s.t.Fatalf("the server does not listen after %v: %s", startLimit, s.logged())
	return ""
}

// logged is the log so far.
func (s *server) logged() string {
	text, err := os.ReadFile(s.log)
	if err != nil {
		s.t.Error(err)
	}
	return string(text)
}

func (s *server) kill() {
	s.cmd.Process.Kill() // an error means that it has ended already
	<-s.exited
}

func (s *server) terminate() {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Errorf("SIGTERM: %v", err)
	}
}

// exit waits for the process to end, and returns its exit code: -1 if it was ended
// by a signal.
func (s *server) exit(patience time.Duration) (code int, ended bool) {
	select {
	case <-s.exited:
		return s.cmd.ProcessState.ExitCode(), true
	case <-time.After(patience):
		return 0, false
	}
}

// exitsWell wants the process to have ended, with exit code 0, 10 s after it was
// told to.
func (s *server) exitsWell(told time.Time) {
	s.t.Helper()
	const limit = 10 * time.Second
	if code, ended := s.exit(limit - time.Since(told)); !ended || code != 0 {
		s.t.Errorf("after %v: exit code %d, ended: %v; want 0 within %v", time.Since(told), code, ended, limit)
	}
}

// freeAddr is an address of loopback that nobody has. It lies below the ports that
// the system gives to outgoing connections, which other tests make by the thousand.
func freeAddr(t *testing.T) string {
	t.Helper()
	var err error
	for range 100 {
		addr := fmt.Sprintf("127.0.0.1:%d", 20000+rand.IntN(10000))
		listener, failed := net.Listen("tcp", addr)
		if failed == nil {
			listener.Close()
			return addr
		}
		err = errors.Join(err, failed)
	}
	t.Fatal(err)
	return ""
}
