package standintest

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestGrantedTokens(t *testing.T) {
	s := New(t)
	synctest.Test(t, func(t *testing.T) {
		s.IMS.SetLife(20 * time.Second)
		first := requestGrant(t.Context(), inProcess(s), s)
		token := first.token()
		claims, err := verify(token, keysOf(s.IMS.Key()))
		if want := float64(time.Now().Unix() + 20); err != nil || claims["exp"] != want || first.header.Get("Cache-Control") != "no-store" {
			t.Errorf("got %+v (%v), want a signed token with exp %v, not to be stored", first, err, want)
		}
		time.Sleep(20*time.Second - 1)
		if !s.IMS.Valid(token) {
			t.Error("a token expired early")
		}
		second := requestGrant(t.Context(), inProcess(s), s).token()
		time.Sleep(time.Nanosecond)
		if s.IMS.Valid(token) || !s.IMS.Valid(second) || s.IMS.Valid("") {
			t.Error("after the first token's life, only the second is valid")
		}
		if issued := s.IMS.Issued(); !slices.Equal(issued, []string{token, second}) {
			t.Errorf("issued %q, want the two tokens", issued)
		}
	})
}

func TestExpiresIn(t *testing.T) {
	s := New(t)
	for _, test := range []struct {
		name string
		set  func()
		want string // of the answer's JSON; "" if absent
	}{
		{"default", func() {}, `3600`},
		{"life", func() { s.IMS.SetLife(90*time.Second + 1) }, `90`},
		{"string", func() { s.IMS.SetExpiresIn("300") }, `"300"`},
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
}

func TestSecretsAreFormEncoded(t *testing.T) {
	s := New(t)
	for _, secret := range []string{"plain", "a+b/c==", "pa:ss", "100%", "%2B", `a&b$c#d"e'f`, " two words ", "ключ"} {
		s.IMS.SetClient("id:"+secret, secret)
		if got := requestGrant(t.Context(), inProcess(s), s); !s.IMS.Valid(got.token()) {
			t.Errorf("secret %q: got %+v, want a token", secret, got)
		}
	}
}

func TestGrants(t *testing.T) {
	s := New(t)
	s.IMS.SetClient("me", "a+b/100%")
	const typ, grant, form = "application/x-www-form-urlencoded", "grant_type=client_credentials", "&client_id=me&client_secret=a%2Bb/100%25"
	const basic, unencoded = "Basic bWU6YSUyQmIlMkYxMDAlMjU=", "Basic bWU6YStiLzEwMCU="
	for _, test := range []struct {
		name, contentType, auth, body string
		status                        int
		code                          string
	}{
		{"form", typ, "", grant + form, 200, ""},
		{"basic", typ + "; charset=utf-8", basic, grant + "&scope=itwin-platform", 200, ""},
		{"basic, not form-encoded", typ, unencoded, grant, 401, "invalid_client"},
		{"JSON", "application/json", basic, `{"grant_type":"client_credentials"}`, 400, "invalid_request"},
		{"no form", typ, basic, "%zz", 400, "invalid_request"},
		{"no grant type", typ, basic, "", 400, "invalid_request"},
		{"other grant", typ, basic, "grant_type=password", 400, "unsupported_grant_type"},
		{"other scope", typ, basic, grant + "&scope=itwin-platform+imodels:read", 400, "invalid_scope"},
		{"no client", typ, "", grant, 401, "invalid_client"},
		{"wrong secret", typ, "", grant + "&client_id=me&client_secret=x", 401, "invalid_client"},
		{"wrong secret, basic", typ, "Basic bWU6eA==", grant, 401, "invalid_client"},
		{"bearer", typ, "Bearer x", grant + form, 401, "invalid_client"},
		{"too long", typ, basic, strings.Repeat("x", 64<<10+1), 400, "invalid_request"},
	} {
		req := grantRequest(s, test.body)
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
