package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/standin"
)

// A pair is a certificate, its issuer's and its key, each in PEM.
type pair struct{ leaf, issuer, key string }

// newPair makes a pair for localhost, identified by its serial number.
func newPair(t *testing.T, serial int64, start, expiry time.Time) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	encode := func(kind string, der []byte, err error) string {
		must(t, err)
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	certificate := func(serial int64) string {
		template := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
			NotBefore: start, NotAfter: expiry,
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		return encode("CERTIFICATE", der, err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	return pair{certificate(serial), certificate(1_000_000 + serial), encode("PRIVATE KEY", der, err)}
}

// valid makes a pair that is valid for a year.
func valid(t *testing.T, serial int64) pair {
	t.Helper()
	return newPair(t, serial, time.Now().Add(-time.Hour), time.Now().AddDate(1, 0, 0))
}

// write writes the pair to dir, as tls.crt and tls.key.
func (p pair) write(t *testing.T, dir string) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	must(t, os.WriteFile(certFile, []byte(p.leaf+p.issuer), 0o600))
	must(t, os.WriteFile(keyFile, []byte(p.key), 0o600))
	return certFile, keyFile
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// certificateIn loads the pair in dir.
func certificateIn(t *testing.T, dir string, log *standin.Log) *Certificate {
	t.Helper()
	c, err := NewCertificate(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), logTo(log))
	must(t, err)
	return c
}

// wantServed checks the serial number of the certificate that a client gets.
func wantServed(t *testing.T, r *running, want int64) {
	t.Helper()
	conn := tls.Client(r.mustDial(t), &tls.Config{InsecureSkipVerify: true})
	must(t, conn.Handshake())
	defer conn.Close()
	if got := conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); got != want {
		t.Errorf("served the certificate %d, want %d", got, want)
	}
}

// mount does what Kubernetes does for a secret: the files are links through
// ..data, which a renewal makes a link to another folder, in one step.
func mount(version string) func(t *testing.T, dir string, p pair) {
	return func(t *testing.T, dir string, p pair) {
		folder := filepath.Join(dir, version)
		must(t, os.Mkdir(folder, 0o700))
		p.write(t, folder)
		for name, target := range map[string]string{"..data": version, "tls.crt": "..data/tls.crt", "tls.key": "..data/tls.key"} {
			name = filepath.Join(dir, name)
			must(t, os.Symlink(target, name+".new"))
			must(t, os.Rename(name+".new", name))
		}
	}
}

func TestRenewedCertificateIsServedWithinAMinute(t *testing.T) {
	overwrite := func(t *testing.T, dir string, p pair) { p.write(t, dir) }
	for _, test := range []struct {
		name        string
		first, next func(t *testing.T, dir string, p pair)
	}{
		{"files overwritten", overwrite, overwrite},
		{"files renamed over", overwrite, func(t *testing.T, dir string, p pair) {
			certFile, keyFile := p.write(t, t.TempDir())
			must(t, os.Rename(certFile, filepath.Join(dir, "tls.crt")))
			must(t, os.Rename(keyFile, filepath.Join(dir, "tls.key")))
		}},
		{"a secret mounted by Kubernetes", mount("..2026_01_01"), mount("..2026_03_01")},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				test.first(t, dir, valid(t, 1))
				log := new(standin.Log)
				r := start(t, hello, certificateIn(t, dir, log))
				wantServed(t, r, 1)
				time.Sleep(time.Hour + 7*time.Second)
				wantServed(t, r, 1)
				test.next(t, dir, valid(t, 2))
				time.Sleep(time.Minute)
				wantServed(t, r, 2)
				if log.String() != "" {
					t.Errorf("logged %q, want nothing", log.String())
				}
			})
		})
	}
}

func TestCertificateFilesAreReadTwiceAMinuteAtMost(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		valid(t, 1).write(t, dir)
		r := start(t, hello, certificateIn(t, dir, new(standin.Log)))
		valid(t, 2).write(t, dir)
		time.Sleep(30*time.Second - 1)
		wantServed(t, r, 1)
		time.Sleep(time.Nanosecond)
		wantServed(t, r, 2)
	})
}

// While one handshake reads the files, perhaps from a slow disk, others get the
// certificate there is.
func TestHandshakesDoNotWaitForTheFiles(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		valid(t, 1).write(t, dir)
		c := certificateIn(t, dir, new(standin.Log))
		r := start(t, hello, c)
		time.Sleep(time.Hour)
		c.mu.Lock() // as the handshake that reads does
		defer c.mu.Unlock()
		wantServed(t, r, 1)
	})
}

// brokenPairs are the ways in which a pair cannot be used. Each is made of a whole
// new pair p, and ends in an error with the text.
var brokenPairs = []struct {
	name  string
	write func(t *testing.T, dir string, p pair)
	want  string
}{
	{"certificate written, key not yet", func(t *testing.T, dir string, p pair) {
		must(t, os.WriteFile(filepath.Join(dir, "tls.crt"), []byte(p.leaf), 0o600))
	}, "private key does not match"},
	{"key written, certificate not yet", func(t *testing.T, dir string, p pair) {
		must(t, os.WriteFile(filepath.Join(dir, "tls.key"), []byte(p.key), 0o600))
	}, "private key does not match"},
	{"certificate half written", func(t *testing.T, dir string, p pair) {
		pair{leaf: p.leaf[:len(p.leaf)/2], key: p.key}.write(t, dir)
	}, "tls.crt"},
	{"chain half written", func(t *testing.T, dir string, p pair) {
		pair{p.leaf, p.issuer[:len(p.issuer)/2], p.key}.write(t, dir)
	}, "tls.crt: want 2 whole certificates, got 1"},
	{"key half written", func(t *testing.T, dir string, p pair) { pair{p.leaf, p.issuer, p.key[:len(p.key)/2]}.write(t, dir) }, "tls.key"},
	{"empty files", func(t *testing.T, dir string, _ pair) { pair{}.write(t, dir) }, "tls.crt"},
	{"files exchanged", func(t *testing.T, dir string, p pair) { pair{leaf: p.key, key: p.leaf}.write(t, dir) }, "tls.crt"},
	{"no certificate file", func(t *testing.T, dir string, _ pair) { must(t, os.Remove(filepath.Join(dir, "tls.crt"))) }, "tls.crt"},
	{"no key file", func(t *testing.T, dir string, _ pair) { must(t, os.Remove(filepath.Join(dir, "tls.key"))) }, "tls.key"},
}

