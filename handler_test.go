package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/fresh"
	"itwin-token-server/internal/problem"
	"itwin-token-server/internal/standin/standintest"
	"itwin-token-server/internal/telemetry"
	"itwin-token-server/internal/upstream"
)

// A fixture is a service with its stand-ins and its log.
type fixture struct {
	*service
	s       *standintest.Standin
	log     *standintest.Log
	handler http.Handler
}

// start returns a service that fetches until the test ends.
func start(t testing.TB, change func(*config)) *fixture {
	t.Helper()
	f := prepare(t, change)
	f.run(t)
	return f
}

// prepare returns a service that does not fetch yet.
func prepare(t testing.TB, change func(*config)) *fixture {
	t.Helper()
	s := standintest.New(t)
	c := testConfig(s)
	if change != nil {
		change(&c)
	}
	log := new(standintest.Log)
	service := newService(c, s.Transport(), telemetry.NewLog(log, "text", slog.LevelInfo))
	t.Cleanup(func() {
		w := httptest.NewRecorder()
		service.observer.ServeHTTP(w, nil)
		if !strings.Contains(w.Body.String(), `reason="other"} 0`) {
			t.Error("the metrics count a reason as other: it is missing in requestProblems")
		}
	})
	return &fixture{service, s, log, service.routes(nil)}
}

func (f *fixture) run(t testing.TB) {
	background(t, f.users.keys.Run)
	background(t, f.tokens.Run)
}

// serving runs a test with a service that fetches, in a bubble.
func serving(t *testing.T, change func(*config), test func(f *fixture)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(start(t, change)) })
}

