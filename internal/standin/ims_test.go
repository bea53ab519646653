package standin

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestGrantedTokensAreUniqueAndSigned(t *testing.T) {
	s := ForTest(t)
	tokens := map[string]bool{}
	for range 3 {
		got := requestGrant(t.Context(), inProcess(s), s)
		if cc := got.header.Get("Cache-Control"); cc != "no-store" {
			t.Errorf("Cache-Control is %q, want no-store", cc)
		}
		if _, err := verify(got.token(), keySet(false, s.IMS.key)); err != nil {
			t.Error(err)
		}
		tokens[got.token()] = true
	}
	if issued := s.IMS.Issued(); len(tokens) != 3 || len(issued) != 3 || s.IMS.Requests() != 3 {
		t.Errorf("%d tokens, %d issued, %d requests, want 3 of each", len(tokens), len(issued), s.IMS.Requests())
	}
	if s.IMS.Valid("another") || s.IMS.Valid("") {
		t.Error("a token that was never issued is valid")
	}
}

func TestSetLife(t *testing.T) {
	s := ForTest(t)
	synctest.Test(t, func(t *testing.T) {
		s.IMS.SetLife(20 * time.Second)
		token := requestGrant(t.Context(), inProcess(s), s).token()
		claims, err := verify(token, keySet(false, s.IMS.key))
		if want := float64(time.Now().Unix() + 20); err != nil || claims["exp"] != want {
			t.Errorf("exp is %v (%v), want %v", claims["exp"], err, want)
		}
		time.Sleep(20*time.Second - 1)
		if !s.IMS.Valid(token) {
			t.Error("a token expired early")
		}
		time.Sleep(time.Nanosecond)
		if s.IMS.Valid(token) {
			t.Error("a token did not expire")
		}
	})
}

func TestExpiresIn(t *testing.T) {
	s := ForTest(t)
	for _, test := range []struct {
		name string
		set  func()
		want string // of the answer's JSON; "" if absent
	}{
		{"default", func() {}, `3600`},
		{"life", func() { s.IMS.SetLife(90*time.Second + 1) }, `90`},
		{"string", func() { s.IMS.SetExpiresIn("300") }, `"300"`},
		{"wrong", func() { s.IMS.SetExpiresIn(-1) }, `-1`},
		{"raw", func() { s.IMS.SetExpiresIn(json.RawMessage(`1e99`)) }, `1e99`},
		{"absent", func() { s.IMS.SetExpiresIn(nil) }, ``},
		{"the life again", func() { s.IMS.SetLife(time.Minute) }, `60`},
	} {
		test.set()
		got := requestGrant(t.Context(), inProcess(s), s)
		var fields map[string]json.RawMessage
		if err := json.Unmarshal([]byte(got.body), &fields); err != nil || string(fields["expires_in"]) != test.want {
			t.Errorf("%s: expires_in is %s (%v), want %s", test.name, fields["expires_in"], err, test.want)
		}
	}
	s.IMS.SetExpiresIn(func() {})
	if got := requestGrant(t.Context(), inProcess(s), s); got.status != 500 {
		t.Errorf("not JSON: status %d, want 500", got.status)
	}
}

func TestBasicAuthIsFormEncoded(t *testing.T) {
	s := ForTest(t)
	wantRefused := func(id, secret string) {
		t.Helper()
		s.IMS.SetClient(id, secret)
		req, err := grantRequest(t.Context(), s, "grant_type=client_credentials")
		if err != nil {
			t.Fatal(err)
		}
		req.SetBasicAuth(id, secret)
		if got := do(inProcess(s), req); got.status != 401 {
			t.Errorf("secret %q unencoded: got %+v, want 401", secret, got)
		}
	}
	for _, secret := range []string{"plain", "a+b/c==", "pa:ss", "100%", "%2B", `a&b$c#d"e'f`, " two words ", "ключ"} {
		s.IMS.SetClient("id:"+secret, secret)
		if got := requestGrant(t.Context(), inProcess(s), s); !s.IMS.Valid(got.token()) {
			t.Errorf("secret %q: got %+v, want a token", secret, got)
		}
		wantRefused("id:"+secret, secret) // unencoded, the ID ends at the colon
		if strings.ContainsAny(secret, "+%") {
			wantRefused("id", secret)
		}
	}
}

func TestRefusedGrants(t *testing.T) {
	s := ForTest(t)
	s.IMS.SetClient("me", "s3cret")
	s.IMS.SetScope("itwin-platform other")
	const typ, grant, form = "application/x-www-form-urlencoded", "grant_type=client_credentials", "&client_id=me&client_secret=s3cret"
	const basic = "Basic bWU6czNjcmV0" // me:s3cret
	for _, test := range []struct {
		name, contentType, auth, body string
		status                        int
		code                          string
	}{
		{"form", typ, "", grant + form, 200, ""},
		{"basic", typ + "; charset=utf-8", basic, grant, 200, ""},
		{"part of the scope", typ, basic, grant + "&scope=other", 200, ""},
		{"no type", "", basic, grant, 400, "invalid_request"},
		{"JSON", "application/json", basic, `{"grant_type":"client_credentials"}`, 400, "invalid_request"},
		{"no form", typ, basic, "%zz", 400, "invalid_request"},
		{"no grant type", typ, basic, "", 400, "invalid_request"},
		{"other grant", typ, basic, "grant_type=password", 400, "unsupported_grant_type"},
		{"other scope", typ, basic, grant + "&scope=itwin-platform+imodels:read", 400, "invalid_scope"},
		{"no client", typ, "", grant, 401, "invalid_client"},
		{"wrong secret", typ, "", grant + "&client_id=me&client_secret=x", 401, "invalid_client"},
		{"wrong secret, basic", typ, "Basic bWU6eA==", grant, 401, "invalid_client"},
		{"broken basic", typ, "Basic !", grant, 401, "invalid_client"},
		{"bearer", typ, "Bearer x", grant + form, 401, "invalid_client"},
		{"too long", typ, basic, strings.Repeat("x", maxBody+1), 413, ""},
	} {
		req, err := grantRequest(t.Context(), s, test.body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", test.contentType)
		if test.auth != "" {
			req.Header.Set("Authorization", test.auth)
		}
		got := do(inProcess(s), req)
		var fields struct {
			Code string `json:"error"`
		}
		json.Unmarshal([]byte(got.body), &fields)
		granted := test.status == 200
		if got.status != test.status || fields.Code != test.code || s.IMS.Valid(got.token()) != granted || strings.Contains(got.body, Canary) == granted {
			t.Errorf("%s: got %+v, want %d %s", test.name, got, test.status, test.code)
		}
	}
}

func TestOnlyPOSTIsAGrant(t *testing.T) {
	s := ForTest(t)
	resp, err := inProcess(s).Get(s.IMS.URL() + "/connect/token")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed || s.IMS.Requests() != 0 {
		t.Errorf("GET: %d, %d requests counted, want 405 and none", resp.StatusCode, s.IMS.Requests())
	}
}
