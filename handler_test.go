package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/standin"
	"itwin-token-server/internal/telemetry"
)

// A desk is a service with its stand-ins, and what it logged.
type desk struct {
	*service
	s     *standin.Standin
	log   *lines
	serve http.Handler
}

// lines are a log that can be read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer // guarded by mu
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// open makes a service with running owners, until the test's end.
func open(t testing.TB, change func(*config)) *desk {
	t.Helper()
	d := closed(t, change)
	owner(t, d.users.keys.Run)
	owner(t, d.tokens.Run)
	return d
}

// closed makes one whose owners have not begun.
func closed(t testing.TB, change func(*config)) *desk {
	t.Helper()
	s := standins(t)
	c := testConfig(s)
	if change != nil {
		change(&c)
	}
	log := new(lines)
	d := newService(c, s.Transport(), telemetry.NewLog(log, "text", slog.LevelInfo))
	return &desk{d, s, log, d.routes()}
}

// ask sends a request through the real routes; headers are names and values in turn.
func (d *desk) ask(method, path string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	d.serve.ServeHTTP(w, r)
	return w.Result()
}

// exchange sends an access token and perhaps more headers.
func (d *desk) exchange(headers ...string) *http.Response {
	return d.ask("GET", "/getToken", append(headers, "Authorization", "Bearer "+d.s.Tenant.AccessToken(testAudience))...)
}

func body(t *testing.T, resp *http.Response) string {
	t.Helper()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestAGoodTokenGetsTheITwinToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, nil)
		resp := d.exchange()
		text := body(t, resp)
		if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("status %d, %s; want 200, text/plain", resp.StatusCode, resp.Header.Get("Content-Type"))
		}
		if issued := d.s.IMS.Issued(); len(issued) != 1 || text != "Bearer "+issued[0] {
			t.Errorf("the body is not exactly Bearer and the token that IMS issued")
		}
		// The iOS sample takes the second word, the Android sample what is
		// behind "Bearer ", and its exp.
		ios := strings.Split(text, " ")[1]
		android := text[len("Bearer "):]
		if !d.s.IMS.Valid(ios) || !d.s.IMS.Valid(android) {
			t.Error("the samples' parsing does not give the token")
		}
		for _, scheme := range []string{"bearer", "BEARER", "bEaReR", "Bearer "} {
			resp := d.ask("GET", "/getToken", "Authorization", scheme+" "+d.s.Tenant.IDToken(testClient))
			if resp.StatusCode != 200 {
				t.Errorf("scheme %q: status %d, want 200", scheme, resp.StatusCode)
			}
		}
	})
}

func TestJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, nil)
		d.exchange()
		time.Sleep(100*time.Second + time.Millisecond)
		for _, accept := range []string{"application/json", "text/html, application/json;q=0.9", "Application/JSON"} {
			resp := d.exchange("Accept", accept)
			var got map[string]any
			if err := json.Unmarshal([]byte(body(t, resp)), &got); err != nil {
				t.Fatal(err)
			}
			if len(got) != 3 || !d.s.IMS.Valid(fmt.Sprint(got["access_token"])) || got["token_type"] != "Bearer" || got["expires_in"] != 3499.0 {
				t.Errorf("Accept %s: got %v, want the token, Bearer, 3499 s", accept, got)
			}
			if ct := resp.Header.Get("Content-Type"); ct != "application/json" {
				t.Errorf("Accept %s: Content-Type %s", accept, ct)
			}
		}
		for _, accept := range []string{"*/*", "text/plain", "text/html"} {
			if text := body(t, d.exchange("Accept", accept)); !strings.HasPrefix(text, "Bearer ") {
				t.Errorf("Accept %s: got JSON, want text", accept)
			}
		}
		resp := d.ask("GET", "/getToken", "Accept", "application/json")
		if text := body(t, resp); text != `{"error":"missing_token","error_description":"send the user's Auth0 token as Authorization: Bearer \u003ctoken\u003e"}` {
			t.Errorf("an error as JSON is %s", text)
		}
	})
}

