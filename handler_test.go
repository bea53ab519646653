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
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/fresh"
	"itwin-token-server/internal/problem"
	"itwin-token-server/internal/standin/standintest"
	"itwin-token-server/internal/upstream"
)

func TestGetToken(t *testing.T) {
	testServing(t, nil, func(t *testing.T, s *testServer) {
		w := s.get(s.userToken())
		wantStatus(t, "an access token", w, 200)
		wantHeader(t, "an access token", w, "Content-Type", "text/plain; charset=utf-8")
		// The iOS sample takes the second word, the Android sample what is behind "Bearer ".
		if issued := s.IMS.Issued(); len(issued) != 1 || w.Body.String() != "Bearer "+issued[0] {
			t.Errorf("the body is not exactly Bearer and the token that IMS issued")
		}
		many := slices.Repeat([]string{"read:items"}, 350) // 6 KiB
		w = s.get(s.userToken(standintest.Claims{"permissions": many}))
		wantStatus(t, "350 permissions", w, 200)
		for _, scheme := range []string{"bearer", "BEARER", "bEaReR", "Bearer "} {
			header := http.Header{"Authorization": {scheme + " " + s.Tenant.IDToken(testClient)}}
			wantStatus(t, "GET, "+scheme, s.request("GET", "/getToken", header), 200)
			wantStatus(t, "HEAD, "+scheme, s.request("HEAD", "/getToken", header), 200)
		}
	})
}

func TestJSON(t *testing.T) {
	testServing(t, nil, func(t *testing.T, s *testServer) {
		s.get(s.userToken())
		time.Sleep(100*time.Second + time.Millisecond)
		w := s.getJSON(s.userToken())
		var got map[string]any
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Fatal(err)
		}
		if len(got) != 3 || !s.IMS.Valid(fmt.Sprint(got["access_token"])) ||
			got["token_type"] != "Bearer" || got["expires_in"] != 3499.0 {
			t.Errorf("got %v, want the token, Bearer, 3499 s", got)
		}
		wantHeader(t, "JSON", w, "Content-Type", "application/json")
		w = s.getJSON("undefined")
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil ||
			got["error"] != problem.EmptyValue.Code ||
			got["error_description"] != problem.EmptyValue.Text {
			t.Errorf("an error as JSON is %s", w.Body)
		}
	})
}

func TestRefusals(t *testing.T) {
	scopes := func(c *config) { c.RequiredScopes = []string{"itwin", "read"} }
	testServing(t, scopes, func(t *testing.T, s *testServer) {
		token := s.userToken(standintest.Claims{"scope": "itwin read"})
		good := "Bearer " + token
		for _, tt := range []struct {
			name          string
			authorization []string
			want          *problem.Problem
		}{
			{name: "no header", want: problem.NoToken},
			{"an empty header", []string{""}, problem.NoToken},
			{"the scheme alone", []string{"Bearer"}, problem.NoToken},
			{"the scheme and spaces", []string{"Bearer   "}, problem.NoToken},
			{"a password", []string{"Basic dTpw"}, problem.OtherScheme},
			{"DPoP", []string{"DPoP " + token}, problem.OtherScheme},
			{"no scheme", []string{token}, problem.OtherScheme},
			{"two headers", []string{good, good}, problem.TwoHeaders},
			{"too long", []string{"Bearer " + strings.Repeat("a", maxToken+1)}, problem.TooLong},
			{"opaque", []string{"Bearer " + s.Tenant.OpaqueToken()}, problem.NotJWT},
			{"expired", []string{"Bearer " + s.userToken(standintest.Claims{"exp": 1})}, problem.Expired},
			{"no scope", []string{"Bearer " + s.userToken()}, problem.Scope},
		} {
			w := s.request("GET", "/getToken", http.Header{"Authorization": tt.authorization})
			wantStatus(t, tt.name, w, tt.want.Status)
			challenge := `Bearer realm="itwin-token-server"`
			if tt.want != problem.NoToken && tt.want != problem.OtherScheme {
				challenge += fmt.Sprintf(`, error="%s", error_description="%s"`, tt.want.Code, tt.want.Text)
			}
			if tt.want == problem.Scope {
				challenge += `, scope="itwin read"`
			}
			wantHeader(t, tt.name, w, "WWW-Authenticate", challenge)
			wantHeader(t, tt.name, w, "Retry-After", "")
			if got := w.Body.String(); got != tt.want.Text+"\n" {
				t.Errorf("%s: the body is %q, want %q", tt.name, got, tt.want.Text)
			}
		}
		w := s.request("GET", "/getToken?access_token="+token, nil)
		wantStatus(t, "a token in the query", w, 401)
		wantStatus(t, "a good token", s.get(token), 200)
	})
	// Where no scope is required, none is named.
	if got := new(service).challenge(problem.Organization); strings.Contains(got, `scope="`) {
		t.Errorf("challenge = %s, want no scope", got)
	}
}

