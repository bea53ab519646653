//go:build long

package faults

import (
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"itwin-token-server/internal/standin"
)

// tries notes when a grant was asked for, on the way to a fault.
type tries struct {
	mu sync.Mutex // guards at
	at []time.Time
}

func (n *tries) before(fault standin.Fault) standin.Fault {
	return func(honest http.Handler) http.Handler {
		faulty := fault(honest)
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n.mu.Lock()
			n.at = append(n.at, time.Now())
			n.mu.Unlock()
			faulty.ServeHTTP(w, r)
		})
	}
}

// closest is the least time between two tries.
func (n *tries) closest() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	least := time.Hour
	for i := 1; i < len(n.at); i++ {
		least = min(least, n.at[i].Sub(n.at[i-1]))
	}
	return least
}

// IMS fails under load while a token of 20 s lives: nobody notices before its last
// tenth; then the refusal fits the outage; and soon after IMS is back all is well.
func TestOutageUnderLoad(t *testing.T) {
	t.Parallel()
	for _, outage := range []struct {
		name   string
		fault  standin.Fault // nil: nothing listens
		status []int
		back   time.Duration
	}{
		{"nothing listens", nil, []int{503}, 5 * time.Second},
		{"hangs up", standin.HangUp(), []int{503}, 5 * time.Second},
		{"status 500", standin.Status(500), []int{502}, 5 * time.Second},
		{"an empty object", standin.Answer(200, "application/json", "{}"), []int{502}, 5 * time.Second},
		// What hangs already goes on to hang: the try that the end of the outage
		// finds under way has 10 s, and never are there two.
		{"hangs", standin.Hang(), []int{503, 504}, 15 * time.Second},
	} {
		t.Run(outage.name, func(t *testing.T) {
			t.Parallel()
			const life, down = 20 * time.Second, 30 * time.Second
			w := newWorld(t)
			w.IMS.SetLife(life)
			tokens := w.users(10)
			s := w.serve(t)
			s.ready()
			l := s.load(t, 4, 50*time.Millisecond, oneOf(tokens))
			time.Sleep(time.Second)
			var n tries
			if outage.fault == nil {
				w.IMS.Stop()
			} else {
				w.IMS.Misbehave(n.before(outage.fault))
			}
			time.Sleep(down)
			failed := s.counter("grants_total", "") - s.counter("grants_total", `"ok"`)
			back := time.Now()
			w.IMS.Behave()
			if err := w.IMS.Restart(); err != nil {
				t.Fatal(err)
			}
			served := s.eventually("IMS is back", tokens[0], 200, outage.back)
			time.Sleep(500 * time.Millisecond)
			answers := l.end()

			dies := s.started.Add(life - life/10)
			first := slices.IndexFunc(answers, func(a answer) bool { return a.status != 200 })
			if first < 0 || answers[first].began.Add(answers[first].took).Before(dies) {
				t.Fatalf("failures began at answer %d, want some, and none before the last tenth of the token's life", first)
			}
			again := slices.IndexFunc(answers, func(a answer) bool { return a.began.After(back) && a.status == 200 })
			if again < 0 {
				t.Fatal("nobody under load was served after the return")
			}
			sure := answers[again].began.Add(answers[again].took) // who asked after that must be served
			refused := slices.DeleteFunc(slices.Clone(answers[first:]), answer.good)
			wantAll(t, "after the token's end", refused, outage.status...)
			if late := refused[len(refused)-1]; late.began.After(sure) {
				t.Errorf("refused with %d, %v after another was served again", late.status, late.began.Sub(sure))
			}
			if most, longest := w.IMS.MostAtOnce(), slowest(answers); most != 1 || longest > waitLimit {
				t.Errorf("%d grants at once, want 1; longest wait %v, want 10 s at most", most, longest)
			}
			// They begin to be counted where they arrive, which varies a little.
			if failed > int(down/time.Second)+1 || n.closest() < 900*time.Millisecond {
				t.Errorf("%d tries in %v, the closest %v apart, want one a second at most", failed, down, n.closest())
			}
			t.Logf("first failure %v after the start, %d tries in %v, served %v after the return, longest wait %v",
				answers[first].began.Sub(s.started), failed, down, served, slowest(answers))
		})
	}
}

func (a answer) good() bool { return a.status == http.StatusOK }

// IMS hangs from the start: no caller waits for more than 10 s, whenever they come.
func TestHangingIMS(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.IMS.Misbehave(standin.Hang())
	tokens := w.users(10)
	s := w.serve(t)
	l := s.load(t, 10, 300*time.Millisecond, oneOf(tokens))
	time.Sleep(25 * time.Second)
	answers := l.end()
	wantAll(t, "with IMS hanging", answers, 503, 504)
	if longest := slowest(answers); longest > waitLimit {
		t.Errorf("a caller waited %v, want 10 s at most", longest)
	}
	if most, n := w.IMS.MostAtOnce(), w.IMS.Requests(); most != 1 || n > 5 {
		t.Errorf("%d grants, %d at once, want 5 of 10 s at most, one at a time", n, most)
	}
}