func TestHeadIsGetWithoutABody(t *testing.T) {
	d := open(t, nil)
	server := httptest.NewServer(d.serve)
	defer server.Close()
	for _, token := range []string{d.s.Tenant.AccessToken(testAudience), "rubbish"} {
		var answers [2]*http.Response
		for i, method := range []string{"GET", "HEAD"} {
			req, err := http.NewRequest(method, server.URL+"/getToken", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+token)
			if answers[i], err = http.DefaultClient.Do(req); err != nil {
				t.Fatal(err)
			}
			defer answers[i].Body.Close()
		}
		get, head := answers[0], answers[1]
		if get.StatusCode != head.StatusCode || get.ContentLength != head.ContentLength || get.Header.Get("WWW-Authenticate") != head.Header.Get("WWW-Authenticate") {
			t.Errorf("GET %d of %d bytes, HEAD %d of %d; want the same", get.StatusCode, get.ContentLength, head.StatusCode, head.ContentLength)
		}
		if text := body(t, head); text != "" {
			t.Errorf("HEAD has a body: %q", text)
		}
	}
}

func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, func(c *config) { c.RequiredScopes = []string{"itwin", "read"} })
		good := "Bearer " + d.s.Tenant.AccessToken(testAudience, standin.Claims{"scope": "itwin read"})
		description := func(code, words string) string {
			return realm + `, error="` + code + `", error_description="` + words + `"`
		}
		for _, tt := range []struct {
			name      string
			headers   []string
			status    int
			challenge string
		}{
			{"no token", nil, 401, realm},
			{"another scheme", []string{"Authorization", "Basic dTpw"}, 401, realm},
			{"the scheme alone", []string{"Authorization", "Bearer"}, 401, realm},
			{"the scheme and spaces", []string{"Authorization", "Bearer   "}, 401, realm},
			{"an empty header", []string{"Authorization", ""}, 401, realm},
			{"a token without a scheme", []string{"Authorization", good[7:]}, 401, realm},
			{"two headers", []string{"Authorization", good, "Authorization", good}, 400, description("invalid_request", "send one Authorization header")},
			{"an opaque token", []string{"Authorization", "Bearer " + d.s.Tenant.OpaqueToken()}, 401, description("invalid_token", errNotJWT.words)},
			{"two tokens", []string{"Authorization", good + " " + good[7:]}, 401, description("invalid_token", errNotJWT.words)},
			{"rubbish", []string{"Authorization", "Bearer \x00\xff<>\"\\"}, 401, description("invalid_token", errNotJWT.words)},
			{"a token too long", []string{"Authorization", "Bearer " + strings.Repeat("a", maxToken+1)}, 401, description("invalid_token", errTooLong.words)},
			{"expired", []string{"Authorization", "Bearer " + d.s.Tenant.AccessToken(testAudience, standin.Claims{"exp": 1})}, 401, description("invalid_token", "expired")},
			{"no scope", []string{"Authorization", "Bearer " + d.s.Tenant.AccessToken(testAudience)}, 403, description("insufficient_scope", errScope.words) + `, scope="itwin read"`},
		} {
			resp := d.ask("GET", "/getToken", tt.headers...)
			if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != tt.status || got != tt.challenge {
				t.Errorf("%s: %d with %s; want %d with %s", tt.name, resp.StatusCode, got, tt.status, tt.challenge)
			}
			if resp.Header.Get("Retry-After") != "" {
				t.Errorf("%s: Retry-After, want none", tt.name)
			}
			if text := body(t, resp); text == "" || len(text) > 100 || strings.Contains(text, "ey") {
				t.Errorf("%s: the body is %q, want a few fixed words", tt.name, text)
			}
		}
		if resp := d.ask("GET", "/getToken", "Authorization", good); resp.StatusCode != 200 {
			t.Errorf("a good token: status %d, want 200", resp.StatusCode)
		}
	})
}

func TestATokenInTheQueryIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, nil)
		resp := d.ask("GET", "/getToken?access_token="+d.s.Tenant.AccessToken(testAudience))
		if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != 401 || got != realm {
			t.Errorf("%d with %s, want 401 with %s", resp.StatusCode, got, realm)
		}
	})
}

