package faults

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// A load is callers who ask again and again.
type load struct {
	server  *server
	client  *http.Client
	pause   time.Duration // between a caller's questions
	stop    context.CancelFunc
	callers sync.WaitGroup

	mu      sync.Mutex // guards answers
	answers []answer
}

// load starts callers, each of whom pauses between two questions. Their tokens are
// what token gives.
func (s *server) load(t *testing.T, callers int, pause time.Duration, token func() string) *load {
	ctx, stop := context.WithCancel(t.Context())
	l := &load{server: s, client: newClient(t), pause: pause, stop: stop}
	for range callers {
		l.callers.Go(func() { l.ask(ctx, token) })
	}
	t.Cleanup(func() { l.end() })
	return l
}

// ask is one caller, until ctx ends. It is the load that ends then, not the last
// question.
func (l *load) ask(ctx context.Context, token func() string) {
	for ctx.Err() == nil {
		a := l.server.get(context.WithoutCancel(ctx), l.client, "/getToken", token())
		if a.status != http.StatusOK {
			a.body = "" // of a good one the token is still needed
		}
		l.mu.Lock()
		l.answers = append(l.answers, a)
		l.mu.Unlock()
		select {
		case <-time.After(l.pause):
		case <-ctx.Done():
		}
	}
}

// end ends the load once all are answered, and returns the answers in the order
// of their questions.
func (l *load) end() []answer {
	l.stop()
	l.callers.Wait()
	slices.SortFunc(l.answers, func(a, b answer) int { return a.began.Compare(b.began) })
	return l.answers
}

// oneOf gives the tokens in turn.
func oneOf(tokens []string) func() string {
	var mu sync.Mutex
	next := 0
	return func() string {
		mu.Lock()
		defer mu.Unlock()
		next++
		return tokens[next%len(tokens)]
	}
}

// wantAll reports answers of another status than these, the first ones in full.
func wantAll(t *testing.T, what string, answers []answer, statuses ...int) {
	t.Helper()
	if len(answers) == 0 {
		t.Errorf("%s: nobody asked", what)
	}
	wrong := 0
	for _, a := range answers {
		if slices.Contains(statuses, a.status) {
			continue
		}
		if wrong++; wrong <= 3 {
			a.want(t, what, statuses...)
		}
	}
	if wrong > 3 {
		t.Errorf("%s: %d of %d answers are not %v", what, wrong, len(answers), statuses)
	}
}

// slowest is the longest that anyone waited.
func slowest(answers []answer) time.Duration {
	var longest time.Duration
	for _, a := range answers {
		longest = max(longest, a.took)
	}
	return longest
}

// median is the wait that half of the callers did not exceed.
func median(answers []answer) time.Duration {
	if len(answers) == 0 {
		return 0
	}
	waits := make([]time.Duration, len(answers))
	for i, a := range answers {
		waits[i] = a.took
	}
	slices.Sort(waits)
	return waits[len(waits)/2]
}
