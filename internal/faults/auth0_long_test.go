//go:build long

package faults

import (
	"slices"
	"testing"
	"time"

	"itwin-token-server/internal/standin"
)

// Auth0 is not there at the start. The server says 503, and recovers by itself
// within 15 s of Auth0's return, whoever called meanwhile.
func TestAuth0DownAtStart(t *testing.T) {
	t.Parallel()
	const down, promise = 40 * time.Second, 15 * time.Second
	for _, c := range []struct {
		name   string
		fault  standin.Fault // nil: nothing listens
		called bool
	}{
		{"nothing listens, nobody calls", nil, false},
		{"nothing listens, callers", nil, true},
		{"hangs, nobody calls", standin.Hang(), false},
		{"hangs, callers", standin.Hang(), true},
		{"status 500, callers", standin.Status(500), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if w.Tenant.Misbehave(c.fault); c.fault == nil {
				w.Tenant.Stop()
			}
			s := w.serve(t)
			var callers []*load
			if c.called {
				callers = append(callers, s.load(t, 3, 50*time.Millisecond, oneOf(w.users(3))), s.load(t, 3, 50*time.Millisecond, w.strangers()))
			}
			time.Sleep(down)
			s.get(t.Context(), newClient(t), "/readyz", "").want(t, "readyz without Auth0", 503)
			for _, l := range callers {
				l.stop() // from now on nobody hastens anything
			}
			back := time.Now()
			w.Tenant.Behave()
			if err := w.Tenant.Restart(); err != nil {
				t.Fatal(err)
			}
			t.Logf("recovered %v after Auth0's return", s.becomesReady(promise))
			s.ask(w.user()).want(t, "after the recovery", 200)
			for _, l := range callers {
				during := slices.DeleteFunc(l.end(), func(a answer) bool { return a.began.Add(a.took).After(back) })
				wantAll(t, "without Auth0", during, 503)
			}
		})
	}
}

// Auth0 goes away later, or becomes slow. Callers whose keys are known never notice,
// and those with unknown ones wait 3 s at most.
func TestAuth0DownLater(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fault standin.Fault // nil: nothing listens
	}{
		{"nothing listens", nil},
		{"hangs", standin.Hang()},
		{"slow", standin.Delay(5 * time.Second)},
		{"a byte at a time", standin.Drip(20 * time.Millisecond)},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := w.serve(t)
			s.ready()
			machine := s.control(t)
			known := s.load(t, 3, 20*time.Millisecond, w.user)
			time.Sleep(time.Second)
			if w.Tenant.Misbehave(c.fault); c.fault == nil {
				w.Tenant.Stop()
			}
			unknown := s.load(t, 5, 20*time.Millisecond, w.strangers())
			time.Sleep(25 * time.Second)
			refused := unknown.end()
			wantAll(t, "unknown keys", refused, 401)
			if longest := slowest(refused); longest > 3500*time.Millisecond {
				t.Errorf("a caller with an unknown key waited %v, want 3 s at most", longest)
			}
			answers := known.end()
			wantAll(t, "known keys", answers, 200)
			longest := machine.checkWaits("known keys", answers, waitBound)
			failed := s.counter("key_fetches_total", "") - s.counter("key_fetches_total", `"ok"`)
			if failed == 0 && w.Tenant.Requests() < 2 {
				t.Error("no key fetch failed, so nothing was tried here")
			}
			t.Logf("%d honest callers waited %v at most; %d failed fetches", len(answers), longest, failed)
		})
	}
}

// A slow Auth0 at the start: callers wait for it, up to their 10 s.
func TestSlowAuth0AtStart(t *testing.T) {
	t.Parallel()
	for delay, status := range map[time.Duration]int{5 * time.Second: 200, 15 * time.Second: 503} {
		t.Run(delay.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.Tenant.Misbehave(standin.Delay(delay))
			tokens := w.users(5)
			answers := w.serve(t).together(50, tokens)
			wantAll(t, "the herd", answers, status)
			if longest := slowest(answers); longest > waitLimit {
				t.Errorf("a caller waited %v, want 10 s at most", longest)
			}
		})
	}
}

// 32 MiB in place of keys and tokens, again and again, are neither kept nor read.
func TestHugeAnswersTakeNoMemory(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.IMS.SetLife(4 * time.Second) // asked for often
	s := w.serve(t)
	s.ready()
	stranger := w.strangers()
	s.ask(stranger()).want(t, "an unknown key", 401)
	before := s.memory()
	w.Tenant.Misbehave(standin.Huge(32 << 20))
	w.IMS.Misbehave(standin.Huge(32 << 20))
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		s.ask(stranger()).want(t, "an unknown key", 401)
		s.ask(w.user()).want(t, "a known key", 200, 502)
	}
	if keys, grants := w.Tenant.Requests(), w.IMS.Requests(); keys < 5 || grants < 10 {
		t.Errorf("%d key fetches and %d grants, want 5 and 10: else nothing was tried here", keys, grants)
	}
	t.Logf("memory went from %d to %d KiB", before>>10, s.memory()>>10)
	s.flat("32 MiB answers", before)
}

// A real rotation while random kids flood in is seen within 60 s.
func TestRotationDuringFlood(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve(t)
	s.ready()
	old := s.load(t, 2, 50*time.Millisecond, oneOf(w.users(5)))
	flood := s.load(t, 30, 50*time.Millisecond, w.strangers())
	time.Sleep(8 * time.Second) // the burst is spent
	began := time.Now()
	w.Tenant.Rotate()
	w.Tenant.Rotate() // now the current key is one that the server has never seen
	token := w.user()
	took := s.eventually("a key of a rotation during a flood", token, 200, time.Minute)
	answers := flood.end()
	wantAll(t, "the flood", answers, 401)
	wantAll(t, "callers with a former key", old.end(), 200)
	if n, allowed := w.Tenant.Requests(), 1+5+1+int(time.Since(began)/(30*time.Second)); n > allowed {
		t.Errorf("%d key fetches, want %d at most", n, allowed)
	}
	t.Logf("seen after %v, amid %d random kids, by %d fetches", took, len(answers), w.Tenant.Requests())
}