// What apps send by mistake in place of a token, after "Bearer ".
func TestMistakes(t *testing.T) {
	const token = "eyJh.eyJp.c2ln"
	for want, sent := range map[*problem.Problem][]string{
		problem.EmptyValue: {
			"undefined", "null", "[object Object]", "[object Promise]", "NaN", "{}", "[]", "None", "nil",
			"(null)", "<nil>", "false", "Undefined", `"undefined"`, `""`, "''",
		},
		problem.TwoSchemes: {"Bearer", "Bearer " + token, " BEARER " + token},
		problem.Quoted:     {`"` + token + `"`, "'" + token, "“" + token + "”", `"Bearer ` + token + `"`},
		problem.Template: {
			"{{token}}", "{{ token }}", "{token}", "$TOKEN", "${TOKEN}", "${user.token ?? ''}", "<token>",
			"<YOUR ACCESS TOKEN>", "%TOKEN%", `Optional("` + token + `")`, "TOKEN", "ACCESS_TOKEN",
		},
		problem.TwoTokens: {
			token + " " + token, token + ", Bearer " + token, token + "," + token, "a b", "a,b",
		},
		problem.TooLong: {strings.Repeat("a", maxToken+1)},
		nil: {
			token, token + " ", "secret-0123456789", "a.b.c", "d..e.f.g", "Nullable", "undefined2",
			"optional", "TOKENS", "bearers", "x<token>", strings.Repeat("a", maxToken),
		},
	} {
		for _, text := range sent {
			got, err := bearerToken([]string{"Bearer " + text})
			if want == nil && (got != strings.TrimSpace(text) || err != nil) {
				t.Errorf("bearerToken(Bearer %s) = %q, %v, want the token", text, got, err)
			}
			if want != nil && err != want {
				t.Errorf("bearerToken(Bearer %s) = %v, want %v", text, err, want)
			}
		}
	}
}

func TestProblemOf(t *testing.T) {
	failed := &fresh.Error{Err: &upstream.Error{Kind: upstream.Slow}}
	for err, want := range map[error]*problem.Problem{
		fmt.Errorf("%w: %w", problem.NoKeys, failed):           problem.NoKeys,
		fmt.Errorf("%w: %w", problem.NoKeys, context.Canceled): problem.Canceled,
		failed:                                 problem.Slow,
		&upstream.Error{Kind: "a new one"}:     problem.Refused,
		errors.New("unforeseen"):               problem.Refused,
		&fresh.Error{Err: fresh.ErrNotFetched}: problem.Unreachable,
	} {
		if got := problemOf(err); got != want {
			t.Errorf("problemOf(%v) = %v, want %v", err, got, want)
		}
	}
}

func TestOtherMethodsAndPaths(t *testing.T) {
	s := newIdleServer(t, func(c *config) { c.Origins = []string{"https://app.example"} })
	for _, tt := range []struct {
		status int
		allow  string
		method string
		paths  []string
	}{
		{200, "", "GET", []string{"/healthz"}},
		{200, "", "HEAD", []string{"/healthz"}},
		{405, "GET, HEAD", "POST", []string{"/getToken", "/healthz", "/readyz"}},
		{405, "GET, HEAD", "OPTIONS", []string{"/getToken"}},
		{405, "GET, HEAD", "BREW", []string{"/getToken", "/readyz"}},
		{404, "", "POST", []string{"/nothing"}},
		{404, "", "GET", []string{
			"/", "/gettoken", "/getToken/", "/getToken/x", "//getToken", "/x/../getToken", "/./getToken",
			"/%67etToken", "/getToken%20", "/.env", "/demo/userToken",
		}},
	} {
		for _, path := range tt.paths {
			w := s.request(tt.method, path, nil)
			wantStatus(t, tt.method+" "+path, w, tt.status)
			wantHeader(t, path, w, "Allow", tt.allow)
			wantHeader(t, path, w, "Location", "")
			wantHeader(t, path, w, "Vary", "Origin") // CORS knows the origins
		}
	}
	log := s.log.String()
	if strings.Count(log, "\n") != 3 || strings.Count(log, " status=405 ") != 3 {
		t.Errorf("want a line for each of the 3 requests to /getToken, got\n%s", log)
	}
}

