package jwks

import (
	"bytes"
	"cmp"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/golang-jwt/jwt/v5"

	"itwin-token-server/internal/standin/standintest"
	"itwin-token-server/internal/upstream"
)

type members = map[string]any

// published is the tenant's current key as it publishes it, with changes; a nil
// value deletes.
func published(t testing.TB, s *standintest.Standin, change members) members {
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
func setOf(t testing.TB, keys ...any) body {
	t.Helper()
	text, err := json.Marshal(members{"keys": keys})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func base64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// modulus is an odd number of so many bits, as n.
func modulus(bits uint) string {
	n := new(big.Int).Lsh(big.NewInt(1), bits-1)
	return base64url(n.Add(n, big.NewInt(1)).Bytes())
}

// A body is what a tenant answers.
type body []byte

func (b body) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(b))}, nil
}

// keys are those that tokens get from the body, by kid.
func (b body) keys(t testing.TB) map[string]*rsa.PublicKey {
	t.Helper()
	set, err := Fetch(t.Context(), b, "tenant.test")
	if failed, ok := errors.AsType[*upstream.Error](err); ok && failed.Kind == upstream.Nonsense {
		return nil
	}
	if err != nil {
		t.Fatalf("the set %.200q: %v", b, err)
	}
	keys := make(map[string]*rsa.PublicKey)
	all, _ := set.Storage().KeyReadAll(t.Context())
	for _, stored := range all {
		kid := stored.Marshal().KID
		key, err := set.Keyfunc.Keyfunc(&jwt.Token{Header: members{"kid": kid, "alg": "RS256"}})
		if err != nil {
			t.Fatalf("the key %q is not found: %v", kid, err)
		}
		keys[kid] = key.(*rsa.PublicKey)
	}
	return keys
}

