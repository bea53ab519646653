package jwks

import (
	"crypto/rsa"
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

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"itwin-token-server/internal/standin"
	"itwin-token-server/internal/upstream"
)

type members = map[string]any

// published is the tenant's current key as it publishes it, with changes; a nil
// value deletes.
func published(t testing.TB, s *standin.Standin, change members) members {
	t.Helper()
	var set struct{ Keys []members }
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
	body, err := json.Marshal(members{"keys": keys})
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

// parse is [Parse], which must not fail, and the keys that tokens get, by kid.
func parse(t testing.TB, body []byte) (keyfunc.Keyfunc, map[string]*rsa.PublicKey) {
	t.Helper()
	set, err := Parse(body)
	if err != nil {
		t.Fatalf("Parse(%.200q): %v", body, err)
	}
	keys := make(map[string]*rsa.PublicKey)
	all, _ := set.Storage().KeyReadAll(t.Context())
	for _, stored := range all {
		kid := stored.Marshal().KID
		key, err := set.Keyfunc(&jwt.Token{Header: members{"kid": kid, "alg": "RS256"}})
		if err != nil {
			t.Fatalf("the key %q is not found: %v", kid, err)
		}
		keys[kid] = key.(*rsa.PublicKey)
	}
	return set, keys
}

func TestParseTakesWhatTheTenantPublishes(t *testing.T) {
	s := standin.ForTest(t)
	for _, hex := range []bool{false, true} {
		s.Tenant.HexX5t(hex)
		set, keys := parse(t, s.Tenant.JWKS())
		if Count(set) != 2 {
			t.Errorf("hex x5t %v: %d keys, want 2", hex, Count(set))
		}
		for _, want := range []standin.Key{s.Tenant.Key(), s.Tenant.NextKey()} {
			if got := keys[want.ID]; got == nil || !got.Equal(&want.Private.PublicKey) {
				t.Errorf("hex x5t %v: key %s is not the tenant's", hex, want.ID)
			}
		}
	}
	set, _ := parse(t, setOf(t, published(t, s, members{"alg": nil})))
	for _, header := range []members{{"kid": "unknown", "alg": "RS256"}, {"kid": "", "alg": "RS256"}, {"kid": s.Tenant.Key().ID, "alg": "RS512"}} {
		if key, err := set.Keyfunc(&jwt.Token{Header: header}); err == nil {
			t.Errorf("a token with the header %v gets the key %v, want an error", header, key)
		}
	}
}

// oddities are changes to one key of a set, and whether RS256 can still use it.
var oddities = []struct {
	name   string
	change members
	usable bool
}{
	{"as published", nil, true},
	{"no use", members{"use": nil}, true},
	{"no alg", members{"alg": nil}, true},
	{"nothing but what is needed", members{"use": nil, "alg": nil, "x5t": nil, "x5c": nil}, true},
	{"use enc", members{"use": "enc"}, false},
	{"use unknown", members{"use": "SIG"}, false},
	{"use a list", members{"use": []string{"sig"}}, false},
	{"alg RS512", members{"alg": "RS512"}, false},
	{"alg PS256", members{"alg": "PS256"}, false},
	{"alg HS256", members{"alg": "HS256"}, false},
	{"alg none", members{"alg": "none"}, false},
	{"alg a number", members{"alg": 256}, false},
	{"kty EC", members{"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"}, false},
	{"kty oct", members{"kty": "oct", "k": "c2VjcmV0"}, false},
	{"kty rsa", members{"kty": "rsa"}, false},
	{"no kty", members{"kty": nil}, false},
	{"no kid", members{"kid": nil}, false},
	{"empty kid", members{"kid": ""}, false},
	{"kid a number", members{"kid": 7}, false},
	{"alg null", members{"alg": json.RawMessage("null")}, true},
	{"kid with odd characters", members{"kid": "<&>\u2028\u0000\""}, true},
	{"no n", members{"n": nil}, false},
	{"n a number", members{"n": 7}, false},
	{"n no base64url", members{"n": "*" + modulus(2048)}, false},
	{"n padded", members{"n": modulus(2048) + "=="}, true},
	{"n with leading zeros", members{"n": "AAAA" + modulus(2048)}, true},
	{"1024 bits", members{"n": modulus(1024)}, false},
	{"2047 bits", members{"n": modulus(2047)}, false},
	{"2048 bits", members{"n": modulus(2048)}, true},
	{"8192 bits", members{"n": modulus(8192)}, true},
	{"8193 bits", members{"n": modulus(8193)}, false},
	{"16384 bits", members{"n": modulus(16384)}, false},
	{"n even", members{"n": base64url(new(big.Int).Lsh(big.NewInt(1), 2047).Bytes())}, false},
	{"no e", members{"e": nil}, false},
	{"e 0", members{"e": "AA"}, false},
	{"e 1", members{"e": "AQ"}, false},
	{"e 2", members{"e": "Ag"}, false},
	{"e 3", members{"e": "Aw"}, true},
	{"e 65536", members{"e": "AQAA"}, false},
	{"e 65537, four bytes", members{"e": "AAEAAQ"}, true},
	{"e 65537, padded", members{"e": "AAEAAQ=="}, true},
	{"e 65537, many leading zeros", members{"e": "AAAAAAAAAAAAAAAAAQAB"}, true},
	{"e with a line break", members{"e": "AQ\nAB"}, true},
	{"e 2^31-1", members{"e": "f____w"}, true},
	{"e 2^31+1", members{"e": "gAAAAQ"}, false},
	{"e 2^32+3", members{"e": "AQAAAAM"}, false},
	{"e 2^64+65537", members{"e": "AQAAAAAAAQAB"}, false},
	{"e of 2048 bits", members{"e": modulus(2048)}, false},
	{"e a number", members{"e": 65537}, false},
	{"x5t in hex", members{"x5t": base64url([]byte(strings.Repeat("0F", 20)))}, true},
	{"x5t a number", members{"x5t": 7}, true},
	{"x5c broken", members{"x5c": []string{"MIIB", "*"}}, true},
	{"x5c a text", members{"x5c": "MIIB"}, true},
	{"x5u elsewhere", members{"x5u": "https://elsewhere.test/"}, true},
	{"key_ops to encrypt", members{"key_ops": 7}, true},
	{"private members", members{"d": "AQ", "p": "AQ", "q": "AQ", "dp": "AQ", "dq": "AQ", "qi": "AQ"}, true},
	{"private members that are no numbers", members{"d": "*", "p": 7, "q": members{}, "oth": "x"}, true},
	{"a huge member", members{"x": strings.Repeat("x", 100_000)}, true},
}

func TestParseOddKeys(t *testing.T) {
	s := standin.ForTest(t)
	neighbour := s.Tenant.NextKey()
	body := func(odd members) []byte {
		return setOf(t, odd, published(t, s, members{"kid": neighbour.ID, "n": base64url(neighbour.Private.N.Bytes())}))
	}
	for _, test := range oddities {
		change := published(t, s, test.change)
		_, keys := parse(t, body(change))
		if got := keys[neighbour.ID]; got == nil || !got.Equal(&neighbour.Private.PublicKey) {
			t.Errorf("%s: its neighbour is missing", test.name)
		}
		delete(keys, neighbour.ID)
		kid, _ := change["kid"].(string)
		if _, ok := keys[kid]; ok != test.usable || len(keys) > 1 {
			t.Errorf("%s: got the keys %v, want it usable: %v", test.name, slices.Collect(maps.Keys(keys)), test.usable)
		}
	}
	for name, odd := range map[string]any{"null": nil, "a text": "x", "a number": 7, "a list": []any{}, "an empty object": members{}, "true": true} {
		if _, keys := parse(t, setOf(t, odd, published(t, s, nil))); len(keys) != 1 {
			t.Errorf("beside %s: %d keys, want 1", name, len(keys))
		}
	}
}

func TestParseOfTwoKeysWithOneKid(t *testing.T) {
	s := standin.ForTest(t)
	good, bad, other := published(t, s, nil), published(t, s, members{"use": "enc"}), published(t, s, members{"n": modulus(2048)})
	for _, set := range [][]byte{setOf(t, good, bad), setOf(t, bad, good), setOf(t, good, good), setOf(t, good, other)} {
		if _, keys := parse(t, set); len(keys) != 1 || !keys[s.Tenant.Key().ID].Equal(&s.Tenant.Key().Private.PublicKey) {
			t.Errorf("%d keys, want the first that RS256 can use", len(keys))
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
		`{"keys":[` + string(one), `{"keys":[` + string(one) + `]}x`, `{"keys":[` + string(one) + `],"keys":7}`, `<html>`, `{"error":"x"}`, string(one), `[` + string(one) + `]`,
		strings.Repeat("[", 100_000), `{"keys":` + strings.Repeat("[", 100_000), "\ufeff{}",
	} {
		if set, _ := parse(t, []byte(text)); Count(set) != 0 {
			t.Errorf("Parse(%.40q) has %d keys, want none", text, Count(set))
		}
	}
}

// More than fit into the 1 MiB that is read: about 2,400.
func TestParseOfThreeThousandKeys(t *testing.T) {
	s := standin.ForTest(t)
	one, err := json.Marshal(published(t, s, members{"kid": "kid", "x5c": nil}))
	if err != nil {
		t.Fatal(err)
	}
	keys := make([]string, 3_000)
	for i := range keys {
		keys[i] = strings.Replace(string(one), `"kid":"kid"`, fmt.Sprintf(`"kid":"%d"`, i), 1)
	}
	set, err := Parse([]byte(`{"keys":[` + strings.Join(keys, ",") + `]}`))
	if err != nil || Count(set) != len(keys) {
		t.Errorf("%d keys (%v), want %d", Count(set), err, len(keys))
	}
}

func TestFetch(t *testing.T) {
	s := standin.ForTest(t)
	domain := s.Tenant.Domain()
	synctest.Test(t, func(t *testing.T) {
		keys, err := Fetch(t.Context(), s.Transport(), domain)
		if err != nil || Count(keys) != 2 {
			t.Errorf("got %v (%v), want 2 keys", keys, err)
		}
	})
	want := map[string]upstream.Kind{"500 with HTML": upstream.Refused} // of all others, Nonsense
	faults := append(standin.Nonsense(), standin.NamedFault{
		Name:  "only unusable keys",
		Fault: standin.Answer(200, "application/json", string(setOf(t, published(t, s, members{"e": "AQ"})))),
	})
	for status, kind := range map[int]upstream.Kind{
		204: upstream.Refused, 403: upstream.Refused, 404: upstream.Refused, 503: upstream.Refused, 429: upstream.Throttled,
	} {
		name := fmt.Sprintf("status %d", status)
		faults = append(faults, standin.NamedFault{Name: name, Fault: standin.Status(status)})
		want[name] = kind
	}
	for _, test := range faults {
		kind, ok := want[test.Name]
		if !ok {
			kind = upstream.Nonsense
		}
		synctest.Test(t, func(t *testing.T) {
			s.Tenant.Misbehave(test.Fault)
			keys, err := Fetch(t.Context(), s.Transport(), domain)
			var failed *upstream.Error
			if keys != nil || !errors.As(err, &failed) || failed.Kind != kind || !strings.Contains(failed.Text, domain) {
				t.Errorf("%s: got %v and %v, want %s and the domain", test.Name, keys, err, kind)
			}
			if strings.HasPrefix(test.Name, "status ") && !strings.Contains(failed.Text, test.Name) {
				t.Errorf("%s: %v does not name it", test.Name, err)
			}
		})
	}
}
