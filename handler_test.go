package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/standin"
	"itwin-token-server/internal/telemetry"
)

// A fixture is a service with its stand-ins and its log.
type fixture struct {
	*service
	s       *standin.Standin
	log     *standin.Log
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
	s := standin.ForTest(t)
	c := testConfig(s)
	if change != nil {
		change(&c)
	}
	log := new(standin.Log)
	service := newService(c, s.Transport(), telemetry.NewLog(log, "text", slog.LevelInfo))
	return &fixture{service, s, log, service.routes(nil)}
}

func (f *fixture) run(t testing.TB) {
	background(t, f.users.keys.Run)
	background(t, f.tokens.Run)
}

// request sends a request to the real routes; headers are names and values in turn.
func (f *fixture) request(method, path string, headers ...string) *http.Response {
	r := httptest.NewRequest(method, path, nil)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	f.handler.ServeHTTP(w, r)
	return w.Result()
}

// getToken sends an access token and perhaps more headers.
func (f *fixture) getToken(headers ...string) *http.Response {
	return f.request("GET", "/getToken", append(headers, "Authorization", "Bearer "+f.s.Tenant.AccessToken(testAudience))...)
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
		d := start(t, nil)
		resp := d.getToken()
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
			resp := d.request("GET", "/getToken", "Authorization", scheme+" "+d.s.Tenant.IDToken(testClient))
			if resp.StatusCode != 200 {
				t.Errorf("scheme %q: status %d, want 200", scheme, resp.StatusCode)
			}
		}
	})
}

func TestJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, nil)
		d.getToken()
		time.Sleep(100*time.Second + time.Millisecond)
		for _, accept := range []string{"application/json", "text/html, application/json;q=0.9", "Application/JSON"} {
			resp := d.getToken("Accept", accept)
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
			if text := body(t, d.getToken("Accept", accept)); !strings.HasPrefix(text, "Bearer ") {
				t.Errorf("Accept %s: got JSON, want text", accept)
			}
		}
		resp := d.request("GET", "/getToken", "Accept", "application/json")
		if text := body(t, resp); text != `{"error":"missing_token","error_description":"send the user's Auth0 token as Authorization: Bearer \u003ctoken\u003e"}` {
			t.Errorf("an error as JSON is %s", text)
		}
	})
}

func TestHeadIsGetWithoutABody(t *testing.T) {
	d := start(t, nil)
	server := httptest.NewServer(d.handler)
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
		d := start(t, func(c *config) { c.RequiredScopes = []string{"itwin", "read"} })
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
			{"an opaque token", []string{"Authorization", "Bearer " + d.s.Tenant.OpaqueToken()}, 401, description("invalid_token", errNotJWT.text)},
			{"two tokens", []string{"Authorization", good + " " + good[7:]}, 401, description("invalid_token", errNotJWT.text)},
			{"the scheme twice", []string{"Authorization", "Bearer " + good}, 401, description("invalid_token", errTwoSchemes.text)},
			{"the scheme twice, in another case", []string{"Authorization", "bearer  BEARER " + good[7:]}, 401, description("invalid_token", errTwoSchemes.text)},
			{"rubbish", []string{"Authorization", "Bearer \x00\xff<>\"\\"}, 401, description("invalid_token", errNotJWT.text)},
			{"a token too long", []string{"Authorization", "Bearer " + strings.Repeat("a", maxToken+1)}, 401, description("invalid_token", errTooLong.text)},
			{"expired", []string{"Authorization", "Bearer " + d.s.Tenant.AccessToken(testAudience, standin.Claims{"exp": 1})}, 401, description("invalid_token", "expired")},
			{"no scope", []string{"Authorization", "Bearer " + d.s.Tenant.AccessToken(testAudience)}, 403, description("insufficient_scope", errScope.text) + `, scope="itwin read"`},
		} {
			resp := d.request("GET", "/getToken", tt.headers...)
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
		if resp := d.request("GET", "/getToken", "Authorization", good); resp.StatusCode != 200 {
			t.Errorf("a good token: status %d, want 200", resp.StatusCode)
		}
	})
}

// What a program sends that had no token yet.
func TestEmptyValuesAsTokens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, nil)
		for _, value := range []string{
			"undefined", "null", "[object Object]", "[object Promise]", "NaN", "{}", "[]", "None", "nil", "(null)", "<nil>", "false",
			"Undefined", `"undefined"`, `""`, "''", "Optional(\"eyJ\")",
		} {
			resp := f.request("GET", "/getToken", "Authorization", "Bearer "+value, "Accept", "application/json")
			if text := body(t, resp); resp.StatusCode != 401 || !strings.Contains(text, errNoUserToken.text) {
				t.Errorf("Bearer %s: %d %s, want 401 %s", value, resp.StatusCode, text, errNoUserToken.text)
			}
		}
	})
}

