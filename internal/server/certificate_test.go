package server

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// faults hears of each look at the files.
type faults struct {
	mu   sync.Mutex // guards what follows
	text []string
}

func (f *faults) report(_ time.Duration, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err != nil {
		f.text = append(f.text, err.Error())
	}
}

func (f *faults) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.text)
}

// served is the serial of the certificate that a client is shown.
func served(t *testing.T, r *running) int64 {
	t.Helper()
	conn := tls.Client(r.mustDial(t), &tls.Config{InsecureSkipVerify: true}) // whose it is, is the question
	if err := conn.Handshake(); err != nil {
		t.Fatalf("handshake: %v", err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
}

func wantServed(t *testing.T, r *running, want int64) {
	t.Helper()
	if got := served(t, r); got != want {
		t.Errorf("served the certificate %d, want %d", got, want)
	}
}

// Kubernetes mounts a secret as links through ..data, and renews it by making
// ..data, in one step, a link to another folder.
func mount(t *testing.T, dir, version string, p pair) {
	t.Helper()
	folder := filepath.Join(dir, version)
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	p.write(t, folder)
	link(t, version, filepath.Join(dir, "..data"))
	for _, name := range []string{"tls.crt", "tls.key"} {
		link(t, filepath.Join("..data", name), filepath.Join(dir, name))
	}
}

// link makes name a link to target, whatever it was.
func link(t *testing.T, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name+".new"); err != nil {
		t.Skipf("no symbolic links here: %v", err)
	}
	if err := os.Rename(name+".new", name); err != nil {
		t.Fatal(err)
	}
}

func TestRenewedCertificateIsServedWithinAMinute(t *testing.T) {
	overwrite := func(t *testing.T, dir string, p pair) { p.write(t, dir) }
	for _, way := range []struct {
		name        string
		first, next func(t *testing.T, dir string, p pair)
	}{
		{"files overwritten", overwrite, overwrite},
		{"files renamed over", overwrite, func(t *testing.T, dir string, p pair) {
			elsewhere := t.TempDir()
			p.write(t, elsewhere)
			for _, name := range []string{"tls.crt", "tls.key"} {
				if err := os.Rename(filepath.Join(elsewhere, name), filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"a secret mounted by Kubernetes",
			func(t *testing.T, dir string, p pair) { mount(t, dir, "..2026_01_01", p) },
			func(t *testing.T, dir string, p pair) { mount(t, dir, "..2026_03_01", p) }},
	} {
		t.Run(way.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				way.first(t, dir, valid(t, 1))
				var f faults
				r := startTLS(t, hello, Certificate(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"), f.report))
				wantServed(t, r, 1)
				time.Sleep(time.Hour + 7*time.Second)
				wantServed(t, r, 1)
				way.next(t, dir, valid(t, 2))
				time.Sleep(time.Minute)
				wantServed(t, r, 2)
				if all := f.all(); len(all) > 0 {
					t.Errorf("reported %q, want no fault", all)
				}
			})
		})
	}
}

// broken are the ways in which a pair cannot be served. Each is made of a whole
// new pair, and ends in a fault with this text.
var broken = []struct {
	name  string
	spoil func(t *testing.T, dir string, p pair)
	want  string
}{
	{"certificate written, key not yet", func(t *testing.T, dir string, p pair) { write(t, filepath.Join(dir, "tls.crt"), p.leaf) }, "private key does not match"},
	{"key written, certificate not yet", func(t *testing.T, dir string, p pair) { write(t, filepath.Join(dir, "tls.key"), p.key) }, "private key does not match"},
	{"certificate half written", func(t *testing.T, dir string, p pair) {
		p.leaf, p.issuer = p.leaf[:len(p.leaf)/2], ""
		p.write(t, dir)
	}, "tls.crt"},
	{"chain half written", func(t *testing.T, dir string, p pair) {
		p.issuer = p.issuer[:len(p.issuer)/2]
		p.write(t, dir)
	}, "tls.crt: want whole certificates, got 1 of 2"},
	{"key half written", func(t *testing.T, dir string, p pair) {
		p.key = p.key[:len(p.key)/2]
		p.write(t, dir)
	}, "tls.key"},
	{"empty files", func(t *testing.T, dir string, _ pair) { pair{}.write(t, dir) }, "tls.crt"},
	{"the wrong way round", func(t *testing.T, dir string, p pair) { pair{leaf: p.key, key: p.leaf}.write(t, dir) }, "tls.crt"},
	{"no certificate file", func(t *testing.T, dir string, _ pair) { os.Remove(filepath.Join(dir, "tls.crt")) }, "tls.crt"},
	{"no key file", func(t *testing.T, dir string, _ pair) { os.Remove(filepath.Join(dir, "tls.key")) }, "tls.key"},
}

func TestBrokenPairKeepsTheOldAndSaysSo(t *testing.T) {
	for _, test := range broken {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				certFile, keyFile := valid(t, 1).write(t, dir)
				var f faults
				r := startTLS(t, hello, Certificate(certFile, keyFile, f.report))
				wantServed(t, r, 1)
				test.spoil(t, dir, valid(t, 2))
				time.Sleep(time.Minute)
				all := f.all()
				if len(all) == 0 {
					t.Fatal("no fault reported within a minute")
				}
				wantContains(t, all[0], test.want)
				time.Sleep(time.Hour)
				wantServed(t, r, 1)
				valid(t, 3).write(t, dir)
				time.Sleep(time.Minute)
				wantServed(t, r, 3)
			})
		})
	}
}

