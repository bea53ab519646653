package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
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
		for userToken, want := range map[string]string{
			s.userToken(): `{"access_token":"` + s.IMS.Issued()[0] +
				`","expires_in":3499,"token_type":"Bearer"}`,
			"undefined": `{"error":"invalid_token","error_description":"` +
				problem.EmptyValue.Text + `"}`,
		} {
			w := s.get(userToken, "application/json")
			wantHeader(t, "JSON", w, "Content-Type", "application/json")
			if got := w.Body.String(); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
	})
}

func TestRefusals(t *testing.T) {
	scopes := func(c *config) { c.RequiredScopes = []string{"itwin", "read"} }
	testServing(t, scopes, func(t *testing.T, s *testServer) {
		token := s.userToken(standintest.Claims{"scope": "itwin read"})
		for _, tt := range []struct {
			name          string
			authorization []string
			want          *problem.Problem
		}{
			{name: "no header", want: problem.NoToken},
			{"an empty header", []string{""}, problem.NoToken},
			{"the scheme alone", []string{"Bearer"}, problem.NoToken},
			{"DPoP", []string{"DPoP " + token}, problem.OtherScheme},
			{"no scheme", []string{token}, problem.OtherScheme},
			{"two headers", []string{"Bearer " + token, "Bearer " + token}, problem.TwoHeaders},
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
		wantStatus(t, "in the query", s.request("GET", "/getToken?access_token="+token, nil), 401)
		wantStatus(t, "a good token", s.get(token), 200)
	})
	// Where no scope is required, none is named.
	if got := new(service).challenge(problem.Organization); strings.Contains(got, `scope="`) {
		t.Errorf("challenge = %s, want no scope", got)
	}
}

func TestProblemOf(t *testing.T) {
	for err, want := range map[error]*problem.Problem{
		&upstream.Error{Kind: "unforeseen"}:    problem.Refused,
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
		method, paths string
		status        int
		allow         string
	}{
		{"GET", "/healthz", 200, ""},
		{"HEAD", "/healthz", 200, ""},
		{"POST", "/getToken /healthz /readyz", 405, "GET, HEAD"},
		{"OPTIONS", "/getToken", 405, "GET, HEAD"},
		{"POST", "/nothing", 404, ""},
		{"GET", "/ /gettoken /getToken/ /getToken/x /.env /demo/userToken", 404, ""},
		{"GET", "//getToken /x/../getToken /./getToken /%67etToken /getToken%20", 404, ""},
	} {
		for path := range strings.FieldsSeq(tt.paths) {
			w := s.request(tt.method, path, nil)
			wantStatus(t, tt.method+" "+path, w, tt.status)
			wantHeader(t, path, w, "Allow", tt.allow)
			wantHeader(t, path, w, "Vary", "Origin") // CORS knows the origins
		}
	}
	if log := s.logged.String(); strings.Count(log, "\n") != 2 || strings.Count(log, "=405 ") != 2 {
		t.Errorf("want a line for each of the 2 requests to /getToken, got\n%s", log)
	}
}

func TestOutages(t *testing.T) {
	html := standintest.Answer(200, "text/html", "<p>"+standintest.Canary)
	invalid := standintest.Answer(401, "application/json", `{"error":"invalid_client"}`)
	const maxWait = 10 * time.Second // the longest that a request waits for one fetch
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
			w := s.get(s.userToken(), "application/json")
			wantStatus(t, tt.name, w, tt.status)
			wantHeader(t, tt.name, w, "Retry-After", "1")
			wantHeader(t, tt.name, w, "WWW-Authenticate", "")
			s.wantMetrics(fmt.Sprint("request_duration_seconds_sum ", tt.took.Seconds()))
			body := w.Body.String()
			if !strings.HasPrefix(body, `{"error":"temporarily_unavailable"`) {
				t.Errorf("%s: the answer is %s", tt.name, body)
			}
			if strings.Contains(body+s.logged.String(), standintest.Canary) {
				t.Errorf("%s: the answer or the log has upstream's text: %s", tt.name, body)
			}
		})
	}
}

// Upstream's Retry-After reaches the callers, and holds for everything that is sent.
func TestCallersGetTheRemainingPause(t *testing.T) {
	for _, tt := range []struct {
		name       string
		auth0, ims standintest.Fault
		status     int
	}{
		{name: "Auth0", auth0: standintest.Throttle("12"), status: 503},
		{name: "IMS", ims: standintest.Throttle("12"), status: 502},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := newIdleServer(t, nil)
			s.Tenant.Misbehave(tt.auth0)
			s.IMS.Misbehave(tt.ims)
			s.start()
			synctest.Wait()
			time.Sleep(500 * time.Millisecond)
			// The pause lasts half a second less than left: Retry-After is rounded up.
			for left := 12; left > 0; left-- {
				w := s.get(s.userToken())
				wantStatus(t, tt.name, w, tt.status)
				wantHeader(t, tt.name, w, "Retry-After", strconv.Itoa(left))
				time.Sleep(time.Second)
			}
		})
	}
}

// A pause also reaches callers while the keys serve, if the key of their token is new.
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

func TestACallerThatDisconnectsDisturbsNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newIdleServer(t, nil)
		s.IMS.Misbehave(standintest.Delay(2 * time.Second))
		s.start()
		ctx, leave := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, leave)
		w := httptest.NewRecorder()
		s.handler.ServeHTTP(w, newRequest(s.userToken()).WithContext(ctx))
		wantHeader(t, "the one who left", w, "Retry-After", "1")
		s.wantMetrics(`requests_total{status="503",reason="canceled"} 1`)
		wantStatus(t, "the one who stayed", s.get(s.userToken()), 200)
		if grants := s.IMS.Requests(); grants != 1 {
			t.Errorf("%d grants, want 1", grants)
		}
	})
}

func TestReadiness(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newIdleServer(t, nil)
		wantReady := func(status int, want string) {
			t.Helper()
			synctest.Wait()
			w := s.request("GET", "/readyz", nil)
			if got := w.Body.String(); w.Code != status || got != want+"\n" {
				t.Errorf("readyz = %d, %q, want %d, %s", w.Code, got, status, want)
			}
		}
		wantReady(503, "not ready: no Auth0 keys yet, no iTwin token yet")
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
		user := func(sub string, scope any) string {
			return s.Tenant.IDToken(testClient, standintest.Claims{"sub": sub, "scope": scope})
		}
		token := user("auth0|jane", "openid")
		issued := s.IMS.Issued()[0]
		fingerprint := fmt.Sprintf("%x", sha256.Sum256([]byte(issued)))[:12]
		for _, tt := range []struct {
			name, token, want string // want is a pattern of the one line
		}{
			{"good", token, `status=200 ms=[0-9.]+ sub=auth0\|jane token=` + fingerprint},
			{"control characters", user("a\n\x1b[31mx\u202e", "openid"), `status=200 .* sub=\S+ `},
			{"no scope", user("auth0|jane", nil), `status=403 ms=[0-9.]+ reason=scope sub=auth0\|jane`},
			{"forged", signedPart(token) + ".AA", `status=401 ms=[0-9.]+ reason=signature`},
		} {
			before := s.logged.String()
			s.get(tt.token)
			line := strings.TrimPrefix(s.logged.String(), before)
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
		for status, token := range map[int]string{200: s.userToken(), 401: "undefined"} {
			s.handler.ServeHTTP(answerHook{httptest.NewRecorder(), func() {
				if want := fmt.Sprint("status=", status); !strings.Contains(s.logged.String(), want) {
					t.Errorf("an answer of %d begins before its line is written", status)
				}
			}}, newRequest(token))
		}
	})
}

// An answerHook calls begin when an answer begins.
type answerHook struct {
	http.ResponseWriter
	begin func()
}

func (w answerHook) WriteHeader(int) { w.begin() }

func TestMetrics(t *testing.T) {
	testServing(t, nil, func(t *testing.T, s *testServer) {
		s.get(s.userToken())
		s.get("")
		s.Tenant.Misbehave(standintest.HangUp())
		time.Sleep(20 * time.Minute)
		s.wantMetrics(
			`requests_total{status="200",reason="ok"} 1`,
			`requests_total{status="401",reason="no_token"} 1`,
			`request_duration_seconds_count 2`,
			`grants_total{result="ok"} 1`,
			`key_fetches_total{result="ok"} 1`,
			"token_expiry_timestamp_seconds 946688400", // 1 h after a bubble's start, in 2000
			"keys_age_seconds 1200")                    // since the last good fetch
	})
}

// FuzzAuthorization sends anything in the one header that callers control: only
// what the tenant signed gets a token, and no answer repeats what was sent.
func FuzzAuthorization(f *testing.F) {
	s := newServer(f, nil)
	token := s.userToken()
	wantStatus(f, "a good token", s.get(token), 200)
	for _, seed := range []string{
		"", "Bearer ", "bearer  " + token, token, "Basic dTpw", "Bearer a.b.c", "Bearer\t" + token,
		"Bearer " + token + ", Bearer " + token, "Bearer " + token[:len(token)-2],
		"Bearer " + s.Tenant.OpaqueToken(), "Bearer \x00\"\\\n", "Bearer Optional(\"" + token + "\")",
	} {
		f.Add(seed, "")
		f.Add("Bearer "+token, seed)
	}
	f.Fuzz(func(t *testing.T, first, second string) {
		header := http.Header{"Authorization": {first}}
		if second != "" {
			header.Add("Authorization", second)
		}
		s.t = t // failures belong to this input
		w := s.request("GET", "/getToken", header)
		if w.Code == 200 && (second != "" || !strings.Contains(first, signedPart(token))) {
			t.Fatalf("Authorization %q, %q gets a token", first, second)
		}
		challenge := w.Header().Get("WWW-Authenticate")
		if w.Code != 200 && (w.Code/100 != 4 || !strings.HasPrefix(challenge, bearerChallenge)) {
			t.Fatalf("Authorization %q, %q gets %d with %q", first, second, w.Code, challenge)
		}
		if len(first) > 20 && strings.Contains(w.Body.String(), first) {
			t.Fatalf("the answer to %q repeats it", first)
		}
	})
}
