package standintest

import (
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"
)

func TestJWKSIsAsAuth0PublishesIt(t *testing.T) {
	tenant := New(t).Tenant
	for _, hexX5t := range []bool{false, true} {
		tenant.HexX5t(hexX5t)
		var set struct {
			Keys []struct {
				Kid, Kty, Use, Alg, X5t string
				X5c                     [][]byte // encoding/json decodes base64
			}
		}
		if err := json.Unmarshal(tenant.JWKS(), &set); err != nil || len(set.Keys) != 2 {
			t.Fatalf("got %s (%v), want the current and the next key", tenant.JWKS(), err)
		}
		for i, want := range []Key{tenant.Key(), tenant.NextKey()} {
			key := set.Keys[i]
			cert := must(x509.ParseCertificate(key.X5c[0]))
			if key.Kid != want.ID || !want.Private.PublicKey.Equal(cert.PublicKey) {
				t.Errorf("got %+v, want the key %s with its certificate", key, want.ID)
			}
			sum := sha1.Sum(key.X5c[0])
			thumbprint := sum[:]
			if hexX5t {
				thumbprint = fmt.Appendf(nil, "%X", sum)
			}
			if want := base64.RawURLEncoding.EncodeToString(thumbprint); key.X5t != want {
				t.Errorf("x5t is %s, want %s", key.X5t, want)
			}
		}
	}
}