// A token costs at most a few times as much to refuse as to accept: jwt decodes
// the claims first, so the number of values in them is bounded.
func TestTheWorstTokenThatFitsIsCheapToRefuse(t *testing.T) {
	f := start(t, nil)
	forge := forger{t, f.s.Tenant}
	claims := strings.TrimSuffix(forge.json(forge.claims(nil)), "}")
	cost := func(token string) float64 {
		return testing.AllocsPerRun(10, func() { verify(f.users, token) })
	}
	next := 0
	normal := cost(forge.with(nil)) // remembered after the first
	normal = testing.AllocsPerRun(10, func() {
		next++
		verify(f.users, forge.with(standin.Claims{"jti": next}))
	}) - testing.AllocsPerRun(10, func() { forge.with(standin.Claims{"jti": next}) }) + normal
	for name, values := range map[string]func(n int) string{
		"nested arrays":  func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) },
		"nested objects": func(n int) string { return strings.Repeat(`{"":`, n) + "0" + strings.Repeat("}", n) },
		"empty objects":  func(n int) string { return "[" + strings.Repeat("{},", n) + "0]" },
		"empty arrays":   func(n int) string { return "[" + strings.Repeat("[],", n) + "0]" },
		"numbers":        func(n int) string { return "[" + strings.Repeat("1e9,", n) + "0]" },
		"texts":          func(n int) string { return "[" + strings.Repeat(`"",`, n) + "0]" },
	} {
		token := func(n int) string {
			honest := forge.raw(forge.json(forge.header(nil)), claims+`,"x":`+values(n)+"}")
			return honest[:strings.LastIndexByte(honest, '.')+1] + b64("forged")
		}
		largest := ""
		for n := 50; len(token(n)) <= maxToken && verify(f.users, token(n)) == errSignature; n += 50 {
			largest = token(n)
		}
		if got := cost(largest); largest == "" || got > 15*normal {
			t.Errorf("%s: refusing a token of %d bytes takes %v allocations, accepting a normal one %v", name, len(largest), got, normal)
		}
		if err := verify(f.users, token(1000)); err != errTooLong {
			t.Errorf("%s: verify(1000 values) = %v, want %v", name, err, errTooLong)
		}
	}
}

func TestATokenInTheQueryIsNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, nil)
		resp := d.request("GET", "/getToken?access_token="+d.s.Tenant.AccessToken(testAudience))
		if got := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != 401 || got != realm {
			t.Errorf("%d with %s, want 401 with %s", resp.StatusCode, got, realm)
		}
	})
}

