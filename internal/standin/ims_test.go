package standin

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// accessToken reads a good answer's token.
func accessToken(got seen) (string, error) {
	var answer struct {
		Token string `json:"access_token"`
		Type  string `json:"token_type"`
	}
	if got.err != nil || got.status != http.StatusOK {
		return "", fmt.Errorf("status %d, %w", got.status, got.err)
	}
	err := json.Unmarshal([]byte(got.body), &answer)
	if err == nil && answer.Type != "Bearer" {
		err = fmt.Errorf("token_type is %q", answer.Type)
	}
	return answer.Token, err
}

// useful says whether a careless client could take body for keys or a token.
func useful(body string) bool {
	var answer struct {
		Token string `json:"access_token"`
		Keys  []any
	}
	return json.Unmarshal([]byte(body), &answer) == nil && (answer.Token != "" || len(answer.Keys) > 0)
}

func TestGrantsAreUniqueAndSigned(t *testing.T) {
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		tokens := map[string]bool{}
		for range 3 {
			got := askGrant(t.Context(), client, s)
			token, err := accessToken(got)
			if err != nil {
				t.Fatal(err)
			}
			if cc := got.header.Get("Cache-Control"); cc != "no-store" {
				t.Errorf("Cache-Control is %q, want no-store", cc)
			}
			if err := verify(t, token, keySet(false, s.IMS.key)); err != nil {
				t.Error(err)
			}
			tokens[token] = true
		}
		if issued := s.IMS.Issued(); len(tokens) != 3 || len(issued) != 3 || s.IMS.Requests() != 3 {
			t.Errorf("%d tokens, %d issued, %d requests, want 3 of each", len(tokens), len(issued), s.IMS.Requests())
		}
		if s.IMS.Valid("stranger") || s.IMS.Valid("") {
			t.Error("a token that was never issued is valid")
		}
	})
}