// request sends a request, such as "GET /x", to the real routes; headers are names and
// values in turn.
func (f *fixture) request(line string, headers ...string) *httptest.ResponseRecorder {
	method, path, _ := strings.Cut(line, " ")
	r := httptest.NewRequest(method, path, nil)
	for pair := range slices.Chunk(headers, 2) {
		r.Header.Add(pair[0], pair[1])
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	return w
}

// send sends a user token and perhaps more headers; getToken sends an access token.
func (f *fixture) send(token string, headers ...string) *httptest.ResponseRecorder {
	return f.request("GET /getToken", append(headers, "Authorization", "Bearer "+token)...)
}

func (f *fixture) getToken(headers ...string) *httptest.ResponseRecorder {
	return f.send(f.s.Tenant.AccessToken(testAudience), headers...)
}

func TestAGoodTokenGetsTheITwinToken(t *testing.T) {
	serving(t, nil, func(f *fixture) {
		resp := f.getToken()
		if got := resp.Header().Get("Content-Type"); resp.Code != 200 || got != "text/plain; charset=utf-8" {
			t.Errorf("status %d, %s; want 200, text/plain", resp.Code, got)
		}
		// The iOS sample takes the second word, the Android sample what is behind "Bearer ".
		if issued := f.s.IMS.Issued(); len(issued) != 1 || resp.Body.String() != "Bearer "+issued[0] {
			t.Errorf("the body is not exactly Bearer and the token that IMS issued")
		}
		many := standintest.Claims{"permissions": slices.Repeat([]string{"read:items"}, 350)} // 6 KiB
		if resp := f.send(f.s.Tenant.AccessToken(testAudience, many)); resp.Code != 200 {
			t.Errorf("a token with 350 permissions: status %d, want 200", resp.Code)
		}
		for _, scheme := range []string{"bearer", "BEARER", "bEaReR", "Bearer "} {
			authorization := scheme + " " + f.s.Tenant.IDToken(testClient)
			for _, method := range []string{"GET", "HEAD"} {
				if resp := f.request(method+" /getToken", "Authorization", authorization); resp.Code != 200 {
					t.Errorf("%s with the scheme %q: status %d, want 200", method, scheme, resp.Code)
				}
			}
		}
	})
}

func TestJSON(t *testing.T) {
	serving(t, nil, func(f *fixture) {
		f.getToken()
		time.Sleep(100*time.Second + time.Millisecond)
		resp := f.getToken("Accept", "text/html, application/json;q=0.9")
		var got map[string]any
		if err := json.Unmarshal(resp.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if len(got) != 3 || !f.s.IMS.Valid(fmt.Sprint(got["access_token"])) || got["token_type"] != "Bearer" || got["expires_in"] != 3499.0 {
			t.Errorf("got %v, want the token, Bearer, 3499 s", got)
		}
		if got := resp.Header().Get("Content-Type"); got != "application/json" {
			t.Errorf("Content-Type %s, want application/json", got)
		}
		for _, accept := range []string{"*/*", "application/json, text/plain, */*"} { // the second is axios's
			if text := f.getToken("Accept", accept).Body.String(); !strings.HasPrefix(text, "Bearer ") {
				t.Errorf("Accept %s: got JSON, want text", accept)
			}
		}
		resp = f.request("GET /getToken", "Accept", "application/json")
		if err := json.Unmarshal(resp.Body.Bytes(), &got); err != nil || got["error"] != problem.NoToken.Code || got["error_description"] != problem.NoToken.Text {
			t.Errorf("an error as JSON is %s", resp.Body)
		}
	})
}

func TestRefusals(t *testing.T) {
	serving(t, func(c *config) { c.RequiredScopes = []string{"itwin", "read"} }, func(f *fixture) {
		token := f.s.Tenant.AccessToken(testAudience, standintest.Claims{"scope": "itwin read"})
		good := "Bearer " + token
		type refusal struct {
			name          string
			authorization []string
			status        int
			want          *problem.Problem
		}
		refusals := []refusal{
			{"no token", nil, 401, problem.NoToken},
			{"another scheme", []string{"Basic dTpw"}, 401, problem.NoToken},
			{"the scheme alone", []string{"Bearer"}, 401, problem.NoToken},
			{"the scheme and spaces", []string{"Bearer   "}, 401, problem.NoToken},
			{"an empty header", []string{""}, 401, problem.NoToken},
			{"a token without a scheme", []string{token}, 401, problem.NoToken},
			{"two headers", []string{good, good}, 400, problem.TwoHeaders},
			{"an opaque token", []string{"Bearer " + f.s.Tenant.OpaqueToken()}, 401, problem.NotJWT},
			{"two tokens", []string{good + " " + token}, 401, problem.Malformed},
			{"the scheme twice", []string{"Bearer " + good}, 401, problem.TwoSchemes},
			{"the scheme twice, in another case", []string{"bearer  BEARER " + token}, 401, problem.TwoSchemes},
			{"rubbish", []string{"Bearer \x00\xff<>\"\\"}, 401, problem.NotJWT},
			{"a token too long", []string{"Bearer " + strings.Repeat("a", maxToken+1)}, 401, problem.TooLong},
			{"expired", []string{"Bearer " + f.s.Tenant.AccessToken(testAudience, standintest.Claims{"exp": 1})}, 401, problem.Expired},
			{"no scope", []string{"Bearer " + f.s.Tenant.AccessToken(testAudience)}, 403, problem.Scope},
		}
		for _, empty := range []string{ // what programs send that had no token yet
			"undefined", "null", "[object Object]", "[object Promise]", "NaN", "{}", "[]", "None", "nil", "(null)", "<nil>", "false",
			"Undefined", `"undefined"`, `""`, "''", `Optional("eyJ")`,
		} {
			refusals = append(refusals, refusal{empty, []string{"Bearer " + empty}, 401, problem.EmptyValue})
		}
		for _, tt := range refusals {
			var headers []string
			for _, value := range tt.authorization {
				headers = append(headers, "Authorization", value)
			}
			challenge := realm
			if tt.want != problem.NoToken {
				challenge += fmt.Sprintf(`, error="%s", error_description="%s"`, tt.want.Code, tt.want.Text)
			}
			if tt.status == 403 {
				challenge += `, scope="itwin read"`
			}
			resp := f.request("GET /getToken", headers...)
			if got := resp.Header().Get("WWW-Authenticate"); resp.Code != tt.status || got != challenge || resp.Header().Get("Retry-After") != "" {
				t.Errorf("%s: %d, %v; want %d with %s", tt.name, resp.Code, resp.Header(), tt.status, challenge)
			}
			if text := resp.Body.String(); text != tt.want.Text+"\n" {
				t.Errorf("%s: the body is %q, want %q", tt.name, text, tt.want.Text)
			}
		}
		if resp := f.request("GET /getToken?access_token=" + token); resp.Code != 401 || resp.Header().Get("WWW-Authenticate") != realm {
			t.Errorf("a token in the query: %d, want 401 as for none", resp.Code)
		}
		if resp := f.send(token); resp.Code != 200 {
			t.Errorf("a good token: status %d, want 200", resp.Code)
		}
	})
}

func TestAnotherOrganization(t *testing.T) {
	serving(t, func(c *config) { c.Organizations = []string{"org_1"} }, func(f *fixture) {
		resp := f.getToken()
		want := realm + `, error="insufficient_scope", error_description="` + problem.Organization.Text + `"` // no scope is required
		if got := resp.Header().Get("WWW-Authenticate"); resp.Code != 403 || got != want {
			t.Errorf("%d with %s, want 403 with %s", resp.Code, got, want)
		}
		if log := f.log.String(); !strings.Contains(log, "reason=organization sub=auth0|") {
			t.Errorf("the log lacks the reason, or who it was:\n%s", log)
		}
	})
}

// The status says the same as the code: apps act on either.
func TestStatusesOfProblems(t *testing.T) {
	codes := map[string][]int{
		"missing_token": {401}, "invalid_request": {400}, "invalid_token": {401}, "insufficient_scope": {403}, "temporarily_unavailable": {502, 503, 504},
		"method_not_allowed": {405}, "not_found": {404},
	}
	for _, p := range append(problem.All(), problem.NotFound) {
		if !slices.Contains(codes[p.Code], p.Status) {
			t.Errorf("%s: %s with status %d, want %v", p.Reason, p.Code, p.Status, codes[p.Code])
		}
	}
	for err, want := range map[error]*problem.Problem{
		&fresh.Error{Err: fresh.ErrNotFetched}:                  problem.Unreachable,
		&fresh.Error{Err: &upstream.Error{Kind: upstream.Slow}}: problem.Slow,
		context.DeadlineExceeded:                                problem.Slow,
		errors.New("unforeseen"):                                problem.Refused,
	} {
		if got := problemOf(err); got != want {
			t.Errorf("problemOf(%v) = %v, want %v", err, got, want)
		}
	}
}

// jwt decodes a token before it verifies the signature, so the number of its values is
// bounded: refusing the worst takes about 1,300 allocations, not tens of thousands.
func TestTheWorstTokenThatFitsIsCheapToRefuse(t *testing.T) {
	f := newForger(t, nil)
	header, claims := f.texts()
	for open, end := range map[string]string{"[": "]", `{"":`: "}", "{},": "", "[],": "", "9,": "", `"\"",`: ""} {
		token := func(n int) string {
			values := "[" + strings.Repeat(open, n) + "0" + strings.Repeat(end, n) + "]"
			return signedPart(f.raw(header, strings.TrimSuffix(claims, "}")+`,"x":`+values+"}")) + "." + b64("forged")
		}
		n := 50
		for n < 1000 && f.verify(token(n+50)) == problem.Signature {
			n += 50
		}
		largest := token(n)
		if got := testing.AllocsPerRun(10, func() { f.verify(largest) }); got > 1400 {
			t.Errorf("refusing %d of %s takes %v allocations, want at most 1,400", n, open, got)
		}
		if err := f.verify(token(1000)); err != problem.TooLong {
			t.Errorf("verify(1000 of %s) = %v, want %v", open, err, problem.TooLong)
		}
	}
	// Numbers that take strconv up to 30 µs each.
	check := func(text, token string, want error) {
		t.Helper()
		if err := f.verify(token); err != want {
			t.Errorf("verify(%s) = %v, want %v", text, err, want)
		}
	}
	for _, number := range []string{"9e-323", "1E5", "-0.1e1", "123456789012345678901", "0.12345678901234567890"} {
		for _, text := range []string{`{"x":` + number + `}`, `{"x":"\"","y":[` + number + `]}`, `{"\\":` + number + `}`} {
			check(text, f.raw(header, text), problem.TooLong)
			check(text+" in the header", f.raw(text, claims), problem.TooLong)
		}
	}
	for _, text := range []string{"9e9", "5e-9 and 123456789012345678901", `\"9e9`, "true"} { // no number
		check(text, f.claimed(standintest.Claims{"x": text, "y": []any{true, false, nil, -1.5}}), nil)
	}
}

func TestOtherMethodsAndPaths(t *testing.T) {
	f := prepare(t, nil)
	for status, requests := range map[int][]string{
		405: {"POST /getToken", "PUT /getToken", "DELETE /getToken", "PATCH /getToken", "OPTIONS /getToken", "BREW /getToken", "POST /healthz", "DELETE /readyz"},
		404: {"GET /", "GET /gettoken", "GET /getToken/", "GET /getToken/x", "GET //getToken", "POST /nothing", "GET /.env", "GET /demo/userToken"},
		200: {"GET /healthz", "HEAD /healthz"},
	} {
		for _, request := range requests {
			resp := f.request(request)
			if allow := resp.Header().Get("Allow"); resp.Code != status || (allow == "GET, HEAD") != (status == 405) {
				t.Errorf("%s: %d with Allow %q, want %d", request, resp.Code, allow, status)
			}
		}
	}
	if got := strings.Count(f.log.String(), "\n"); got != 6 || strings.Count(f.log.String(), "msg=getToken status=405 ") != 6 {
		t.Errorf("%d lines at info, want one for each request to /getToken:\n%s", got, f.log)
	}
}

// internal/server tests the headers themselves.
func TestEveryAnswerHasTheHeaders(t *testing.T) {
	serving(t, func(c *config) { c.Origins = []string{"https://app.example"} }, func(f *fixture) {
		check := func(origin, allowed string) {
			t.Helper()
			answers := []*httptest.ResponseRecorder{
				f.getToken("Origin", origin), f.getToken("Origin", origin, "Accept", "application/json"),
				f.request("OPTIONS /getToken", "Origin", origin, "Access-Control-Request-Method", "GET"),
			}
			for _, line := range []string{"GET /getToken", "GET /x", "POST /getToken", "GET /healthz", "GET /readyz", "GET //x/../getToken"} {
				answers = append(answers, f.request(line, "Origin", origin))
			}
			for i, resp := range answers {
				for header, want := range map[string]string{
					"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Vary": "Origin", "Access-Control-Allow-Origin": allowed,
				} {
					if got := resp.Header().Get(header); got != want {
						t.Errorf("answer %d, %d: %s is %q, want %q", i, resp.Code, header, got, want)
					}
				}
			}
		}
		check("https://app.example", "https://app.example")
		check("https://other.example", "")
		f.s.IMS.Stop()
		time.Sleep(time.Hour) // getToken is 503
		check("https://app.example", "https://app.example")
	})
}

func TestOutagesAreNotTheCallersFault(t *testing.T) {
	for _, tt := range []struct {
		name       string
		auth0, ims standintest.Fault
		status     int
		took       time.Duration
	}{
		{name: "Auth0 says 503", auth0: standintest.Status(503), status: 503},
		{name: "Auth0 speaks HTML", auth0: standintest.Answer(200, "text/html", "<p>"+standintest.Canary), status: 503},
		{name: "Auth0 hangs", auth0: standintest.Hang(), status: 503, took: 10 * time.Second},
		{name: "both hang up", auth0: standintest.HangUp(), ims: standintest.HangUp(), status: 503},
		{name: "IMS refuses", ims: standintest.Answer(401, "application/json", `{"error":"invalid_client"}`), status: 502},
		{name: "IMS says 503", ims: standintest.Status(503), status: 502},
		{name: "IMS speaks HTML", ims: standintest.Answer(200, "text/html", "<p>"+standintest.Canary), status: 502},
		{name: "IMS redirects", ims: standintest.Redirect("/elsewhere"), status: 502},
		{name: "IMS hangs up", ims: standintest.HangUp(), status: 503},
		{name: "IMS hangs", ims: standintest.Hang(), status: 504, took: 10 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := prepare(t, nil)
			f.s.Tenant.Misbehave(tt.auth0)
			f.s.IMS.Misbehave(tt.ims)
			f.run(t)
			begun := time.Now()
			resp := f.getToken("Accept", "application/json")
			took := time.Since(begun)
			if took != tt.took {
				t.Errorf("%s: answered after %v, want %v", tt.name, took, tt.took)
			}
			retry, challenge := resp.Header().Get("Retry-After"), resp.Header().Get("WWW-Authenticate")
			if resp.Code != tt.status || retry != "1" && retry != "2" || challenge != "" {
				t.Errorf("%s: %d, %v; want %d with Retry-After and no challenge", tt.name, resp.Code, resp.Header(), tt.status)
			}
			if ms := fmt.Sprintf("ms=%d ", took.Milliseconds()); !strings.Contains(f.log.String(), ms) {
				t.Errorf("%s: the log lacks %s:\n%s", tt.name, ms, f.log)
			}
			if bad := f.send(f.s.Tenant.OpaqueToken()); tt.auth0 == nil && bad.Code != 401 {
				t.Errorf("%s: an opaque token gets %d, want 401", tt.name, bad.Code)
			}
			text := resp.Body.String()
			if !strings.HasPrefix(text, `{"error":"temporarily_unavailable"`) || strings.Contains(text+f.log.String(), standintest.Canary) {
				t.Errorf("%s: the body is %s, the log is\n%s", tt.name, text, f.log)
			}
			f.s.Tenant.Behave()
			f.s.IMS.Behave()
			time.Sleep(15 * time.Second)
			if resp := f.getToken(); resp.Code != 200 {
				t.Errorf("%s: %d 15s after its end, want 200", tt.name, resp.Code)
			}
		})
	}
}

// Upstream's Retry-After reaches the callers, and holds for everything that is sent.
func TestCallersGetTheRemainingPause(t *testing.T) {
	for _, tt := range []struct {
		upstream func(*standintest.Standin) *standintest.Server
		status   int
		reason   string
	}{
		{func(s *standintest.Standin) *standintest.Server { return &s.Tenant.Server }, 503, "no_keys"},
		{func(s *standintest.Standin) *standintest.Server { return &s.IMS.Server }, 502, "itwin_throttled"},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := prepare(t, nil)
			server := tt.upstream(f.s)
			server.Misbehave(standintest.Throttle("12"))
			f.run(t)
			synctest.Wait()
			time.Sleep(500 * time.Millisecond)
			for left := 12; left > 0; left-- { // and a half less
				resp := f.getToken()
				if got := resp.Header().Get("Retry-After"); resp.Code != tt.status || got != strconv.Itoa(left) {
					t.Errorf("%d with Retry-After %s, want %d with %d", resp.Code, got, tt.status, left)
				}
				time.Sleep(time.Second)
			}
			if log := f.log.String(); !strings.Contains(log, "asked to wait 12 s") || !strings.Contains(log, "reason="+tt.reason) {
				t.Errorf("the log lacks the pause, or the reason %s:\n%s", tt.reason, log)
			}
		})
	}
}