func TestOtherMethodsAndPaths(t *testing.T) {
	d := closed(t, nil)
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{"POST", "/getToken", 405}, {"PUT", "/getToken", 405}, {"DELETE", "/getToken", 405}, {"PATCH", "/getToken", 405}, {"OPTIONS", "/getToken", 405}, {"BREW", "/getToken", 405},
		{"POST", "/healthz", 405}, {"DELETE", "/readyz", 405},
		{"GET", "/", 404}, {"GET", "/gettoken", 404}, {"GET", "/getToken/", 404}, {"GET", "/getToken/x", 404}, {"POST", "/nothing", 404}, {"GET", "/.env", 404}, {"GET", "/demo/userToken", 404},
		{"GET", "/healthz", 200}, {"HEAD", "/healthz", 200},
	} {
		resp := d.ask(tt.method, tt.path)
		if resp.StatusCode != tt.status {
			t.Errorf("%s %s: %d, want %d", tt.method, tt.path, resp.StatusCode, tt.status)
		}
		if allow := resp.Header.Get("Allow"); (allow == "GET, HEAD") != (tt.status == 405) {
			t.Errorf("%s %s: Allow %q", tt.method, tt.path, allow)
		}
	}
	if d.log.String() != "" {
		t.Errorf("they are logged at info: %s", d.log)
	}
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, nil)
		answers := map[string]*http.Response{
			"200": d.exchange(), "JSON": d.exchange("Accept", "application/json"), "401": d.ask("GET", "/getToken"), "404": d.ask("GET", "/x"),
			"405": d.ask("POST", "/getToken"), "healthz": d.ask("GET", "/healthz"), "readyz": d.ask("GET", "/readyz"),
			"a path to clean": d.ask("GET", "//x/../getToken"),
			"preflight":       d.ask("OPTIONS", "/getToken", "Origin", "https://app.example", "Access-Control-Request-Method", "GET"),
		}
		d.s.IMS.Stop()
		time.Sleep(time.Hour)
		answers["503"] = d.exchange()
		for name, resp := range answers {
			for header, want := range map[string]string{
				"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
				"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "WWW-Authenticate, Retry-After",
			} {
				if got := resp.Header.Get(header); got != want {
					t.Errorf("%s: %s is %q, want %q", name, header, got, want)
				}
			}
		}
		preflight := answers["preflight"]
		if preflight.StatusCode != 204 || preflight.Header.Get("Access-Control-Allow-Headers") != "Authorization, *" || preflight.Header.Get("Access-Control-Max-Age") == "" {
			t.Errorf("preflight: %d, %v", preflight.StatusCode, preflight.Header)
		}
	})
}

func TestAnOriginListLetsOnlyItsOwnRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, func(c *config) { c.Origins = []string{"https://app.example", "http://localhost:3000"} })
		for origin, welcome := range map[string]bool{
			"https://app.example": true, "http://localhost:3000": true,
			"https://app.example.evil": false, "http://app.example": false, "https://APP.example": false, "null": false, "*": false, "": false,
		} {
			for _, resp := range []*http.Response{
				d.exchange("Origin", origin), d.ask("GET", "/getToken", "Origin", origin),
				d.ask("OPTIONS", "/getToken", "Origin", origin, "Access-Control-Request-Method", "GET"),
			} {
				got := resp.Header.Get("Access-Control-Allow-Origin")
				if (got == origin && got != "") != welcome || !welcome && got != "" {
					t.Errorf("origin %q is allowed %q", origin, got)
				}
				if resp.Header.Get("Vary") != "Origin" {
					t.Errorf("origin %q: Vary %q, want Origin", origin, resp.Header.Get("Vary"))
				}
			}
		}
	})
}

