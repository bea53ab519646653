package faults

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

// 500 callers during a cold start cost one key fetch and one grant; the first caller
// disconnects, which disturbs none of the others.
func TestColdStart(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Tenant.Misbehave(standintest.Delay(time.Second))
	connected := make(chan struct{})
	f.IMS.Misbehave(func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
		<-connected
		standintest.Delay(2*time.Second)(w, r, honest)
	})
	tokens := f.userTokens(20)
	p := f.start()
	conns := p.open(501)
	close(connected)
	first := make(chan result, 1)
	time.AfterFunc(300*time.Millisecond, func() { conns[0].Close() })
	go func() { first <- p.request(conns[0], "/getToken", tokens[0]) }()
	time.Sleep(20 * time.Millisecond) // so that it is the first
	wantAll(t, "the callers", p.together(conns[1:], tokens), maxWait, 200)
	if r := <-first; r.err == nil {
		t.Errorf("the first caller got %d after %v, want it to have disconnected", r.status, r.took())
	}
	if keys, grants := f.Tenant.Requests(), f.IMS.Requests(); keys != 1 || grants != 1 {
		t.Errorf("%d key fetches and %d grants, want 1 and 1", keys, grants)
	}
}

// A secret in the wrong variable, or in place of a command or an argument, is not shown.
func TestMisplacedSecrets(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	secret := f.IMS.ClientSecret()
	run := func(args []string, environ ...string) string {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // serve, if it accepts the value
		defer cancel()
		cmd := f.command(ctx, args)
		cmd.Env = append(cmd.Env, environ...)
		output, _ := cmd.CombinedOutput()
		if strings.Contains(string(output), secret) {
			t.Errorf("%q with %d variables shows the secret:\n%s", args, len(environ), output)
		}
		return string(output)
	}
	var all sync.WaitGroup
	names := 0
	for word := range strings.FieldsSeq(run([]string{"check"})) {
		if name := strings.Trim(word, ":,"); strings.HasPrefix(name, "ITM_TOKEN_SERVER_") {
			names++
			all.Go(func() { run([]string{"serve"}, name+"="+secret) })
			all.Go(func() { run([]string{"check"}, name+"="+secret) })
		}
	}
	all.Go(func() { run(nil, "ITM_TOKEN_SERVER_PORT=", "PORT="+secret) })
	if names < 15 {
		t.Errorf("check names %d settings, want all of them", names)
	}
	for _, command := range []string{"", "serve", "check", "check -", "version", "demo", "demo -token-life"} {
		all.Go(func() { run(append(strings.Fields(command), secret)) })
	}
	all.Wait()
}