// While the keys serve, too: of a token whose key is new.
func TestCallersWithANewKeyGetTheRemainingPause(t *testing.T) {
	serving(t, nil, func(f *fixture) {
		f.getToken()
		f.s.Tenant.Rotate()
		f.s.Tenant.Misbehave(standintest.Throttle("120"))
		token := f.s.Tenant.SignWith(f.s.Tenant.NextKey(), nil, f.s.Tenant.Claims(testAudience))
		if resp := f.send(token); resp.Code != 503 || resp.Header().Get("Retry-After") != "120" {
			t.Errorf("%d with Retry-After %s, want 503 with 120", resp.Code, resp.Header().Get("Retry-After"))
		}
	})
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for wait, want := range map[time.Duration]string{-time.Second: "1", 0: "1", 1001 * time.Millisecond: "2", 5 * time.Minute: "300"} {
			if got := retryAfter(&fresh.Error{Retry: time.Now().Add(wait)}); got != want {
				t.Errorf("retryAfter(in %v) = %s, want %s", wait, got, want)
			}
		}
	})
}

func TestACallerThatDisconnectsDisturbsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := prepare(t, nil)
		f.s.IMS.Misbehave(standintest.Delay(2 * time.Second))
		f.run(t)
		ctx, leave := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, leave)
		r := request(f.s.Tenant.AccessToken(testAudience)).WithContext(ctx)
		f.handler.ServeHTTP(httptest.NewRecorder(), r)
		if resp := f.getToken(); resp.Code != 200 || f.s.IMS.Requests() != 1 {
			t.Errorf("the one who stayed got %d after %d grants, want 200 after 1", resp.Code, f.s.IMS.Requests())
		}
		if !strings.Contains(f.log.String(), "reason=canceled") {
			t.Errorf("the one who left is not in the log:\n%s", f.log)
		}
	})
}

