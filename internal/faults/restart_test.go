package faults

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"itwin-token-server/internal/standin"
)

// kill -9 amid requests, and a start on the same port: it serves at once.
func TestKillAndStartAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, port, _ := strings.Cut(freeAddr(t), ":")
	token := w.user()
	for range 3 {
		s := w.serve(t, "PORT="+port)
		s.eventually("after the start", token, 200, 5*time.Second)
		l := s.load(t, 10, 0, oneOf([]string{token}))
		time.Sleep(200 * time.Millisecond)
		s.kill()
		l.end()
	}
}

// A taken port is told in one line.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	_, port, _ := strings.Cut(w.serve(t).addr, ":")
	second := w.command(t, "PORT="+port)
	out, err := second.cmd.CombinedOutput()
	if err == nil || strings.Count(string(out), "\n") != 1 || !strings.Contains(string(out), port) {
		t.Errorf("with the port taken: %v, %q, want an error and one line with the port", err, out)
	}
	if err := w.leaks(string(out), w.secrets()); err != nil {
		t.Error(err)
	}
}

// SIGTERM while callers wait for a slow IMS: all of them are answered, probes are
// told meanwhile, and the exit is in order.
func TestShutdownWithCallersWaiting(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		fault  standin.Fault
		status []int
	}{
		{"slow", standin.Delay(4 * time.Second), []int{200}},
		{"hanging", standin.Hang(), []int{503, 504}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.IMS.Misbehave(c.fault)
			tokens := w.users(5)
			s := w.serve(t)
			var waiting sync.WaitGroup
			var answers []answer
			waiting.Go(func() { answers = s.together(50, tokens) })
			time.Sleep(time.Second)
			s.terminate()
			began := time.Now()
			s.drains(began)
			s.exitsWell(began)
			waiting.Wait()
			wantAll(t, "who was waiting", answers, c.status...)
		})
	}
}

// drains wants probes to hear 503 soon after SIGTERM, for as long as they hear
// anything at all.
func (s *server) drains(signalled time.Time) {
	s.t.Helper()
	time.Sleep(100 * time.Millisecond)
	told := 0
	for time.Since(signalled) < 2*time.Second {
		a := s.get(s.t.Context(), http.DefaultClient, "/readyz", "")
		if a.err == nil {
			a.want(s.t, "readyz while shutting down", 503)
			told++
		}
		time.Sleep(50 * time.Millisecond)
	}
	if told == 0 {
		s.t.Error("no probe was answered while shutting down, want 503")
	}
}

// A second signal ends it at once.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.IMS.Misbehave(standin.Hang())
	s := w.serve(t)
	go s.get(t.Context(), http.DefaultClient, "/getToken", w.user())
	time.Sleep(500 * time.Millisecond)
	s.terminate()
	time.Sleep(200 * time.Millisecond)
	s.terminate()
	if code, ended := s.exit(2 * time.Second); !ended || code != -1 {
		t.Errorf("exit code %d, ended: %v; want an end by the signal, at once", code, ended)
	}
}