func TestLoadCertificate(t *testing.T) {
	p := valid(t, 7)
	certFile, keyFile := p.write(t, t.TempDir())
	got, err := LoadCertificate(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	if serial := got.Leaf.SerialNumber.Int64(); serial != 7 || len(got.Certificate) != 2 {
		t.Errorf("got the serial %d and %d certificates, want 7 and 2", serial, len(got.Certificate))
	}
}

func TestLoadCertificateErrorsShowNothingOfTheFiles(t *testing.T) {
	for _, test := range broken {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			old := valid(t, 1)
			certFile, keyFile := old.write(t, dir)
			p := valid(t, 2)
			test.spoil(t, dir, p)
			got, err := LoadCertificate(certFile, keyFile)
			if err == nil {
				t.Fatalf("got %v, want an error", got)
			}
			wantContains(t, err.Error(), test.want)
			for _, secret := range []string{old.key, p.key} {
				for line := range strings.Lines(secret) {
					if line = strings.TrimSpace(line); line[0] != '-' && strings.Contains(err.Error(), line[:16]) {
						t.Errorf("the error %q shows the key", err)
					}
				}
			}
		})
	}
}

func TestAPastedKeyIsNotShown(t *testing.T) {
	p := valid(t, 1)
	certFile, _ := p.write(t, t.TempDir())
	const want = "want the names of two files, got what belongs into one (not shown: it may be the key)"
	if _, err := LoadCertificate(certFile, p.key); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		certFile, keyFile := valid(t, 1).write(t, t.TempDir()) // for a year
		certificate := Certificate(certFile, keyFile, nil)
		if got := Ends(certificate); !got.IsZero() {
			t.Errorf("before the first look: %v, want none", got)
		}
		startTLS(t, hello, certificate)
		synctest.Wait()
		if got, want := Ends(certificate), time.Now().AddDate(1, 0, 0); !got.Equal(want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestEnding(t *testing.T) {
	const day = 24 * time.Hour
	synctest.Test(t, func(t *testing.T) { // which begins at midnight of 2000-01-01
		now := time.Now()
		for _, test := range []struct {
			name         string
			begins, ends time.Duration // from now
			want         string
		}{
			{"new", -time.Hour, 90 * day, ""},
			{"not begun", time.Hour, 90 * day, "the TLS certificate is valid only from 2000-01-01T01:00:00Z: check this machine's clock"},
			{"over for a second", -90 * day, -time.Second, "the TLS certificate has expired at 1999-12-31T23:59:59Z: no client accepts it; renew it"},
			{"over now", -90 * day, 0, "the TLS certificate has expired at 2000-01-01T00:00:00Z: no client accepts it; renew it"},
			{"90 days, a tenth left", -81 * day, 9 * day, ""},
			{"90 days, less than that", -81*day - time.Hour, 9*day - time.Hour, "the TLS certificate expires soon, at 2000-01-09T23:00:00Z: renew it"},
			{"10 years, a month left", -3620 * day, 30 * day, ""},
			{"10 years, 13 days left", -3637 * day, 13 * day, "the TLS certificate expires soon, at 2000-01-14T00:00:00Z: renew it"},
			{"6 days, one left", -5 * day, day, ""},
		} {
			certFile, keyFile := newPair(t, 1, now.Add(test.begins), now.Add(test.ends)).write(t, t.TempDir())
			loaded, err := LoadCertificate(certFile, keyFile)
			if err != nil {
				t.Fatal(err)
			}
			if got := Ending(loaded); got != test.want {
				t.Errorf("%s: Ending = %q, want %q", test.name, got, test.want)
			}
		}
	})
}