func TestOutagesAreNotTheCallersFault(t *testing.T) {
	for _, tt := range []struct {
		name           string
		auth0, ims     standin.Fault
		stop           bool // refuse connections, both
		status         int
		after, atLeast time.Duration
	}{
		{name: "Auth0 says 503", auth0: standin.Status(503), status: 503},
		{name: "Auth0 speaks HTML", auth0: standin.Answer(200, "text/html", "<p>"), status: 503},
		{name: "Auth0 hangs", auth0: standin.Hang(), status: 503, atLeast: patience},
		{name: "both refuse connections", stop: true, status: 503},
		{name: "IMS refuses", ims: standin.Answer(401, "application/json", `{"error":"invalid_client"}`), status: 502},
		{name: "IMS says 503", ims: standin.Status(503), status: 502},
		{name: "IMS speaks HTML", ims: standin.Answer(200, "text/html", "<p>"), status: 502},
		{name: "IMS redirects", ims: standin.Redirect("/elsewhere"), status: 502},
		{name: "IMS hangs up", ims: standin.HangUp(), status: 503},
		{name: "IMS hangs", ims: standin.Hang(), status: 504, atLeast: patience},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := closed(t, nil)
				if tt.auth0 != nil {
					d.s.Tenant.Misbehave(tt.auth0)
				}
				if tt.ims != nil {
					d.s.IMS.Misbehave(tt.ims)
				}
				if tt.stop {
					d.s.Tenant.Stop()
					d.s.IMS.Stop()
				}
				owner(t, d.users.keys.Run)
				owner(t, d.tokens.Run)
				begun := time.Now()
				resp := d.exchange("Accept", "application/json")
				if took := time.Since(begun); took != tt.atLeast {
					t.Errorf("answered after %v, want %v", took, tt.atLeast)
				}
				if resp.StatusCode != tt.status || resp.Header.Get("Retry-After") != retryAfter || resp.Header.Get("WWW-Authenticate") != "" {
					t.Errorf("%d, %v; want %d with Retry-After and no challenge", resp.StatusCode, resp.Header, tt.status)
				}
				if text := body(t, resp); strings.Contains(text, standin.Canary) || !strings.HasPrefix(text, `{"error":"temporarily_unavailable"`) {
					t.Errorf("the body is %s", text)
				}
				if strings.Contains(d.log.String(), standin.Canary) {
					t.Errorf("upstream's text is in the log: %s", d.log)
				}
			})
		})
	}
}

func TestACallerThatLeavesSpoilsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := closed(t, nil)
		d.s.IMS.Misbehave(standin.Delay(2 * time.Second))
		owner(t, d.users.keys.Run)
		owner(t, d.tokens.Run)
		ctx, leave := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, leave)
		r := httptest.NewRequestWithContext(ctx, "GET", "/getToken", nil)
		r.Header.Set("Authorization", "Bearer "+d.s.Tenant.AccessToken(testAudience))
		d.serve.ServeHTTP(httptest.NewRecorder(), r)
		if resp := d.exchange(); resp.StatusCode != 200 || d.s.IMS.Requests() != 1 {
			t.Errorf("the one who stayed got %d after %d grants, want 200 after 1", resp.StatusCode, d.s.IMS.Requests())
		}
		if line := strings.Split(d.log.String(), "\n"); !strings.Contains(d.log.String(), "reason=canceled") {
			t.Errorf("the one who left is not in the log: %q", line)
		}
	})
}

func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := closed(t, nil)
		ready := func(status int, text string) {
			t.Helper()
			resp := d.ask("GET", "/readyz")
			if got := body(t, resp); resp.StatusCode != status || got != text+"\n" {
				t.Errorf("readyz = %d %q, want %d %q", resp.StatusCode, got, status, text)
			}
		}
		ready(503, "not ready: no keys of Auth0 yet, no iTwin token yet")
		owner(t, d.users.keys.Run)
		synctest.Wait()
		ready(503, "not ready: no iTwin token yet")
		owner(t, d.tokens.Run)
		synctest.Wait()
		ready(200, "ready")
		d.s.Tenant.Stop()
		d.s.IMS.Stop()
		time.Sleep(48 * time.Hour) // everything has died of age
		ready(200, "ready")
		d.draining.Store(true)
		ready(503, "not ready: shutting down")
	})
}