func TestBrokenPairIsLoggedOnceAndThePreviousOneKept(t *testing.T) {
	for _, test := range brokenPairs {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				valid(t, 1).write(t, dir)
				log := new(standin.Log)
				r := start(t, hello, certificateIn(t, dir, log))
				for round := 1; round <= 2; round++ { // logged again after a good one
					test.write(t, dir, valid(t, 100))
					for range 3 {
						time.Sleep(time.Minute)
						wantServed(t, r, int64(round))
					}
					wantContains(t, log.String(), "level=ERROR", test.want)
					if got := strings.Count(log.String(), "\n"); got != round {
						t.Errorf("%d lines logged, want %d: %s", got, round, log.String())
					}
					valid(t, int64(round)+1).write(t, dir)
					time.Sleep(time.Minute)
					wantServed(t, r, int64(round)+1)
				}
			})
		})
	}
}

func TestCertificateExpiry(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		valid(t, 1).write(t, dir)
		c := certificateIn(t, dir, new(standin.Log))
		want := time.Now().AddDate(1, 0, 0)
		if got := c.Expiry(); !got.Equal(want) {
			t.Errorf("got %v, want %v", got, want)
		}
		newPair(t, 2, time.Now(), want.Add(time.Hour)).write(t, dir)
		time.Sleep(time.Minute) // without a handshake
		if got := c.Expiry(); !got.Equal(want.Add(time.Hour)) {
			t.Errorf("after the renewal: got %v, want %v", got, want.Add(time.Hour))
		}
	})
}

func TestLoadCertificate(t *testing.T) {
	certFile, keyFile := valid(t, 7).write(t, t.TempDir())
	got, err := LoadCertificate(certFile, keyFile)
	must(t, err)
	if serial := got.Leaf.SerialNumber.Int64(); serial != 7 || len(got.Certificate) != 2 {
		t.Errorf("got the serial number %d and %d certificates, want 7 and 2", serial, len(got.Certificate))
	}
}

func TestCertificateErrorsDoNotShowTheKey(t *testing.T) {
	for _, test := range brokenPairs {
		dir := t.TempDir()
		old, p := valid(t, 1), valid(t, 2)
		certFile, keyFile := old.write(t, dir)
		test.write(t, dir, p)
		_, err := NewCertificate(certFile, keyFile, nil)
		if err == nil {
			t.Errorf("%s: no error", test.name)
			continue
		}
		wantContains(t, err.Error(), test.want)
		for line := range strings.Lines(old.key + p.key) {
			if line[0] != '-' && strings.Contains(err.Error(), line[:16]) {
				t.Errorf("%s: the error %q shows the key", test.name, err)
			}
		}
	}
	p := valid(t, 1)
	certFile, _ := p.write(t, t.TempDir())
	_, err := LoadCertificate(certFile, p.key) // pasted instead of the file's name
	if err == nil || strings.Contains(err.Error(), "PRIVATE KEY") || !strings.Contains(err.Error(), "not shown") {
		t.Errorf("a pasted key: got the error %v", err)
	}
}

func TestExpiryWarning(t *testing.T) {
	const day = 24 * time.Hour
	synctest.Test(t, func(t *testing.T) { // starts at midnight of 2000-01-01
		now := time.Now()
		for _, test := range []struct {
			name          string
			start, expiry time.Duration // from now
			want          string        // none if empty
		}{
			{"new", -time.Hour, 90 * day, ""},
			{"not valid yet", time.Hour, 90 * day, "valid only from 2000-01-01T01:00:00Z"},
			{"expired a second ago", -90 * day, -time.Second, "expired at 1999-12-31T23:59:59Z"},
			{"expired now", -90 * day, 0, "expired at 2000-01-01T00:00:00Z"},
			{"90 days, a tenth left", -81 * day, 9 * day, ""},
			{"90 days, less than that", -81*day - time.Hour, 9*day - time.Hour, "expires soon, at 2000-01-09T23:00:00Z"},
			{"10 years, a month left", -3620 * day, 30 * day, ""},
			{"10 years, 13 days left", -3637 * day, 13 * day, "expires soon, at 2000-01-14T00:00:00Z"},
			{"6 days, one left", -5 * day, day, ""},
		} {
			loaded, err := LoadCertificate(newPair(t, 1, now.Add(test.start), now.Add(test.expiry)).write(t, t.TempDir()))
			must(t, err)
			if got := ExpiryWarning(loaded); !strings.Contains(got, test.want) || (got == "") != (test.want == "") {
				t.Errorf("%s: got %q, want %q in it", test.name, got, test.want)
			}
		}
	})
}