func TestOutages(t *testing.T) {
	html := standintest.Answer(200, "text/html", "<p>"+standintest.Canary)
	invalid := standintest.Answer(401, "application/json", `{"error":"invalid_client"}`)
	for _, tt := range []struct {
		name       string
		auth0, ims standintest.Fault
		status     int
		took       time.Duration
	}{
		{name: "Auth0 speaks HTML", auth0: html, status: 503},
		{name: "Auth0 hangs", auth0: standintest.Hang(), status: 503, took: maxWait},
		{name: "both hang up", auth0: standintest.HangUp(), ims: standintest.HangUp(), status: 503},
		{name: "IMS refuses", ims: invalid, status: 502},
		{name: "IMS speaks HTML", ims: html, status: 502},
		{name: "IMS hangs up", ims: standintest.HangUp(), status: 503},
		{name: "IMS hangs", ims: standintest.Hang(), status: 504, took: maxWait},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newIdleServer(t, nil)
			s.Tenant.Misbehave(tt.auth0)
			s.IMS.Misbehave(tt.ims)
			s.start()
			start := time.Now()
			w := s.getJSON(s.userToken())
			if took := time.Since(start); took != tt.took {
				t.Errorf("%s: answered after %v, want %v", tt.name, took, tt.took)
			}
			wantStatus(t, tt.name, w, tt.status)
			wantHeader(t, tt.name, w, "Retry-After", "1", "2")
			wantHeader(t, tt.name, w, "WWW-Authenticate", "")
			body, log := w.Body.String(), s.log.String()
			if !strings.HasPrefix(body, `{"error":"temporarily_unavailable"`) {
				t.Errorf("%s: the answer is %s", tt.name, body)
			}
			if strings.Contains(body+log, standintest.Canary) {
				t.Errorf("%s: the answer or the log has upstream's text: %s\n%s", tt.name, body, log)
			}
			if ms := fmt.Sprintf("ms=%d ", tt.took.Milliseconds()); !strings.Contains(log, ms) {
				t.Errorf("%s: the log lacks %s:\n%s", tt.name, ms, log)
			}
		})
	}
}

// Upstream's Retry-After reaches the callers, and holds for everything that is sent.
func TestCallersGetTheRemainingPause(t *testing.T) {
	for _, tt := range []struct {
		name       string
		auth0, ims string // Retry-After of its answers
		status     int
		reason     string
	}{
		{name: "Auth0", auth0: "12", status: 503, reason: "no_keys"},
		{name: "IMS", ims: "12", status: 502, reason: "itwin_throttled"},
		{name: "both", auth0: "12", ims: "40", status: 503, reason: "no_keys"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newIdleServer(t, nil)
			if tt.auth0 != "" {
				s.Tenant.Misbehave(standintest.Throttle(tt.auth0))
			}
			if tt.ims != "" {
				s.IMS.Misbehave(standintest.Throttle(tt.ims))
			}
			s.start()
			synctest.Wait()
			time.Sleep(500 * time.Millisecond)
			for left := 12; left > 0; left-- { // and a half less
				w := s.get(s.userToken())
				wantStatus(t, tt.name, w, tt.status)
				wantHeader(t, tt.name, w, "Retry-After", strconv.Itoa(left))
				time.Sleep(time.Second)
			}
			if log := s.log.String(); !strings.Contains(log, "reason="+tt.reason) {
				t.Errorf("%s: the log lacks the reason %s:\n%s", tt.name, tt.reason, log)
			}
		})
	}
}