func TestTheLogHoldsWhatAnAuditNeedsAndNoMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, nil)
		user := d.s.Tenant.IDToken(testClient, standin.Claims{"sub": "auth0|jane\n\x1b[31mroot\u202e"})
		d.ask("GET", "/getToken", "Authorization", "Bearer "+user)
		d.ask("GET", "/getToken", "Authorization", "Bearer "+d.s.Tenant.IDToken(testClient, standin.Claims{"sub": "samlp|jane.doe@example.com"}))
		d.ask("GET", "/getToken", "Authorization", "Bearer "+d.s.Tenant.IDToken("another"))
		log := d.log.String()
		token := newItwinToken(d.s.IMS.Issued()[0], time.Now())
		for _, want := range []string{"status=200", "ms=", "token=" + token.fingerprint, "auth0|jane", "status=401", "reason=audience", "sub=sha256:"} {
			if !strings.Contains(log, want) {
				t.Errorf("the log lacks %s:\n%s", want, log)
			}
		}
		for _, leak := range []string{user, token.access.reveal(), d.config.ClientSecret.reveal(), "Jane", "jane.doe", "\x1b", "\u202e"} {
			if strings.Contains(log, leak) {
				t.Errorf("the log holds %q:\n%s", leak, log)
			}
		}
		// "got keys", "got token", and one for each request.
		if n := strings.Count(log, "\n"); n != 5 {
			t.Errorf("%d lines, want 5:\n%s", n, log)
		}
	})
}

func TestWhoLacksAScopeIsNamedInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, func(c *config) { c.RequiredScopes = []string{"itwin"} })
		good := d.s.Tenant.AccessToken(testAudience, standin.Claims{"sub": "auth0|verified"})
		d.ask("GET", "/getToken", "Authorization", "Bearer "+good)
		if log := d.log.String(); !strings.Contains(log, "status=403") || !strings.Contains(log, "sub=auth0|verified") {
			t.Errorf("the log of a verified caller without the scope lacks the sub:\n%s", log)
		}
		d.ask("GET", "/getToken", "Authorization", "Bearer "+d.s.Tenant.AccessToken(testAudience, standin.Claims{"sub": "auth0|forged"})+"AA")
		if log := d.log.String(); strings.Contains(log, "forged") {
			t.Errorf("the log names a caller that was not verified:\n%s", log)
		}
	})
}

func TestOutcomesAreWhatTheMetricsCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := open(t, nil)
		d.exchange()
		d.ask("GET", "/getToken")
		w := httptest.NewRecorder()
		d.observer.Metrics.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		for _, want := range []string{
			`itwin_token_server_requests_total{status="200",reason="ok"} 1`,
			`itwin_token_server_requests_total{status="401",reason="no_token"} 1`,
			`itwin_token_server_requests_total{status="401",reason="expired"} 0`,
			`itwin_token_server_request_duration_seconds_count 2`,
			`itwin_token_server_grants_total{result="ok"} 1`,
			`itwin_token_server_key_fetches_total{result="ok"} 1`,
		} {
			if !strings.Contains(w.Body.String(), want+"\n") {
				t.Errorf("the metrics lack %s", want)
			}
		}
	})
}

// FuzzAuthorization sends anything in the one header that callers control: only
// what the tenant signed gets a token, and no answer repeats what was sent.
func FuzzAuthorization(f *testing.F) {
	d := open(f, nil)
	if resp := d.exchange(); resp.StatusCode != 200 {
		f.Fatalf("an honest token gets %d", resp.StatusCode)
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
		r := httptest.NewRequest("GET", "/getToken", nil)
		r.Header["Authorization"] = []string{first}
		if second != "" {
			r.Header["Authorization"] = []string{first, second}
		}
		w := httptest.NewRecorder()
		d.serve.ServeHTTP(w, r)
		if w.Code == 200 && (second != "" || !strings.Contains(first, sameSigned(honest))) {
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

// sameSigned is the part of a token that its signature covers.
func sameSigned(token string) string { return token[:strings.LastIndexByte(token, '.')] }