func TestOtherMethodsAndPaths(t *testing.T) {
	d := prepare(t, nil)
	for _, tt := range []struct {
		method, path string
		status       int
	}{
		{"POST", "/getToken", 405}, {"PUT", "/getToken", 405}, {"DELETE", "/getToken", 405}, {"PATCH", "/getToken", 405}, {"OPTIONS", "/getToken", 405}, {"BREW", "/getToken", 405},
		{"POST", "/healthz", 405}, {"DELETE", "/readyz", 405},
		{"GET", "/", 404}, {"GET", "/gettoken", 404}, {"GET", "/getToken/", 404}, {"GET", "/getToken/x", 404}, {"POST", "/nothing", 404}, {"GET", "/.env", 404}, {"GET", "/demo/userToken", 404},
		{"GET", "/healthz", 200}, {"HEAD", "/healthz", 200},
	} {
		resp := d.request(tt.method, tt.path)
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

func TestEveryAnswerHasTheHeaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, nil)
		answers := map[string]*http.Response{
			"200": d.getToken(), "JSON": d.getToken("Accept", "application/json"), "401": d.request("GET", "/getToken"), "404": d.request("GET", "/x"),
			"405": d.request("POST", "/getToken"), "healthz": d.request("GET", "/healthz"), "readyz": d.request("GET", "/readyz"),
			"a path to clean": d.request("GET", "//x/../getToken"),
			"preflight":       d.request("OPTIONS", "/getToken", "Origin", "https://app.example", "Access-Control-Request-Method", "GET"),
		}
		d.s.IMS.Stop()
		time.Sleep(time.Hour)
		answers["503"] = d.getToken()
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

func TestOnlyListedOriginsMayRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, func(c *config) { c.Origins = []string{"https://app.example", "http://localhost:3000"} })
		for origin, allowed := range map[string]bool{
			"https://app.example": true, "http://localhost:3000": true,
			"https://app.example.evil": false, "http://app.example": false, "https://APP.example": false, "null": false, "*": false, "": false,
		} {
			for _, resp := range []*http.Response{
				d.getToken("Origin", origin), d.request("GET", "/getToken", "Origin", origin),
				d.request("OPTIONS", "/getToken", "Origin", origin, "Access-Control-Request-Method", "GET"),
			} {
				got := resp.Header.Get("Access-Control-Allow-Origin")
				if (got == origin && got != "") != allowed || !allowed && got != "" {
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
		{name: "Auth0 hangs", auth0: standin.Hang(), status: 503, atLeast: maxWait},
		{name: "both refuse connections", stop: true, status: 503},
		{name: "IMS refuses", ims: standin.Answer(401, "application/json", `{"error":"invalid_client"}`), status: 502},
		{name: "IMS says 503", ims: standin.Status(503), status: 502},
		{name: "IMS speaks HTML", ims: standin.Answer(200, "text/html", "<p>"), status: 502},
		{name: "IMS redirects", ims: standin.Redirect("/elsewhere"), status: 502},
		{name: "IMS hangs up", ims: standin.HangUp(), status: 503},
		{name: "IMS hangs", ims: standin.Hang(), status: 504, atLeast: maxWait},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := prepare(t, nil)
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
				d.run(t)
				begun := time.Now()
				resp := d.getToken("Accept", "application/json")
				if took := time.Since(begun); took != tt.atLeast {
					t.Errorf("answered after %v, want %v", took, tt.atLeast)
				}
				if resp.StatusCode != tt.status || !slices.Contains([]string{"1", "2"}, resp.Header.Get("Retry-After")) || resp.Header.Get("WWW-Authenticate") != "" {
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

// Upstream's Retry-After reaches the callers, and holds for everything that is sent.
func TestCallersGetTheRemainingPause(t *testing.T) {
	for _, tt := range []struct {
		name, retryAfter string
		pause            int // seconds; 0: none
	}{
		{"seconds", "12", 12}, {"a date", "Sat, 01 Jan 2000 00:00:12 GMT", 12}, {"an hour", "3600", 300}, {"nonsense", "soon", 0},
	} {
		synctest.Test(t, func(t *testing.T) { // the clock begins at 2000-01-01T00:00:00Z
			f := prepare(t, nil)
			f.s.IMS.Misbehave(standin.Throttle(tt.retryAfter))
			f.run(t)
			for second := range 10 {
				synctest.Wait()
				resp := f.getToken()
				if want := strconv.Itoa(max(1, tt.pause-second)); resp.StatusCode != 502 || tt.pause > 0 && resp.Header.Get("Retry-After") != want {
					t.Errorf("%s: after %d s: %d with Retry-After %s, want 502 with %s", tt.name, second, resp.StatusCode, resp.Header.Get("Retry-After"), want)
				}
				time.Sleep(time.Second)
			}
			if n := f.s.IMS.Requests(); (n == 1) != (tt.pause > 0) {
				t.Errorf("%s: %d grants in 10 s", tt.name, n)
			}
			f.s.IMS.Behave()
			f.getToken() // without a pause, it brings the next grant forward
			time.Sleep(time.Duration(max(0, tt.pause-10)+2) * time.Second)
			synctest.Wait()
			if resp := f.getToken(); resp.StatusCode != 200 {
				t.Errorf("%s: %d 2 s after the pause, want 200", tt.name, resp.StatusCode)
			}
			if tt.pause > 0 && !strings.Contains(f.log.String(), fmt.Sprintf("asked to wait %d s", tt.pause)) {
				t.Errorf("%s: the log lacks the pause:\n%s", tt.name, f.log)
			}
		})
	}
}

func TestACallerThatDisconnectsDisturbsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := prepare(t, nil)
		d.s.IMS.Misbehave(standin.Delay(2 * time.Second))
		d.run(t)
		ctx, leave := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, leave)
		r := httptest.NewRequestWithContext(ctx, "GET", "/getToken", nil)
		r.Header.Set("Authorization", "Bearer "+d.s.Tenant.AccessToken(testAudience))
		d.handler.ServeHTTP(httptest.NewRecorder(), r)
		if resp := d.getToken(); resp.StatusCode != 200 || d.s.IMS.Requests() != 1 {
			t.Errorf("the one who stayed got %d after %d grants, want 200 after 1", resp.StatusCode, d.s.IMS.Requests())
		}
		if line := strings.Split(d.log.String(), "\n"); !strings.Contains(d.log.String(), "reason=canceled") {
			t.Errorf("the one who left is not in the log: %q", line)
		}
	})
}

