package faults

import (
	"testing"
	"time"

	"itwin-token-server/internal/standin"
)

// IMS talks nonsense from the start. Callers hear that iTwin gives no token, and
// are served soon after it comes to its senses.
func TestNonsenseOfIMS(t *testing.T) {
	t.Parallel()
	for _, kind := range standin.Nonsense() {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.IMS.Misbehave(kind.Fault)
			token := w.user()
			s := w.serve(t)
			s.keyed()
			for range 3 {
				s.ask(token).want(t, "while IMS talks nonsense", 502)
			}
			w.IMS.Behave()
			s.eventually("once IMS is sane", token, 200, 5*time.Second)
			if most := w.IMS.MostAtOnce(); most != 1 {
				t.Errorf("%d grants at once, want 1", most)
			}
			if n := s.counter("grants_total", `"nonsense"`) + s.counter("grants_total", `"refused"`); n < 1 {
				t.Error("no failed grant was counted as nonsense or refused")
			}
		})
	}
}

// Other ways to fail have statuses of their own.
func TestOutagesOfIMS(t *testing.T) {
	t.Parallel()
	for _, outage := range []struct {
		name   string
		fault  standin.Fault // nil: nothing listens
		status int
	}{
		{"nothing listens", nil, 503},
		{"hangs up", standin.HangUp(), 503},
		{"status 503", standin.Status(503), 502},
		{"status 429", standin.Status(429), 502},
		{"hangs", standin.Hang(), 504},
		{"a byte a second", standin.Drip(time.Second), 504},
	} {
		t.Run(outage.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if w.IMS.Misbehave(outage.fault); outage.fault == nil {
				w.IMS.Stop()
			}
			s := w.serve(t)
			s.keyed()
			a := s.ask(w.user())
			a.want(t, "during the outage", outage.status)
			if a.took > waitLimit {
				t.Errorf("waited %v, want 10 s at most", a.took)
			}
		})
	}
}

// waitLimit is the 10 s that a caller waits at most, and what a busy machine adds.
const waitLimit = 10*time.Second + 500*time.Millisecond

// Auth0 talks nonsense: at the start callers hear that it is not their doing; later
// those whose keys are known never notice.
func TestNonsenseOfAuth0(t *testing.T) {
	t.Parallel()
	for _, kind := range standin.Nonsense() {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.Tenant.Misbehave(kind.Fault)
			token, stranger := w.user(), w.strangers()
			s := w.serve(t)
			s.ask(token).want(t, "no keys yet", 503)
			s.ask(stranger()).want(t, "no keys yet, and an unknown one", 503)
			w.Tenant.Behave()
			s.eventually("once Auth0 is sane", token, 200, 15*time.Second)

			w.Tenant.Misbehave(kind.Fault)
			before := w.Tenant.Requests()
			s.ask(stranger()).want(t, "an unknown key", 401)
			if w.Tenant.Requests() == before {
				t.Error("an unknown key caused no fetch, so nothing was tried here")
			}
			for range 3 { // another user's each time: none is remembered as good
				s.ask(w.user()).want(t, "a known key", 200)
			}
			w.Tenant.Behave()
			s.ask(stranger()).want(t, "an unknown key, with Auth0 sane", 401)
			s.ask(token).want(t, "a known key, with Auth0 sane", 200)
		})
	}
}
