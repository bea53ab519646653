package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A pair is the content of two files in PEM: a certificate with its issuer's, and its key.
type pair struct{ chain, key string }

// newPair makes a pair that is identified by its serial number.
func newPair(t *testing.T, serial int64, expiry time.Time) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	chain := ""
	for _, serial := range []int64{serial, 1000} {
		template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: expiry.AddDate(-1, 0, 0), NotAfter: expiry}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		must(t, err)
		chain += string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	return pair{chain, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))}
}

// valid makes a pair that is valid for half a year.
func valid(t *testing.T, serial int64) pair {
	t.Helper()
	return newPair(t, serial, time.Now().AddDate(0, 6, 0))
}

const missing = "missing" // a file that is not there

// write writes the pair to dir, as tls.crt and tls.key.
func (p pair) write(t *testing.T, dir string) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	for name, content := range map[string]string{certFile: p.chain, keyFile: p.key} {
		if content == missing {
			must(t, os.Remove(name))
		} else {
			must(t, os.WriteFile(name, []byte(content), 0o600))
		}
	}
	return certFile, keyFile
}

// load loads the pair from dir.
func (p pair) load(t *testing.T, dir string) *Certificate {
	t.Helper()
	c, err := LoadCertificate(p.write(t, dir))
	must(t, err)
	return c
}

// wantServed checks the serial number of the certificate that a client gets.
func wantServed(t *testing.T, r *running, want int64) {
	t.Helper()
	conn := tls.Client(r.mustDial(t), &tls.Config{InsecureSkipVerify: true})
	must(t, conn.Handshake())
	defer conn.Close()
	got := conn.ConnectionState().PeerCertificates
	if serial := got[0].SerialNumber.Int64(); serial != want || len(got) != 2 {
		t.Errorf("served the certificate %d and %d more, want %d and 1 more", serial, len(got)-1, want)
	}
}

// mount does what Kubernetes does for a secret: the files are links through
// ..data, which a renewal makes a link to another folder, in one step.
func mount(t *testing.T, dir, version string, p pair) {
	folder := filepath.Join(dir, version)
	must(t, os.Mkdir(folder, 0o700))
	p.write(t, folder)
	for name, target := range map[string]string{"..data": version, "tls.crt": "..data/tls.crt", "tls.key": "..data/tls.key"} {
		name = filepath.Join(dir, name)
		must(t, os.Symlink(target, name+".new"))
		must(t, os.Rename(name+".new", name))
	}
}

func TestRenewedCertificateIsServedWithinAMinute(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		mount(t, dir, "..2026_01_01", valid(t, 1))
		c, err := LoadCertificate(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
		must(t, err)
		r := start(t, hello, c)
		time.Sleep(time.Hour + 7*time.Second)
		wantServed(t, r, 1)
		mount(t, dir, "..2026_03_01", valid(t, 2))
		want := time.Now().AddDate(0, 6, 0)
		time.Sleep(time.Minute)
		if got := c.Expiry(); !got.Equal(want) { // without a handshake
			t.Errorf("the expiry is %v, want %v", got, want)
		}
		wantServed(t, r, 2)
		if r.log.String() != "" {
			t.Errorf("logged %q, want nothing", r.log)
		}
	})
}

func TestBrokenPairIsLoggedOnceAndThePreviousOneKept(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		old, next := valid(t, 1), valid(t, 2)
		r := start(t, hello, old.load(t, dir))
		time.Sleep(7 * time.Second) // so that no write meets a reload
		for _, test := range []struct {
			name   string
			broken pair
			want   string // in the error
		}{
			{"certificate written, key not yet", pair{next.chain, old.key}, "private key does not match"},
			{"key written, certificate not yet", pair{old.chain, next.key}, "private key does not match"},
			{"the same error again, after a good pair", pair{next.chain, old.key}, "private key does not match"},
			{"certificate half written", pair{next.chain[:len(next.chain)/4], next.key}, "tls.crt"},
			{"chain half written", pair{next.chain[:len(next.chain)*3/4], next.key}, "tls.crt: want 2 whole certificates, got 1"},
			{"key half written", pair{next.chain, next.key[:len(next.key)/2]}, "tls.key"},
			{"empty files", pair{}, "tls.crt"},
			{"files exchanged", pair{next.key, next.chain}, "tls.crt"},
			{"no certificate file", pair{missing, next.key}, "tls.crt"},
			{"no key file", pair{next.chain, missing}, "tls.key"},
		} {
			before := r.log.String()
			test.broken.write(t, dir)
			for range 3 {
				time.Sleep(time.Minute)
				wantServed(t, r, 1)
			}
			logged := strings.TrimPrefix(r.log.String(), before)
			wantContains(t, logged, "level=ERROR", test.want)
			if strings.Count(logged, "\n") != 1 {
				t.Errorf("%s: logged %q, want one line", test.name, logged)
			}
			for line := range strings.Lines(old.key + next.key) {
				if line[0] != '-' && strings.Contains(logged, line[:16]) {
					t.Errorf("%s: the error %q shows the key", test.name, logged)
				}
			}
			if _, err := LoadCertificate(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")); err == nil {
				t.Errorf("%s: LoadCertificate gives no error", test.name)
			}
			next.write(t, dir)
			time.Sleep(time.Minute)
			wantServed(t, r, 2)
			old.write(t, dir)
			time.Sleep(time.Minute)
		}
	})
}
