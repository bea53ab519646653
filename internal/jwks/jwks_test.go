package jwks

import (
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"math/big"
	"strings"
	"testing"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"itwin-token-server/internal/standin/standintest"
	"itwin-token-server/internal/upstream"
)

type members = map[string]any

// published is the tenant's current key as it publishes it, with changes; nil deletes.
func published(s *standintest.Standin, change members) members {
	var set struct{ Keys []members }
	json.Unmarshal(s.Tenant.JWKS(), &set)
	key := set.Keys[0]
	maps.Copy(key, change)
	maps.DeleteFunc(key, func(_ string, v any) bool { return v == nil })
	return key
}

func base64url(n *big.Int) string { return base64.RawURLEncoding.EncodeToString(n.Bytes()) }

// modulus is the least number of so many bits, as n.
func modulus(bits uint) string { return base64url(new(big.Int).Lsh(big.NewInt(1), bits-1)) }

// setOf is the JWKS of the keys.
func setOf(keys ...any) []byte {
	text, _ := json.Marshal(members{"keys": keys})
	return text
}

// fetch fetches what the tenant publishes. If it has no usable key, the set is empty.
func fetch(t testing.TB, s *standintest.Standin, published []byte, previous *Set) *Set {
	t.Helper()
	s.Tenant.Misbehave(standintest.Answer(200, "application/json", string(published)))
	set, err := Fetch(t.Context(), s.Transport(), s.Tenant.Domain(), previous)
	if failed, ok := errors.AsType[*upstream.Error](err); ok && failed.Kind == upstream.Nonsense {
		return new(Set)
	}
	if err != nil {
		t.Fatalf("the set %.200q: %v", published, err)
	}
	return set
}

// token is one that is signed with the key.
func token(kid string) *jwt.Token {
	return &jwt.Token{Header: members{"kid": kid, "alg": "RS256"}}
}

func TestFetch(t *testing.T) {
	s := standintest.New(t)
	s.Tenant.HexX5t(true) // as older tenants publish it
	set := fetch(t, s, s.Tenant.JWKS(), nil)
	for _, want := range []standintest.Key{s.Tenant.Key(), s.Tenant.NextKey()} {
		key, err := set.Keyfunc(token(want.ID))
		if !want.Private.PublicKey.Equal(key) || !set.Has(want.ID) {
			t.Errorf("the key %s is %v, %v", want.ID, key, err)
		}
	}
	_, err := set.Keyfunc(token("unknown"))
	if !errors.Is(err, keyfunc.ErrKeyfunc) || set.Has("unknown") {
		t.Errorf("an unknown key: %v, want an error of keyfunc", err)
	}
}

// A fetch of the same keys returns the previous set, with what is remembered in it.
func TestFetchOfTheSameKeys(t *testing.T) {
	s := standintest.New(t)
	one, other := published(s, nil), published(s, members{"kid": "other"})
	previous := fetch(t, s, setOf(one, other), nil)
	same := setOf(other, published(s, members{"x5t": "x"}), members{})
	if fetch(t, s, same, previous) != previous {
		t.Error("the same keys, in another order, made another set")
	}
	changed := published(s, members{"n": modulus(2048)})
	for _, keys := range [][]any{{one}, {changed, other}} {
		if fetch(t, s, setOf(keys...), previous) == previous {
			t.Errorf("the keys %v made the same set", keys)
		}
	}
}

// usable and unusable are changes of a key that RS256 can use.
var (
	usable = []members{
		nil, {"use": nil, "alg": nil, "x5t": nil, "x5c": nil}, {"alg": json.RawMessage("null")},
		{"kid": "<&>\u2028\u0000\""}, {"n": modulus(8192) + "=="}, {"n": "AAAA" + modulus(2048)},
		{"e": "Aw"}, {"e": "f____w"}, {"e": "AAAAAAAAAAAAAAAAAQAB"}, // 3, 2^31-1, 65537
		{"x5t": 7, "x5c": []string{"MIIB", "*"}, "x5u": "https://elsewhere.test/", "key_ops": 7},
		{"d": "AQ", "p": "AQ", "q": "AQ", "dp": "AQ", "dq": "AQ", "qi": "AQ"},
	}
	unusable = []members{
		{"use": "enc"}, {"alg": "RS512"}, {"alg": 256}, {"kid": ""}, {"kid": 7}, {"n": modulus(2047)},
		{"kty": nil}, {"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"}, {"n": modulus(8193)},
		{"e": nil}, {"e": "AQAB*"}, {"e": "AQ"}, {"e": "gAAAAQ"}, // 1, 2^31+1
	}
)

func TestUnusableKeysAreDroppedOneByOne(t *testing.T) {
	s := standintest.New(t)
	next := s.Tenant.NextKey()
	neighbour := published(s, members{"kid": next.ID, "n": base64url(next.Private.N)})
	want := func(count int, other any) {
		t.Helper()
		set := fetch(t, s, setOf(other, neighbour), nil)
		key, err := set.Keyfunc(token(next.ID))
		if !next.Private.PublicKey.Equal(key) || len(set.keys) != count {
			t.Errorf("beside %.300v: got %v (%v), want %d keys", other, set.keys, err, count)
		}
	}
	for _, change := range usable {
		want(2, published(s, change))
	}
	for _, change := range unusable {
		want(1, published(s, change))
	}
	for _, other := range []any{nil, "x", 7, []any{}, members{}} {
		want(1, other)
	}
}

func TestFailedFetches(t *testing.T) {
	s := standintest.New(t)
	want := func(name string, fault standintest.Fault, kind upstream.Kind) {
		t.Helper()
		s.Tenant.Misbehave(fault)
		_, err := Fetch(t.Context(), s.Transport(), s.Tenant.Domain(), nil)
		failed, ok := errors.AsType[*upstream.Error](err)
		if !ok || failed.Kind != kind || !strings.Contains(failed.Text, s.Tenant.Domain()) {
			t.Errorf("%s: got %v, want %s and the domain", name, err, kind)
		}
	}
	for _, nonsense := range standintest.Nonsense() {
		if nonsense.Name != "500 with HTML" {
			want(nonsense.Name, nonsense.Fault, upstream.Nonsense)
		}
	}
	want("500", standintest.Status(500), upstream.Refused)
	want("429", standintest.Status(429), upstream.Throttled)
	good := strings.TrimSuffix(string(setOf(published(s, nil))), "}")
	for _, text := range []string{good, good + "}x", good + `,"keys":7}`} {
		want(text, standintest.Answer(200, "application/json", text), upstream.Nonsense)
	}
}

// Whatever a tenant publishes, keyfunc refuses none of the keys that are kept.
func FuzzFetch(f *testing.F) {
	s := standintest.New(f)
	for _, change := range append(usable, unusable...) {
		f.Add(setOf(published(s, change)))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		set := fetch(t, s, text, nil)
		if len(set.keys) < len(usableKeys(text)) {
			t.Error("keyfunc refuses a key that was kept")
		}
		for kid := range set.keys {
			found, err := set.Keyfunc(token(kid))
			key, ok := found.(*rsa.PublicKey)
			if !ok || kid == "" || key.N.BitLen() < 2048 || key.N.BitLen() > 8192 {
				t.Errorf("took the key %q: %v, %v", kid, key, err)
			}
		}
	})
}