func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := prepare(t, nil)
		ready := func(status int, text string) {
			t.Helper()
			synctest.Wait()
			if resp := f.request("GET /readyz"); resp.Code != status || resp.Body.String() != text+"\n" {
				t.Errorf("readyz = %d %q, want %d %q", resp.Code, resp.Body, status, text)
			}
		}
		ready(503, "not ready: no Auth0 keys yet, no iTwin token yet")
		background(t, f.users.keys.Run)
		ready(503, "not ready: no iTwin token yet")
		background(t, f.tokens.Run)
		ready(200, "ready")
		f.s.Tenant.Misbehave(standintest.HangUp())
		f.s.IMS.Misbehave(standintest.HangUp())
		time.Sleep(25 * time.Hour) // everything has died of age
		ready(200, "ready")
		f.draining.Store(true)
		ready(503, "not ready: shutting down")
	})
}

func TestTheLogHoldsWhatAnAuditNeedsAndNoMore(t *testing.T) {
	serving(t, func(c *config) { c.RequiredScopes = []string{"openid"} }, func(f *fixture) {
		f.getToken()
		sub := func(text string) standintest.Claims { return standintest.Claims{"sub": text, "name": "Jane Doe"} }
		issued := f.s.IMS.Issued()[0]
		sum := sha256.Sum256([]byte(issued))
		handedOut := "token=" + hex.EncodeToString(sum[:])[:12]
		for _, tt := range []struct {
			name, token string
			want        []string // in the one line
			sub         bool     // is in it
		}{
			{"good", f.s.Tenant.AccessToken(testAudience, sub("auth0|jane\n\x1b[31mroot\u202e")), []string{"status=200", "ms=", "auth0|jane", handedOut}, true},
			{"e-mail", f.s.Tenant.AccessToken(testAudience, sub("samlp|jane.doe@example.com")), []string{"status=200", "sub=sha256:"}, true},
			{"no scope", f.s.Tenant.IDToken(testClient, sub("auth0|jane")), []string{"status=403", "reason=scope", "sub=auth0|jane"}, true},
			{"another audience", f.s.Tenant.AccessToken("another", sub("auth0|jane")), []string{"status=401", "reason=audience"}, false},
			{"forged", signedPart(f.s.Tenant.AccessToken(testAudience, sub("auth0|jane"))) + ".AA", []string{"status=401", "reason=signature"}, false},
		} {
			before := len(f.log.String())
			f.send(tt.token)
			line := f.log.String()[before:]
			for _, want := range tt.want {
				if !strings.Contains(line, want) {
					t.Errorf("%s: the log lacks %s: %s", tt.name, want, line)
				}
			}
			if strings.Count(line, "\n") != 1 || strings.Contains(line, "sub=") != tt.sub {
				t.Errorf("%s: want one line, with a sub: %v; got %s", tt.name, tt.sub, line)
			}
			for _, leak := range []string{tt.token, issued, f.config.ClientSecret.reveal(), "Jane", "jane.doe", "\x1b", "\u202e"} {
				if strings.Contains(f.log.String(), leak) {
					t.Errorf("%s: the log holds %q: %s", tt.name, leak, f.log)
				}
			}
		}
	})
}