// While the keys serve, too: of a token whose key is new.
func TestCallersWithANewKeyGetTheRemainingPause(t *testing.T) {
	testServing(t, nil, func(t *testing.T, s *testServer) {
		s.get(s.userToken())
		time.Sleep(20 * time.Second) // keys may be fetched again
		tenant := s.Tenant
		tenant.Rotate()
		tenant.Misbehave(standintest.Throttle("120"))
		w := s.get(tenant.SignWith(tenant.NextKey(), nil, tenant.Claims(testAudience)))
		wantStatus(t, "a new key", w, 503)
		wantHeader(t, "a new key", w, "Retry-After", "120")
	})
}

func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for wait, want := range map[time.Duration]string{
			-time.Second: "1", 0: "1", 1001 * time.Millisecond: "2", 5 * time.Minute: "300",
		} {
			if got := retryAfter(time.Now().Add(wait)); got != want {
				t.Errorf("retryAfter(in %v) = %s, want %s", wait, got, want)
			}
		}
	})
}

func TestACallerThatDisconnectsDisturbsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newIdleServer(t, nil)
		s.IMS.Misbehave(standintest.Delay(2 * time.Second))
		s.start()
		ctx, leave := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, leave)
		s.handler.ServeHTTP(httptest.NewRecorder(), request(s.userToken()).WithContext(ctx))
		if log := s.log.String(); !strings.Contains(log, "level=INFO msg=getToken status=503") ||
			!strings.Contains(log, "reason=canceled") {
			t.Errorf("the one who left is not in the log, or as an error:\n%s", log)
		}
		wantStatus(t, "the one who stayed", s.get(s.userToken()), 200)
		if grants := s.IMS.Requests(); grants != 1 {
			t.Errorf("%d grants, want 1", grants)
		}
	})
}

func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newIdleServer(t, nil)
		wantReady := func(status int, words string) {
			t.Helper()
			synctest.Wait()
			w := s.request("GET", "/readyz", nil)
			wantStatus(t, "readyz", w, status)
			if !strings.Contains(w.Body.String(), words) {
				t.Errorf("readyz says %q, want %q", w.Body, words)
			}
		}
		wantReady(503, "no Auth0 keys yet, no iTwin token yet")
		background(t, s.users.keys.Run)
		wantReady(503, "not ready: no iTwin token yet")
		background(t, s.tokens.Run)
		wantReady(200, "ready")
		s.Tenant.Misbehave(standintest.HangUp())
		s.IMS.Misbehave(standintest.HangUp())
		time.Sleep(25 * time.Hour) // keys and token have expired
		wantReady(200, "ready")
		s.draining.Store(true)
		wantReady(503, "not ready: shutting down")
	})
}

func TestLog(t *testing.T) {
	change := func(c *config) { c.RequiredScopes = []string{"openid"} }
	testServing(t, change, func(t *testing.T, s *testServer) {
		s.get(s.userToken())
		jane := func(sub string) standintest.Claims {
			return standintest.Claims{"sub": sub, "name": "Jane Doe"}
		}
		token := s.userToken(jane("auth0|jane"))
		issued := s.IMS.Issued()[0]
		sum := sha256.Sum256([]byte(issued))
		fingerprint := hex.EncodeToString(sum[:])[:12]
		for _, tt := range []struct {
			name, token, want string // want is a pattern of the one line
		}{
			{"good", token, `status=200 ms=[0-9.]+ sub=auth0\|jane token=` + fingerprint},
			{"control characters", s.userToken(jane("a\n\x1b[31mroot\u202e")), `status=200 .* sub=\S+ `},
			{"no scope", s.Tenant.IDToken(testClient, jane("auth0|jane")),
				`status=403 ms=[0-9.]+ reason=scope sub=auth0\|jane`},
			{"forged", signedPart(token) + ".AA", `status=401 ms=[0-9.]+ reason=signature`},
		} {
			before := s.log.String()
			s.get(tt.token)
			line := strings.TrimPrefix(s.log.String(), before)
			want := regexp.MustCompile(`^time=\S+ level=INFO msg=getToken ` + tt.want + `\S*\n$`)
			if !want.MatchString(line) {
				t.Errorf("%s: want a line like %s, got\n%s", tt.name, want, line)
			}
			secrets := []string{tt.token, issued, s.config.ClientSecret.reveal(), "Jane", "jane.doe"}
			for _, secret := range append(secrets, "\x1b", "\u202e") {
				if strings.Contains(line, secret) {
					t.Errorf("%s: the log has %q: %s", tt.name, secret, line)
				}
			}
		}
	})
}

