package jwks

import (
	"bytes"
	"cmp"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"itwin-token-server/internal/standin/standintest"
	"itwin-token-server/internal/upstream"
)

type members = map[string]any

// published is the tenant's current key as it publishes it, with changes; nil deletes.
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
	body := io.NopCloser(bytes.NewReader(b))
	return &http.Response{StatusCode: http.StatusOK, Body: body}, nil
}

// keys are those that tokens get from the body, by kid.
func (b body) keys(t testing.TB) map[string]*rsa.PublicKey {
	t.Helper()
	set, err := Fetch(t.Context(), b, "tenant.test", nil)
	failed, ok := errors.AsType[*upstream.Error](err)
	if ok && failed.Kind == upstream.Nonsense {
		return nil
	}
	if err != nil {
		t.Fatalf("the set %.200q: %v", b, err)
	}
	keys := make(map[string]*rsa.PublicKey)
	for kid := range set.keys {
		key, err := set.Keyfunc(&jwt.Token{Header: members{"kid": kid, "alg": "RS256"}})
		if err != nil || !set.Has(kid) {
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
			got := keys[want.ID]
			if len(keys) != 2 || got == nil || !got.Equal(&want.Private.PublicKey) {
				t.Errorf("hex x5t %v: %d keys, or %s is not the tenant's", hex, len(keys), want.ID)
			}
		}
	}
	set, err := Fetch(t.Context(), setOf(t, published(t, s, nil)), s.Tenant.Domain(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, header := range []members{
		{"kid": "unknown", "alg": "RS256"}, {"kid": s.Tenant.Key().ID, "alg": "RS512"},
	} {
		if _, err := set.Keyfunc(&jwt.Token{Header: header}); !errors.Is(err, keyfunc.ErrKeyfunc) {
			t.Errorf("a token with the header %v: got %v, want an error of keyfunc", header, err)
		}
	}
	if set.Has("unknown") {
		t.Error("the set has an unknown key")
	}
}

// A fetch of the same keys returns the previous set, with what is remembered in it.
func TestFetchOfTheSameKeys(t *testing.T) {
	s := standintest.New(t)
	fetch := func(previous *Set, keys ...any) *Set {
		t.Helper()
		set, err := Fetch(t.Context(), setOf(t, keys...), "tenant.test", previous)
		if err != nil {
			t.Fatal(err)
		}
		return set
	}
	one, other := published(t, s, nil), published(t, s, members{"kid": "other"})
	previous := fetch(nil, one, other)
	if fetch(previous, other, published(t, s, members{"x5t": "x"}), members{}) != previous {
		t.Error("the same keys, in another order, made another set")
	}
	changed := published(t, s, members{"n": modulus(2048)})
	for _, keys := range [][]any{{one}, {one, other, changed}, {changed, other}} {
		if fetch(previous, keys...) == previous {
			t.Errorf("the keys %v made the same set", keys)
		}
	}
}

// usable and unusable are changes of a key that RS256 can use.
var (
	usable = []members{
		nil,
		{"use": nil, "alg": nil, "x5t": nil, "x5c": nil},
		{"alg": json.RawMessage("null")},
		{"kid": "<&>\u2028\u0000\""},
		{"n": modulus(2048)}, {"n": modulus(8192)},
		{"n": modulus(2048) + "=="}, {"n": "AAAA" + modulus(2048)},
		{"e": "Aw"}, {"e": "f____w"}, {"e": "AAAAAAAAAAAAAAAAAQAB"}, // 3, 2^31-1, 65537
		{"x5t": 7, "x5c": []string{"MIIB", "*"}, "x5u": "https://elsewhere.test/", "key_ops": 7},
		{"d": "AQ", "p": "AQ", "q": "AQ", "dp": "AQ", "dq": "AQ", "qi": "AQ"},
	}
	unusable = []members{
		{"use": "enc"}, {"use": "SIG"}, {"alg": "RS512"}, {"alg": 256},
		{"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"}, {"kty": nil},
		{"kid": ""}, {"kid": 7},
		{"n": modulus(2047)}, {"n": modulus(8193)},
		{"n": base64url(new(big.Int).Lsh(big.NewInt(1), 2047).Bytes())}, // even
		{"e": nil}, {"e": "AQAB*"}, {"e": "AQ"}, {"e": "Ag"}, {"e": "gAAAAQ"}, // 1, 2, 2^31+1
	}
)

func TestUnusableKeysAreDroppedOneByOne(t *testing.T) {
	s := standintest.New(t)
	neighbour := s.Tenant.NextKey()
	good := published(t, s,
		members{"kid": neighbour.ID, "n": base64url(neighbour.Private.N.Bytes())})
	want := func(count int, other any) {
		t.Helper()
		keys := setOf(t, other, good).keys(t)
		got := keys[neighbour.ID]
		if len(keys) != count || got == nil || !got.Equal(&neighbour.Private.PublicKey) {
			t.Errorf("beside %.300v: got the keys %v, want %d with the neighbour", other, keys, count)
		}
	}
	for _, change := range usable {
		want(2, published(t, s, change))
	}
	for _, change := range unusable {
		want(1, published(t, s, change))
	}
	for _, other := range []any{nil, "x", 7, []any{}, members{}, true} {
		want(1, other)
	}
}

func TestFailedFetches(t *testing.T) {
	s := standintest.New(t)
	want := map[string]upstream.Kind{ // of all others, Nonsense
		"500 with HTML": upstream.Refused, "404": upstream.Refused, "429": upstream.Throttled,
	}
	faults := append(standintest.Nonsense(),
		standintest.NamedFault{Name: "404", Fault: standintest.Status(404)},
		standintest.NamedFault{Name: "429", Fault: standintest.Status(429)})
	good, _ := strings.CutSuffix(string(setOf(t, published(t, s, nil))), "}")
	for _, text := range []string{good, good + "}x", good + `,"keys":7}`, `{"keys":{}}`} {
		faults = append(faults, standintest.NamedFault{
			Name: text, Fault: standintest.Answer(200, "application/json", text),
		})
	}
	for _, test := range faults {
		kind := cmp.Or(want[test.Name], upstream.Nonsense)
		synctest.Test(t, func(t *testing.T) {
			s.Tenant.Misbehave(test.Fault)
			keys, err := Fetch(t.Context(), s.Transport(), s.Tenant.Domain(), nil)
			failed, ok := errors.AsType[*upstream.Error](err)
			if keys != nil || !ok || failed.Kind != kind ||
				!strings.Contains(failed.Text, s.Tenant.Domain()) {
				t.Errorf("%s: got %v and %v, want %s and the domain", test.Name, keys, err, kind)
			}
		})
	}
}

// Whatever a tenant publishes, keyfunc refuses none of the keys that are kept.
func FuzzFetch(f *testing.F) {
	s := standintest.New(f)
	for _, change := range append(usable, unusable...) {
		f.Add([]byte(setOf(f, published(f, s, change))))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		for kid, key := range body(text).keys(t) {
			if bits := key.N.BitLen(); kid == "" || bits < 2048 || bits > 8192 || key.E < 3 {
				t.Errorf("took the key %q with %d bits and e %d", kid, bits, key.E)
			}
		}
	})
}
