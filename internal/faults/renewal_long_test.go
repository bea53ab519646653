//go:build long

package faults

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"itwin-token-server/internal/standin"
)

// waitBound is what no caller waits for while IMS answers.
const waitBound = 200 * time.Millisecond

// Tokens of 20 s, an IMS that takes 1 s, a minute of load: renewals happen beside
// the callers, and nobody gets a token that is nearly dead. So it is after idleness.
func TestRenewalUnderLoad(t *testing.T) {
	t.Parallel()
	const life, loaded, idle = 20 * time.Second, time.Minute, 25 * time.Second
	w := newWorld(t)
	w.IMS.SetLife(life)
	w.IMS.Misbehave(standin.Delay(time.Second))
	s := w.serve(t)
	s.ready()
	machine := s.control(t)
	tokens := w.users(20)

	for _, phase := range []struct {
		name       string
		idle, load time.Duration
	}{
		{"under load", 0, loaded},
		{"after idleness", idle, 5 * time.Second},
	} {
		time.Sleep(phase.idle)
		l := s.load(t, 8, 20*time.Millisecond, oneOf(tokens))
		time.Sleep(phase.load)
		answers := l.end()
		wantAll(t, phase.name, answers, 200)
		left := checkLives(t, phase.name, answers, life*4/10)
		longest := machine.checkWaits(phase.name, answers, waitBound)
		// The first, and one for each half-life. Each may come a tenth of that early,
		// so that replicas part.
		n, most := w.IMS.Requests(), 1+int(time.Since(s.started)/(life/2*9/10))
		if n > most {
			t.Errorf("%s: %d grants in %v, want at most %d", phase.name, n, time.Since(s.started), most)
		}
		t.Logf("%s: %d answers, longest wait %v, least life left %v of %v, %d grants so far", phase.name, len(answers), longest, left, life, n)
	}
	if most := w.IMS.MostAtOnce(); most != 1 {
		t.Errorf("%d grants at once, want 1", most)
	}
}

// checkLives wants every token to have so much of its life left, and returns the
// least.
func checkLives(t *testing.T, what string, answers []answer, want time.Duration) time.Duration {
	t.Helper()
	least := 24 * time.Hour
	for _, a := range answers {
		if a.status == 200 {
			least = min(least, expiry(t, a.body).Sub(a.began.Add(a.took)))
		}
	}
	if least < want {
		t.Errorf("%s: a token had %v left, want %v", what, least, want)
	}
	return least
}

// expiry is the exp of the token in an answer: whole seconds, rounded down.
func expiry(t *testing.T, body string) time.Time {
	t.Helper()
	var claims struct{ Exp int64 }
	parts := strings.Split(body, ".")
	if len(parts) != 3 {
		t.Fatalf("want a JWT, got %q", body)
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err == nil {
		err = json.Unmarshal(text, &claims)
	}
	if err != nil {
		t.Fatal(err)
	}
	return time.Unix(claims.Exp, 0)
}

// A control is a caller of /healthz, which waits for nothing: what it has to wait is
// the machine's doing, not the server's.
type control struct {
	server *server
	mu     sync.Mutex // guards stalls
	stalls []answer
}

// control starts one; it ends with the test.
func (s *server) control(t *testing.T) *control {
	c := &control{server: s}
	client := newClient(t)
	quit, quitted := make(chan struct{}), make(chan struct{})
	t.Cleanup(func() { close(quit); <-quitted })
	go func() {
		defer close(quitted)
		for last := time.Now(); ; {
			s.get(t.Context(), client, "/healthz", "")
			if took := time.Since(last); took > 30*time.Millisecond {
				c.mu.Lock()
				c.stalls = append(c.stalls, answer{began: last, took: took})
				c.mu.Unlock()
			}
			last = time.Now()
			select {
			case <-quit:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return c
}

// checkWaits wants nobody to have waited for so long, apart from when the machine
// stood still, and returns the longest wait.
func (c *control) checkWaits(what string, answers []answer, bound time.Duration) time.Duration {
	c.server.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range answers {
		if a.took > bound && a.took-c.stalled(a) > bound {
			c.server.t.Errorf("%s: a caller waited %v (%v of that everybody did), want under %v", what, a.took, c.stalled(a), bound)
		}
	}
	return slowest(answers)
}

// stalled is for how much of the answer's wait the control waited too. c.mu is held.
func (c *control) stalled(a answer) (together time.Duration) {
	for _, s := range c.stalls {
		from, to := later(a.began, s.began), earlier(a.began.Add(a.took), s.began.Add(s.took))
		together += max(0, to.Sub(from))
	}
	return together
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
