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
		first := requestGrant(t.Context(), inProcess(s), s).token()
		time.Sleep(20*time.Second - 1)
		if !s.IMS.Valid(first) {
			t.Error("a token expired early")
		}
		second := requestGrant(t.Context(), inProcess(s), s).token()
		time.Sleep(time.Nanosecond)
		if s.IMS.Valid(first) || !s.IMS.Valid(second) || s.IMS.Valid("") {
			t.Error("after the first token's life, only the second is valid")
		}
		if issued := s.IMS.Issued(); !slices.Equal(issued, []string{first, second}) {
			t.Errorf("issued %q, want the two tokens", issued)
		}
	})
}

func TestGrants(t *testing.T) {
	s := New(t)
	s.IMS.SetClient("me", "a+b/100%")
	const (
		form      = "application/x-www-form-urlencoded"
		grant     = "grant_type=client_credentials"
		client    = "&client_id=me&client_secret=a%2Bb/100%25"
		basic     = "Basic bWU6YSUyQmIlMkYxMDAlMjU=" // me:a%2Bb%2F100%25
		unencoded = "Basic bWU6YStiLzEwMCU="         // me:a+b/100%
	)
	for _, test := range []struct {
		name, contentType, auth, body string
		status                        int
		code                          string
	}{
		{"form", form, "", grant + client, 200, ""},
		{"basic", form + "; charset=utf-8", basic, grant + "&scope=itwin-platform", 200, ""},
		{"basic, not form-encoded", form, unencoded, grant, 401, "invalid_client"},
		{"JSON", "application/json", basic, `{"grant_type":"x"}`, 400, "invalid_request"},
		{"no grant type", form, basic, "", 400, "invalid_request"},
		{"other grant", form, basic, "grant_type=password", 400, "unsupported_grant_type"},
		{"other scope", form, basic, grant + "&scope=x", 400, "invalid_scope"},
		{"no client", form, "", grant, 401, "invalid_client"},
		{"wrong secret", form, "", grant + "&client_id=me&client_secret=x", 401, "invalid_client"},
		{"too long", form, basic, strings.Repeat("x", 64<<10+1), 400, "invalid_request"},
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
		if got.status != test.status || fields.Code != test.code {
			t.Errorf("%s: got %+v, want %d %s", test.name, got, test.status, test.code)
		}
		if s.IMS.Valid(got.token()) == strings.Contains(got.body, Canary) {
			t.Errorf("%s: got %+v, want either a token or a text with the canary", test.name, got)
		}
	}
}
