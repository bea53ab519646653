package jwks

import (
	"cmp"
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

// keysOf is what parse makes of the body: the keys that tokens get, by kid.
func keysOf(t testing.TB, body []byte) map[string]*rsa.PublicKey {
	t.Helper()
	set, err := parse(body)
	if errors.Is(err, errNoKeys) {
		return nil
	}
	if err != nil {
		t.Fatalf("parse(%.200q): %v", body, err)
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
	return keys
}

func TestFetch(t *testing.T) {
	s := standin.ForTest(t)
	for _, hex := range []bool{false, true} {
		s.Tenant.HexX5t(hex)
		keys := keysOf(t, s.Tenant.JWKS())
		for _, want := range []standin.Key{s.Tenant.Key(), s.Tenant.NextKey()} {
			if got := keys[want.ID]; len(keys) != 2 || got == nil || !got.Equal(&want.Private.PublicKey) {
				t.Errorf("hex x5t %v: %d keys, or %s is not the tenant's", hex, len(keys), want.ID)
			}
		}
	}
	s.Tenant.Misbehave(standin.Answer(200, "application/json", string(setOf(t, published(t, s, members{"alg": nil})))))
	synctest.Test(t, func(t *testing.T) {
		set, err := Fetch(t.Context(), s.Transport(), s.Tenant.Domain())
		if err != nil {
			t.Fatal(err)
		}
		for _, header := range []members{{"kid": "unknown", "alg": "RS256"}, {"kid": "", "alg": "RS256"}, {"kid": s.Tenant.Key().ID, "alg": "RS512"}} {
			if key, err := set.Keyfunc(&jwt.Token{Header: header}); err == nil {
				t.Errorf("a token with the header %v gets the key %v, want an error", header, key)
			}
		}
	})
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
	{"alg HS256", members{"alg": "HS256"}, false},
	{"alg a number", members{"alg": 256}, false},
	{"kty EC", members{"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"}, false},
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
	{"e with an odd end", members{"e": "AQAB*"}, false},
	{"n with leading zeros", members{"n": "AAAA" + modulus(2048)}, true},
	{"1024 bits", members{"n": modulus(1024)}, false},
	{"2047 bits", members{"n": modulus(2047)}, false},
	{"2048 bits", members{"n": modulus(2048)}, true},
	{"8192 bits", members{"n": modulus(8192)}, true},
	{"8193 bits", members{"n": modulus(8193)}, false},
	{"n even", members{"n": base64url(new(big.Int).Lsh(big.NewInt(1), 2047).Bytes())}, false},
	{"no e", members{"e": nil}, false},
	{"e 1", members{"e": "AQ"}, false},
	{"e 2", members{"e": "Ag"}, false},
	{"e 3", members{"e": "Aw"}, true},
	{"e 65536", members{"e": "AQAA"}, false},
	{"e 65537, four bytes", members{"e": "AAEAAQ"}, true},
	{"e 65537, many leading zeros", members{"e": "AAAAAAAAAAAAAAAAAQAB"}, true},
	{"e with a line break", members{"e": "AQ\nAB"}, true},
	{"e 2^31-1", members{"e": "f____w"}, true},
	{"e 2^31+1", members{"e": "gAAAAQ"}, false},
	{"e a number", members{"e": 65537}, false},
	{"x5t in hex", members{"x5t": base64url([]byte(strings.Repeat("0F", 20)))}, true},
	{"x5t a number", members{"x5t": 7}, true},
	{"x5c broken", members{"x5c": []string{"MIIB", "*"}}, true},
	{"x5u elsewhere", members{"x5u": "https://elsewhere.test/"}, true},
	{"key_ops to encrypt", members{"key_ops": 7}, true},
	{"private members", members{"d": "AQ", "p": "AQ", "q": "AQ", "dp": "AQ", "dq": "AQ", "qi": "AQ"}, true},
	{"private members that are no numbers", members{"d": "*", "p": 7, "q": members{}, "oth": "x"}, true},
	{"a huge member", members{"x": strings.Repeat("x", 100_000)}, true},
}

func TestOddKeysAreDroppedOneByOne(t *testing.T) {
	s := standin.ForTest(t)
	neighbour := s.Tenant.NextKey()
	good := published(t, s, members{"kid": neighbour.ID, "n": base64url(neighbour.Private.N.Bytes())})
	for _, test := range oddities {
		odd := published(t, s, test.change)
		keys := keysOf(t, setOf(t, odd, good))
		if got := keys[neighbour.ID]; got == nil || !got.Equal(&neighbour.Private.PublicKey) {
			t.Errorf("%s: its neighbour is missing", test.name)
		}
		delete(keys, neighbour.ID)
		kid, _ := odd["kid"].(string)
		if _, ok := keys[kid]; ok != test.usable || len(keys) > 1 {
			t.Errorf("%s: got the keys %v, want it usable: %v", test.name, slices.Collect(maps.Keys(keys)), test.usable)
		}
	}
	for _, odd := range []any{nil, "x", 7, []any{}, members{}, true} {
		if keys := keysOf(t, setOf(t, odd, good)); len(keys) != 1 {
			t.Errorf("beside %v: %d keys, want 1", odd, len(keys))
		}
	}
	one, bad, other := published(t, s, nil), published(t, s, members{"use": "enc"}), published(t, s, members{"n": modulus(2048)})
	for _, set := range [][]byte{setOf(t, one, bad), setOf(t, bad, one), setOf(t, one, one), setOf(t, one, other)} { // of one kid
		if keys := keysOf(t, set); len(keys) != 1 || !keys[s.Tenant.Key().ID].Equal(&s.Tenant.Key().Private.PublicKey) {
			t.Errorf("%d keys, want the first that RS256 can use", len(keys))
		}
	}
	many := make([]any, 2_400) // as many as fit into the 1 MiB that is read
	for i := range many {
		many[i] = published(t, s, members{"kid": fmt.Sprint(i), "x5c": nil})
	}
	if keys := keysOf(t, setOf(t, many...)); len(keys) != len(many) {
		t.Errorf("%d keys, want %d", len(keys), len(many))
	}
}

func TestNonsenseHasNoKeys(t *testing.T) {
	s := standin.ForTest(t)
	one := string(setOf(t, published(t, s, nil)))
	one = strings.TrimSuffix(strings.TrimPrefix(one, `{"keys":[`), `]}`)
	for _, text := range []string{
		``, ` `, `null`, `[]`, `{}`, `7`, `"x"`, `{"keys":null}`, `{"keys":[]}`, `{"keys":{}}`, `{"keys":"x"}`, `{"keys":7}`,
		`{"keys":[` + one, `{"keys":[` + one + `]}x`, `{"keys":[` + one + `],"keys":7}`, one, `[` + one + `]`,
		strings.Repeat("[", 100_000), `{"keys":` + strings.Repeat("[", 100_000), "\ufeff{}",
	} {
		if keys := keysOf(t, []byte(text)); len(keys) != 0 {
			t.Errorf("parse(%.40q) has %d keys, want none", text, len(keys))
		}
	}
}

func TestFailedFetches(t *testing.T) {
	s := standin.ForTest(t)
	want := map[string]upstream.Kind{"500 with HTML": upstream.Refused} // of all others, Nonsense
	faults := append(standin.Nonsense(), standin.NamedFault{
		Name:  "only unusable keys",
		Fault: standin.Answer(200, "application/json", string(setOf(t, published(t, s, members{"e": "AQ"})))),
	})
	for status, kind := range map[int]upstream.Kind{204: upstream.Refused, 404: upstream.Refused, 503: upstream.Refused, 429: upstream.Throttled} {
		name := fmt.Sprintf("status %d", status)
		faults = append(faults, standin.NamedFault{Name: name, Fault: standin.Status(status)})
		want[name] = kind
	}
	for _, test := range faults {
		kind := cmp.Or(want[test.Name], upstream.Nonsense)
		synctest.Test(t, func(t *testing.T) {
			s.Tenant.Misbehave(test.Fault)
			keys, err := Fetch(t.Context(), s.Transport(), s.Tenant.Domain())
			failed, ok := errors.AsType[*upstream.Error](err)
			if keys != nil || !ok || failed.Kind != kind || !strings.Contains(failed.Text, s.Tenant.Domain()) {
				t.Errorf("%s: got %v and %v, want %s and the domain", test.Name, keys, err, kind)
			} else if strings.HasPrefix(test.Name, "status ") && !strings.Contains(failed.Text, test.Name) {
				t.Errorf("%s: %v does not name it", test.Name, err)
			}
		})
	}
}

// Whatever a tenant publishes, keyfunc refuses none of the keys that are kept.
func FuzzParse(f *testing.F) {
	s := standin.ForTest(f)
	for _, test := range oddities {
		f.Add(setOf(f, published(f, s, test.change)))
	}
	f.Add(s.Tenant.JWKS())
	f.Add([]byte(`{"keys":[]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for kid, key := range keysOf(t, body) {
			if bits := key.N.BitLen(); kid == "" || bits < 2048 || bits > 8192 || key.E < 3 || key.E%2 == 0 {
				t.Errorf("took the key %q with %d bits and e %d", kid, bits, key.E)
			}
		}
	})
}
