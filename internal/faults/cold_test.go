package faults

import (
	"context"
	"net/http"
	"testing"
	"time"

	"itwin-token-server/internal/standin"
)

// A cold start under a herd: whoever comes first leaves, everybody else is
// answered by the one fetch of each kind that the start has begun.
func TestColdStart(t *testing.T) {
	t.Parallel()
	const herd = 500
	w := newWorld(t)
	w.Tenant.Misbehave(standin.Delay(time.Second))
	w.IMS.Misbehave(standin.Delay(2 * time.Second))
	tokens := w.users(20)
	s := w.serve(t)

	impatient, leave := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer leave()
	left := make(chan answer, 1)
	go func() { left <- s.get(impatient, http.DefaultClient, "/getToken", tokens[0]) }()
	time.Sleep(20 * time.Millisecond) // let it be the first

	answers := s.together(herd, tokens)
	wantAll(t, "the herd", answers, http.StatusOK)
	if a := <-left; a.err == nil {
		t.Errorf("the first caller was answered (%d) after %v: it should have left before", a.status, a.took)
	}
	for _, a := range answers {
		if a.body != answers[0].body {
			t.Error("two of the herd got different tokens")
			break
		}
	}
	if grants, fetches := w.IMS.Requests(), w.Tenant.Requests(); grants != 1 || fetches != 1 {
		t.Errorf("%d callers cost %d grants and %d key fetches, want 1 and 1", herd, grants, fetches)
	}
	if longest := slowest(answers); longest > 10*time.Second {
		t.Errorf("somebody waited %v, want 10 s at most", longest)
	}
}

// Tokens of every kind that the samples send are good, and leave no trace.
func TestKindsOfTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	s := w.serve(t, "LOG_LEVEL=debug")
	s.ready()
	s.ask(w.personal()).want(t, "an ID token", 200)
	s.ask(w.user()).want(t, "an access token", 200)
	s.ask(w.remember(w.Tenant.ATJWT(audience))).want(t, "an at+jwt", 200)
	s.ask(w.remember(w.Tenant.OpaqueToken())).want(t, "an opaque token", 401)
	s.ask("").want(t, "no token", 401)
	expired := standin.Claims{"exp": time.Now().Add(-time.Minute).Unix(), "name": "Jane Doe", "email": "jane.doe@example.com"}
	s.ask(w.remember(w.Tenant.IDToken(appID, expired))).want(t, "an expired ID token", 401)
	mail := standin.Claims{"sub": "email|jane.doe@example.com"}
	s.ask(w.remember(w.Tenant.IDToken(appID, mail))).want(t, "a sub made of an e-mail address", 200)
	s.get(t.Context(), http.DefaultClient, "/getToken?access_token="+w.user(), "").want(t, "a token in the query", 401)
	s.get(t.Context(), http.DefaultClient, "/getToken/"+w.user(), "").want(t, "a token in the path", 404)
}