// A crash after an answer must not lose its line, and no token may leave without one.
func TestLineIsWrittenBeforeTheAnswer(t *testing.T) {
	testServing(t, nil, func(t *testing.T, s *testServer) {
		for _, token := range []string{s.userToken(), "undefined"} {
			before := s.log.String()
			w := answerHook{httptest.NewRecorder(), func(status int) {
				line := strings.TrimPrefix(s.log.String(), before)
				if want := fmt.Sprintf("msg=getToken status=%d", status); !strings.Contains(line, want) {
					t.Errorf("an answer of %d begins before its line is written", status)
				}
			}}
			s.handler.ServeHTTP(w, request(token))
		}
	})
}

// An answerHook calls begin when an answer begins.
type answerHook struct {
	http.ResponseWriter
	begin func(status int)
}

func (w answerHook) WriteHeader(status int) { w.begin(status) }

func TestMetrics(t *testing.T) {
	testServing(t, nil, func(t *testing.T, s *testServer) {
		start := time.Now()
		s.get(s.userToken())
		s.get("")
		s.wantMetrics(
			`requests_total{status="200",reason="ok"} 1`,
			`requests_total{status="401",reason="no_token"} 1`,
			`requests_total{status="401",reason="expired"} 0`,
			`request_duration_seconds_count 2`,
			`grants_total{result="ok"} 1`,
			`grant_duration_seconds_count 1`,
			`key_fetches_total{result="ok"} 1`,
			`key_fetch_duration_seconds_count 1`,
			fmt.Sprint("token_expiry_timestamp_seconds ", start.Add(time.Hour).Unix()))
		s.Tenant.Misbehave(standintest.HangUp())
		time.Sleep(2 * time.Hour)
		s.wantMetrics(
			`grants_total{result="unreachable"} 0`,
			"keys_age_seconds 7200") // since the last good fetch
	})
}

func TestMetricsCountRequestsThatAreNotLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, func(c *config) { c.LogLevel = slog.LevelError })
		s.get(s.userToken())
		s.get("undefined")
		s.wantMetrics(
			`requests_total{status="200",reason="ok"} 1`,
			`requests_total{status="401",reason="empty_value"} 1`,
			`request_duration_seconds_count 2`)
		if log := s.log.String(); log != "" {
			t.Errorf("with LOG_LEVEL=error the log is\n%s", log)
		}
	})
}

// FuzzAuthorization sends anything in the one header that callers control: only
// what the tenant signed gets a token, and no answer repeats what was sent.
func FuzzAuthorization(f *testing.F) {
	s := newServer(f, nil)
	token := s.userToken()
	if w := s.get(token); w.Code != 200 {
		f.Fatalf("a good token gets %d", w.Code)
	}
	for _, seed := range []string{
		"", "Bearer", "Bearer ", "bearer  " + token, "Bearer " + token, token, "Basic dTpw",
		"Bearer " + token + " " + token, "Bearer " + token + ", Bearer " + token,
		"Bearer " + token[:len(token)-2], "Bearer a.b.c", "Bearer ..", "Bearer\t" + token,
		"Bearer " + s.Tenant.OpaqueToken(), "Bearer \x00\"\\\n", "Bearer \"" + token + "\"",
		"Bearer {{token}}", "Bearer Optional(\"" + token + "\")", "Bearer [object Object]",
	} {
		f.Add(seed, "")
		f.Add("Bearer "+token, seed)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		header := http.Header{"Authorization": {first}}
		if second != "" {
			header.Add("Authorization", second)
		}
		s.t = t
		w := s.request("GET", "/getToken", header)
		if w.Code == 200 && (second != "" || !strings.Contains(first, signedPart(token))) {
			t.Fatalf("Authorization %q, %q gets a token", first, second)
		}
		challenge := w.Header().Get("WWW-Authenticate")
		if w.Code != 200 && (w.Code/100 != 4 || !strings.HasPrefix(challenge, realm)) {
			t.Fatalf("Authorization %q, %q gets %d with %q", first, second, w.Code, challenge)
		}
		if len(first) > 20 && strings.Contains(w.Body.String(), first) {
			t.Fatalf("the answer to %q repeats it", first)
		}
	})
}
