package jwks

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"itwin-token-server/internal/standin"
	"itwin-token-server/internal/upstream"
)

type jwk = map[string]any

// published is the tenant's current key as it publishes it, with changes; a nil
// value deletes.
func published(t testing.TB, s *standin.Standin, change jwk) jwk {
	t.Helper()
	var set struct{ Keys []jwk }
	if err := json.Unmarshal(s.Tenant.JWKS(), &set); err != nil {
		t.Fatal(err)
	}
	key := set.Keys[0]
	maps.Copy(key, change)
	maps.DeleteFunc(key, func(_ string, v any) bool { return v == nil })
	return key
}

// setOf is the JWKS of the keys.
func setOf(t testing.TB, keys ...any) []byte {
	t.Helper()
	body, err := json.Marshal(jwk{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// modulus is an odd number of so many bits, as n.
func modulus(bits uint) string {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return base64url(n.Add(n, big.NewInt(1)).Bytes())
}

func TestParseTakesWhatTheTenantPublishes(t *testing.T) {
	s := standin.ForTest(t)
	for _, hex := range []bool{false, true} {
		s.Tenant.HexX5t(hex)
		keys := Parse(s.Tenant.JWKS())
		if len(keys) != 2 {
			t.Errorf("hex x5t %v: %d keys, want 2", hex, len(keys))
		}
		for _, want := range []standin.Key{s.Tenant.Key(), s.Tenant.NextKey()} {
			if got := keys[want.ID]; got == nil || !got.Equal(&want.Private.PublicKey) {
				t.Errorf("hex x5t %v: key %s is not the tenant's", hex, want.ID)
			}
		}
	}
}

// oddities are changes to one key of a set, and whether RS256 can still use it.
var oddities = []struct {
	name   string
	change jwk
	usable bool
}{
	{"as published", nil, true},
	{"no use", jwk{"use": nil}, true},
	{"no alg", jwk{"alg": nil}, true},
	{"nothing but what is needed", jwk{"use": nil, "alg": nil, "x5t": nil, "x5c": nil}, true},
	{"use enc", jwk{"use": "enc"}, false},
	{"use unknown", jwk{"use": "SIG"}, false},
	{"use a list", jwk{"use": []string{"sig"}}, false},
	{"alg RS512", jwk{"alg": "RS512"}, false},
	{"alg PS256", jwk{"alg": "PS256"}, false},
	{"alg HS256", jwk{"alg": "HS256"}, false},
	{"alg none", jwk{"alg": "none"}, false},
	{"alg a number", jwk{"alg": 256}, false},
	{"kty EC", jwk{"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"}, false},
	{"kty oct", jwk{"kty": "oct", "k": "c2VjcmV0"}, false},
	{"kty rsa", jwk{"kty": "rsa"}, false},
	{"no kty", jwk{"kty": nil}, false},
	{"no kid", jwk{"kid": nil}, false},
	{"empty kid", jwk{"kid": ""}, false},
	{"kid a number", jwk{"kid": 7}, false},
	{"no n", jwk{"n": nil}, false},
	{"n a number", jwk{"n": 7}, false},
	{"n no base64", jwk{"n": "*" + modulus(2048)}, false},
	{"1024 bits", jwk{"n": modulus(1024)}, false},
	{"2047 bits", jwk{"n": modulus(2047)}, false},
	{"2048 bits", jwk{"n": modulus(2048)}, true},
	{"8192 bits", jwk{"n": modulus(8192)}, true},
	{"8193 bits", jwk{"n": modulus(8193)}, false},
	{"16384 bits", jwk{"n": modulus(16384)}, false},
	{"n even", jwk{"n": base64url(new(big.Int).Lsh(big.NewInt(1), 2047).Bytes())}, false},
	{"no e", jwk{"e": nil}, false},
	{"e 0", jwk{"e": "AA"}, false},
	{"e 1", jwk{"e": "AQ"}, false},
	{"e 2", jwk{"e": "Ag"}, false},
	{"e 3", jwk{"e": "Aw"}, true},
	{"e 65536", jwk{"e": "AQAA"}, false},
	{"e 65537, four bytes", jwk{"e": "AAEAAQ"}, true},
	{"e 65537, padded", jwk{"e": "AAEAAQ=="}, true},
	{"e 2^31-1", jwk{"e": "f____w"}, true},
	{"e 2^31+1", jwk{"e": "gAAAAQ"}, false},
	{"e 2^32+3", jwk{"e": "AQAAAAM"}, false},
	{"e 2^64+65537", jwk{"e": "AQAAAAAAAQAB"}, false},
	{"e of 2048 bits", jwk{"e": modulus(2048)}, false},
	{"e a number", jwk{"e": 65537}, false},
	{"x5t in hex", jwk{"x5t": base64url([]byte(strings.Repeat("0F", 20)))}, true},
	{"x5t a number", jwk{"x5t": 7}, true},
	{"x5c broken", jwk{"x5c": []string{"MIIB", "*"}}, true},
	{"x5c a text", jwk{"x5c": "MIIB"}, true},
	{"x5u elsewhere", jwk{"x5u": "https://elsewhere.test/"}, true},
	{"key_ops to encrypt", jwk{"key_ops": 7}, true},
	{"private members", jwk{"d": "AQ", "p": "AQ", "q": "AQ", "dp": "AQ", "dq": "AQ", "qi": "AQ"}, true},
	{"private members that are no numbers", jwk{"d": "*", "p": 7, "q": jwk{}, "oth": "x"}, true},
	{"a huge member", jwk{"x": strings.Repeat("x", 100_000)}, true},
}

func TestParseOddKeys(t *testing.T) {
	s := standin.ForTest(t)
	neighbour := s.Tenant.NextKey()
	body := func(odd jwk) []byte {
		return setOf(t, odd, published(t, s, jwk{"kid": neighbour.ID, "n": base64url(neighbour.Private.N.Bytes())}))
	}
	for _, test := range oddities {
		keys := Parse(body(published(t, s, test.change)))
		if got := keys[neighbour.ID]; got == nil || !got.Equal(&neighbour.Private.PublicKey) {
			t.Errorf("%s: its neighbour is gone", test.name)
		}
		delete(keys, neighbour.ID)
		if _, ok := keys[s.Tenant.Key().ID]; ok != test.usable || len(keys) > 1 {
			t.Errorf("%s: got the keys %v, want it usable: %v", test.name, slices.Collect(maps.Keys(keys)), test.usable)
		}
	}
	for name, odd := range map[string]any{"null": nil, "a text": "x", "a number": 7, "a list": []any{}, "an empty object": jwk{}, "true": true} {
		if keys := Parse(setOf(t, odd, published(t, s, nil))); len(keys) != 1 {
			t.Errorf("beside %s: %d keys, want 1", name, len(keys))
		}
	}
}

func TestParseOfTwoKeysWithOneKid(t *testing.T) {
	s := standin.ForTest(t)
	good, bad := published(t, s, nil), published(t, s, jwk{"use": "enc"})
	for _, set := range [][]byte{setOf(t, good, bad), setOf(t, bad, good), setOf(t, good, good)} {
		if keys := Parse(set); len(keys) != 1 || !keys[s.Tenant.Key().ID].Equal(&s.Tenant.Key().Private.PublicKey) {
			t.Errorf("%d keys, want the one that RS256 can use", len(keys))
		}
	}
}

func TestParseTakesNothingFromNonsense(t *testing.T) {
	s := standin.ForTest(t)
	one, err := json.Marshal(published(t, s, nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		``, ` `, `null`, `[]`, `{}`, `7`, `"x"`, `{"keys":null}`, `{"keys":[]}`, `{"keys":{}}`, `{"keys":"x"}`, `{"keys":7}`,
		`{"keys":[` + string(one), `{"keys":[` + string(one) + `]}x`, `<html>`, `{"error":"x"}`, string(one), `[` + string(one) + `]`,
		strings.Repeat("[", 100_000), `{"keys":` + strings.Repeat("[", 100_000), "\ufeff{}",
	} {
		if keys := Parse([]byte(text)); len(keys) != 0 {
			t.Errorf("Parse(%.40q) has %d keys, want none", text, len(keys))
		}
	}
}

// More than fit into the 1 MiB that is read.
func TestParseOfTenThousandKeys(t *testing.T) {
	s := standin.ForTest(t)
	one, err := json.Marshal(published(t, s, jwk{"kid": "kid", "x5c": nil}))
	if err != nil {
		t.Fatal(err)
	}
	keys := make([]string, 10_000)
	for i := range keys {
		keys[i] = strings.Replace(string(one), `"kid":"kid"`, fmt.Sprintf(`"kid":"%d"`, i), 1)
	}
	if got := len(Parse([]byte(`{"keys":[` + strings.Join(keys, ",") + `]}`))); got != len(keys) {
		t.Errorf("%d keys, want %d", got, len(keys))
	}
}

func TestFetch(t *testing.T) {
	s := standin.ForTest(t)
	domain := s.Tenant.Domain()
	synctest.Test(t, func(t *testing.T) {
		keys, err := Fetch(t.Context(), s.Transport(), domain)
		if err != nil || len(keys) != 2 {
			t.Errorf("got %d keys (%v), want 2", len(keys), err)
		}
	})
	const (
		noSet   = "want a key set with an RS256 key, got something else: check the domain"
		check   = "want the tenant's keys, got status %d: check the domain"
		trouble = "want the tenant's keys, got status %d: Auth0 has trouble: try again later"
	)
	want := map[string]upstream.Error{ // of all others, noSet
		"truncated transfer": {Kind: upstream.Nonsense, Text: "want a whole answer, got one that was cut short"},
		"32 MiB":             {Kind: upstream.Nonsense, Text: "want an answer of at most 1 MiB, got a longer one"},
		"redirect":           {Kind: upstream.Nonsense, Text: "want an answer, got a redirect (status 307), which is not followed"},
		"500 with HTML":      {Kind: upstream.Refused, Text: fmt.Sprintf(trouble, 500)},
	}
	faults := append(standin.Nonsense(), standin.NamedFault{
		Name:  "only keys that are of no use",
		Fault: standin.Answer(200, "application/json", string(setOf(t, published(t, s, jwk{"e": "AQ"})))),
	})
	for status, text := range map[int]string{204: check, 403: check, 404: check, 429: trouble, 503: trouble} {
		name := fmt.Sprint(status)
		faults = append(faults, standin.NamedFault{Name: name, Fault: standin.Status(status)})
		want[name] = upstream.Error{Kind: upstream.Refused, Text: fmt.Sprintf(text, status)}
	}
	for _, test := range faults {
		want, ok := want[test.Name]
		if !ok {
			want = upstream.Error{Kind: upstream.Nonsense, Text: noSet}
		}
		want.Text = domain + ": " + want.Text
		synctest.Test(t, func(t *testing.T) {
			s.Tenant.Misbehave(test.Fault)
			keys, err := Fetch(t.Context(), s.Transport(), domain)
			var failed *upstream.Error
			if keys != nil || !errors.As(err, &failed) || *failed != want {
				t.Errorf("%s: got %d keys and %v, want %v", test.Name, len(keys), err, &want)
			}
		})
	}
}