func TestFetch(t *testing.T) {
	s := standintest.New(t)
	for _, hex := range []bool{false, true} {
		s.Tenant.HexX5t(hex)
		keys := body(s.Tenant.JWKS()).keys(t)
		for _, want := range []standintest.Key{s.Tenant.Key(), s.Tenant.NextKey()} {
			if got := keys[want.ID]; len(keys) != 2 || got == nil || !got.Equal(&want.Private.PublicKey) {
				t.Errorf("hex x5t %v: %d keys, or %s is not the tenant's", hex, len(keys), want.ID)
			}
		}
	}
	set, err := Fetch(t.Context(), setOf(t, published(t, s, members{"alg": nil})), s.Tenant.Domain())
	if err != nil {
		t.Fatal(err)
	}
	for _, header := range []members{{"kid": "unknown", "alg": "RS256"}, {"kid": "", "alg": "RS256"}, {"kid": s.Tenant.Key().ID, "alg": "RS512"}} {
		if key, err := set.Keyfunc.Keyfunc(&jwt.Token{Header: header}); err == nil {
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
	{"only what is needed", members{"use": nil, "alg": nil, "x5t": nil, "x5c": nil}, true},
	{"use enc", members{"use": "enc"}, false},
	{"use in capitals", members{"use": "SIG"}, false},
	{"alg RS512", members{"alg": "RS512"}, false},
	{"alg a number", members{"alg": 256}, false},
	{"alg null", members{"alg": json.RawMessage("null")}, true},
	{"kty EC", members{"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"}, false},
	{"no kty", members{"kty": nil}, false},
	{"empty kid", members{"kid": ""}, false},
	{"kid a number", members{"kid": 7}, false},
	{"kid with odd characters", members{"kid": "<&>\u2028\u0000\""}, true},
	{"n padded", members{"n": modulus(2048) + "=="}, true},
	{"n with leading zeros", members{"n": "AAAA" + modulus(2048)}, true},
	{"n even", members{"n": base64url(new(big.Int).Lsh(big.NewInt(1), 2047).Bytes())}, false},
	{"2047 bits", members{"n": modulus(2047)}, false},
	{"2048 bits", members{"n": modulus(2048)}, true},
	{"8192 bits", members{"n": modulus(8192)}, true},
	{"8193 bits", members{"n": modulus(8193)}, false},
	{"no e", members{"e": nil}, false},
	{"e with an odd end", members{"e": "AQAB*"}, false},
	{"e 1", members{"e": "AQ"}, false},
	{"e 2", members{"e": "Ag"}, false},
	{"e 3", members{"e": "Aw"}, true},
	{"e with leading zeros", members{"e": "AAAAAAAAAAAAAAAAAQAB"}, true},
	{"e 2^31-1", members{"e": "f____w"}, true},
	{"e 2^31+1", members{"e": "gAAAAQ"}, false},
	{"other members odd", members{"x5t": 7, "x5c": []string{"MIIB", "*"}, "x5u": "https://elsewhere.test/", "key_ops": 7, "oth": "x"}, true},
	{"private members", members{"d": "AQ", "p": "AQ", "q": "AQ", "dp": "AQ", "dq": "AQ", "qi": "AQ"}, true},
}

func TestOddKeysAreDroppedOneByOne(t *testing.T) {
	s := standintest.New(t)
	neighbour := s.Tenant.NextKey()
	good := published(t, s, members{"kid": neighbour.ID, "n": base64url(neighbour.Private.N.Bytes())})
	for _, test := range oddities {
		odd := published(t, s, test.change)
		keys := setOf(t, odd, good).keys(t)
		if got := keys[neighbour.ID]; got == nil || !got.Equal(&neighbour.Private.PublicKey) {
			t.Errorf("%s: its neighbour is missing", test.name)
		}
		kid, _ := odd["kid"].(string)
		if _, ok := keys[kid]; ok != test.usable || len(keys) > 2 {
			t.Errorf("%s: got the keys %v, want it usable: %v", test.name, keys, test.usable)
		}
	}
	for _, odd := range []any{nil, "x", 7, []any{}, members{}, true} {
		if keys := setOf(t, odd, good).keys(t); len(keys) != 1 {
			t.Errorf("beside %v: %d keys, want 1", odd, len(keys))
		}
	}
	one, bad, other := published(t, s, nil), published(t, s, members{"use": "enc"}), published(t, s, members{"n": modulus(2048)})
	for _, set := range []body{setOf(t, one, bad), setOf(t, bad, one), setOf(t, one, one), setOf(t, one, other)} { // of one kid
		if keys := set.keys(t); len(keys) != 1 || !keys[s.Tenant.Key().ID].Equal(&s.Tenant.Key().Private.PublicKey) {
			t.Errorf("%d keys, want the first that RS256 can use", len(keys))
		}
	}
}

func TestNonsenseHasNoKeys(t *testing.T) {
	s := standintest.New(t)
	one := strings.TrimSuffix(strings.TrimPrefix(string(setOf(t, published(t, s, nil))), `{"keys":[`), `]}`)
	for _, text := range []string{
		``, `null`, `[]`, `{"keys":null}`, `{"keys":{}}`, `{"keys":` + strings.Repeat("[", 100_000), "\ufeff{}",
		`{"keys":[` + one, `{"keys":[` + one + `]}x`, `{"keys":[` + one + `],"keys":7}`, one, `[` + one + `]`,
	} {
		if keys := body(text).keys(t); len(keys) != 0 {
			t.Errorf("%.40q has %d keys, want none", text, len(keys))
		}
	}
}

func TestFailedFetches(t *testing.T) {
	s := standintest.New(t)
	faults := standintest.Nonsense()
	want := map[string]upstream.Kind{"500 with HTML": upstream.Refused} // of all others, Nonsense
	for status, kind := range map[int]upstream.Kind{204: upstream.Refused, 404: upstream.Refused, 429: upstream.Throttled} {
		name := fmt.Sprintf("status %d", status)
		faults = append(faults, standintest.NamedFault{Name: name, Fault: standintest.Status(status)})
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
			}
		})
	}
}

// Whatever a tenant publishes, keyfunc refuses none of the keys that are kept.
func FuzzFetch(f *testing.F) {
	s := standintest.New(f)
	for _, test := range oddities {
		f.Add([]byte(setOf(f, published(f, s, test.change))))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for kid, key := range body(text).keys(t) {
			if bits := key.N.BitLen(); kid == "" || bits < 2048 || bits > 8192 || key.E < 3 || key.E%2 == 0 {
				t.Errorf("took the key %q with %d bits and e %d", kid, bits, key.E)
			}
		}
	})
}