func TestMetrics(t *testing.T) {
	serving(t, nil, func(f *fixture) {
		want := func(lines ...string) {
			t.Helper()
			w := httptest.NewRecorder()
			f.observer.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
			for _, line := range lines {
				if !strings.Contains(w.Body.String(), "\nitwin_token_server_"+line+"\n") {
					t.Errorf("the metrics lack %s", line)
				}
			}
		}
		begun := time.Now()
		f.getToken()
		f.request("GET /getToken")
		want(`requests_total{status="200",reason="ok"} 1`, `requests_total{status="401",reason="no_token"} 1`, `requests_total{status="401",reason="expired"} 0`,
			`request_duration_seconds_count 2`, `grants_total{result="ok"} 1`, `key_fetches_total{result="ok"} 1`,
			"grant_duration_seconds_count 1", "key_fetch_duration_seconds_count 1",
			fmt.Sprint("token_expiry_timestamp_seconds ", begun.Add(time.Hour).Unix()))
		f.s.Tenant.Misbehave(standintest.HangUp())
		time.Sleep(2 * time.Hour)
		want(`grants_total{result="unreachable"} 0`, "keys_age_seconds 7200") // since the last good fetch
	})
}

// FuzzAuthorization sends anything in the one header that callers control: only
// what the tenant signed gets a token, and no answer repeats what was sent.
func FuzzAuthorization(f *testing.F) {
	d := start(f, nil)
	if resp := d.getToken(); resp.Code != 200 {
		f.Fatalf("an honest token gets %d", resp.Code)
	}
	honest := d.s.Tenant.AccessToken(testAudience)
	for _, seed := range []string{
		"", "Bearer", "Bearer ", "bearer  " + honest, "Bearer " + honest, honest, "Basic dTpw", "Bearer " + honest + " " + honest,
		"Bearer " + honest[:len(honest)-2], "Bearer a.b.c", "Bearer ..", "Bearer\t" + honest, "Bearer " + d.s.Tenant.OpaqueToken(), "Bearer \x00\"\\\n",
	} {
		f.Add(seed, "")
		f.Add("Bearer "+honest, seed)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		headers := []string{"Authorization", first}
		if second != "" {
			headers = append(headers, "Authorization", second)
		}
		w := d.request("GET /getToken", headers...)
		if w.Code == 200 && (second != "" || !strings.Contains(first, signedPart(honest))) {
			t.Fatalf("Authorization %q, %q gets a token", first, second)
		}
		if challenge := w.Header().Get("WWW-Authenticate"); w.Code != 200 && (w.Code != 400 && w.Code != 401 || !strings.HasPrefix(challenge, realm)) {
			t.Fatalf("Authorization %q, %q gets %d with %q", first, second, w.Code, challenge)
		}
		if len(first) > 20 && strings.Contains(w.Body.String(), first) {
			t.Fatalf("the answer to %q repeats it", first)
		}
	})
}