func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := prepare(t, nil)
		ready := func(status int, text string) {
			t.Helper()
			resp := d.request("GET", "/readyz")
			if got := body(t, resp); resp.StatusCode != status || got != text+"\n" {
				t.Errorf("readyz = %d %q, want %d %q", resp.StatusCode, got, status, text)
			}
		}
		ready(503, "not ready: no Auth0 keys yet, no iTwin token yet")
		background(t, d.users.keys.Run)
		synctest.Wait()
		ready(503, "not ready: no iTwin token yet")
		background(t, d.tokens.Run)
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
		d := start(t, nil)
		user := d.s.Tenant.IDToken(testClient, standin.Claims{"sub": "auth0|jane\n\x1b[31mroot\u202e"})
		d.request("GET", "/getToken", "Authorization", "Bearer "+user)
		d.request("GET", "/getToken", "Authorization", "Bearer "+d.s.Tenant.IDToken(testClient, standin.Claims{"sub": "samlp|jane.doe@example.com"}))
		d.request("GET", "/getToken", "Authorization", "Bearer "+d.s.Tenant.IDToken("another"))
		log := d.log.String()
		token := newItwinToken(d.s.IMS.Issued()[0], time.Now())
		for _, want := range []string{"status=200", "ms=", "token=" + token.fingerprint, "auth0|jane", "status=401", "reason=audience", "sub=sha256:"} {
			if !strings.Contains(log, want) {
				t.Errorf("the log lacks %s:\n%s", want, log)
			}
		}
		for _, leak := range []string{user, strings.TrimPrefix(token.bearer.reveal(), "Bearer "), d.config.ClientSecret.reveal(), "Jane", "jane.doe", "\x1b", "\u202e"} {
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

func TestACallerWithoutTheScopeIsNamedInTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, func(c *config) { c.RequiredScopes = []string{"itwin"} })
		good := d.s.Tenant.AccessToken(testAudience, standin.Claims{"sub": "auth0|verified"})
		d.request("GET", "/getToken", "Authorization", "Bearer "+good)
		if log := d.log.String(); !strings.Contains(log, "status=403") || !strings.Contains(log, "sub=auth0|verified") {
			t.Errorf("the log of a verified caller without the scope lacks the sub:\n%s", log)
		}
		d.request("GET", "/getToken", "Authorization", "Bearer "+d.s.Tenant.AccessToken(testAudience, standin.Claims{"sub": "auth0|forged"})+"AA")
		if log := d.log.String(); strings.Contains(log, "forged") {
			t.Errorf("the log names a caller that was not verified:\n%s", log)
		}
	})
}

func TestKeysAgeCountsFromTheLastGoodFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, nil)
		synctest.Wait()
		f.s.Tenant.Stop()
		time.Sleep(2 * time.Hour)
		w := httptest.NewRecorder()
		f.observer.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		if want := "\nitwin_token_server_keys_age_seconds 7200\n"; !strings.Contains(w.Body.String(), want) {
			t.Errorf("the metrics lack %s:\n%s", want, w.Body)
		}
	})
}

func TestMetricsCountEveryOutcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := start(t, nil)
		d.getToken()
		d.request("GET", "/getToken")
		w := httptest.NewRecorder()
		d.observer.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
		for _, want := range []string{
			`itwin_token_server_requests_total{status="200",reason="ok"} 1`,
			`itwin_token_server_requests_total{status="401",reason="no_token"} 1`,
			`itwin_token_server_requests_total{status="401",reason="expired"} 0`,
			`itwin_token_server_request_duration_seconds_count 2`,
			`itwin_token_server_grants_total{result="ok"} 1`,
			`itwin_token_server_token_expiry_timestamp_seconds 946688400`,
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
	d := start(f, nil)
	if resp := d.getToken(); resp.StatusCode != 200 {
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
		d.handler.ServeHTTP(w, r)
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

// signedPart is the part of a token that its signature covers.
func signedPart(token string) string { return token[:strings.LastIndexByte(token, '.')] }