func TestTokensLiveToOrder(t *testing.T) {
	s := ForTest(t)
	synctest.Test(t, func(t *testing.T) {
		s.IMS.SetLife(20 * time.Second)
		got := askGrant(t.Context(), inProcess(s), s)
		token, err := accessToken(got)
		if err != nil {
			t.Fatal(err)
		}
		if want := float64(time.Now().Unix() + 20); part(t, token, 1)["exp"] != want {
			t.Errorf("exp is %v, want %v", part(t, token, 1)["exp"], want)
		}
		time.Sleep(20*time.Second - 1)
		if !s.IMS.Valid(token) {
			t.Error("a token died early")
		}
		time.Sleep(time.Nanosecond)
		if s.IMS.Valid(token) {
			t.Error("a token outlived its life")
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
		{"lie", func() { s.IMS.SetExpiresIn(-1) }, `-1`},
		{"raw", func() { s.IMS.SetExpiresIn(json.RawMessage(`1e99`)) }, `1e99`},
		{"absent", func() { s.IMS.SetExpiresIn(nil) }, ``},
		{"truth again", func() { s.IMS.SetLife(time.Minute) }, `60`},
	} {
		test.set()
		got := askGrant(t.Context(), inProcess(s), s)
		var answer map[string]json.RawMessage
		if err := json.Unmarshal([]byte(got.body), &answer); err != nil {
			t.Fatal(err)
		}
		if in := string(answer["expires_in"]); in != test.want {
			t.Errorf("%s: expires_in is %s, want %s", test.name, in, test.want)
		}
	}
	s.IMS.SetExpiresIn(func() {})
	if got := askGrant(t.Context(), inProcess(s), s); got.status != 500 {
		t.Errorf("what is no JSON: status %d, want 500", got.status)
	}
}

func TestBasicTakesAnySecretFormEncoded(t *testing.T) {
	bothWays(t, func(t *testing.T, s *Standin, client *http.Client) {
		for _, secret := range []string{"plain", "a+b/c==", "pa:ss", "100%", "%2B", `a&b$c#d"e'f`, " two words ", "ключ"} {
			s.IMS.SetClient("id:"+secret, secret)
			if _, err := accessToken(askGrant(t.Context(), client, s)); err != nil {
				t.Errorf("secret %q: %v", secret, err)
			}
			// The id holds a colon: as it stands, it ends there, whatever the secret.
			if got := rawBasic(t, client, s); !isRefusal(got, 401, "invalid_client") {
				t.Errorf("secret %q as it stands: got %+v, want invalid_client", secret, got)
			}
		}
		for _, secret := range []string{"a+b/c==", "100%", "%2B"} {
			s.IMS.SetClient("id", secret)
			if got := rawBasic(t, client, s); !isRefusal(got, 401, "invalid_client") {
				t.Errorf("secret %q as it stands: got %+v, want invalid_client", secret, got)
			}
		}
	})
}

// rawBasic asks for a grant with credentials that are not form-encoded.
func rawBasic(t *testing.T, client *http.Client, s *Standin) seen {
	t.Helper()
	req, err := grantRequest(t.Context(), s, url.Values{"grant_type": {"client_credentials"}})
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(s.IMS.ClientID(), s.IMS.ClientSecret())
	return do(client, req)
}

func isRefusal(got seen, status int, code string) bool {
	var answer struct {
		Code string `json:"error"`
		Why  string `json:"error_description"`
	}
	return got.err == nil && got.status == status && json.Unmarshal([]byte(got.body), &answer) == nil &&
		answer.Code == code && strings.Contains(answer.Why, Canary)
}

func TestRefusals(t *testing.T) {
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
		{"basic, with the client named again", typ, basic, grant + "&client_id=me", 200, ""},
		{"part of the scope", typ, basic, grant + "&scope=other", 200, ""},
		{"no type", "", basic, grant, 400, "invalid_request"},
		{"JSON", "application/json", basic, `{"grant_type":"client_credentials"}`, 400, "invalid_request"},
		{"no form", typ, basic, "%zz", 400, "invalid_request"},
		{"no grant type", typ, basic, "", 400, "invalid_request"},
		{"given twice", typ, basic, grant + "&" + grant, 400, "invalid_request"},
		{"both ways", typ, basic, grant + form, 400, "invalid_request"},
		{"two clients", typ, basic, grant + "&client_id=you", 400, "invalid_request"},
		{"other grant", typ, basic, "grant_type=password", 400, "unsupported_grant_type"},
		{"other scope", typ, basic, grant + "&scope=itwin-platform+imodels:read", 400, "invalid_scope"},
		{"no client", typ, "", grant, 401, "invalid_client"},
		{"wrong secret", typ, "", grant + "&client_id=me&client_secret=x", 401, "invalid_client"},
		{"wrong secret, basic", typ, "Basic bWU6eA==", grant, 401, "invalid_client"},
		{"broken basic", typ, "Basic !", grant, 401, "invalid_client"},
		{"bearer", typ, "Bearer x", grant + form, 401, "invalid_client"},
	} {
		req, err := http.NewRequestWithContext(t.Context(), "POST", s.IMS.URL()+"/connect/token", strings.NewReader(test.body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", test.contentType)
		if test.auth != "" {
			req.Header.Set("Authorization", test.auth)
		}
		got := do(inProcess(s), req)
		if test.code == "" {
			if _, err := accessToken(got); err != nil {
				t.Errorf("%s: %v", test.name, err)
			}
			continue
		}
		challenged := got.header.Get("WWW-Authenticate") != ""
		if !isRefusal(got, test.status, test.code) || challenged != (test.status == 401 && test.auth != "") {
			t.Errorf("%s: got %+v, want %d %s", test.name, got, test.status, test.code)
		}
	}
}

func TestGrantBodyIsBounded(t *testing.T) {
	s := ForTest(t)
	req, err := grantRequest(t.Context(), s, url.Values{"x": {strings.Repeat("x", maxBody)}})
	if err != nil {
		t.Fatal(err)
	}
	if got := do(inProcess(s), req); got.status != http.StatusRequestEntityTooLarge {
		t.Errorf("got %+v, want 413", got)
	}
	resp, err := inProcess(s).Get(s.IMS.URL() + "/connect/token")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusMethodNotAllowed || s.IMS.Requests() != 1 {
		t.Errorf("GET: %d, %d requests counted, want 405 and only the POST", resp.StatusCode, s.IMS.Requests())
	}
}
