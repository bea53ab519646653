package tests

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"itwin-token-server/internal/standin/standintest"
)

const audience = "https://tokens.example.com"

// cluster is replicas of the server behind nginx, which share a tenant.
type cluster struct {
	tenant   *standintest.Tenant
	replicas []*replica
	url      string // of getToken, at nginx
	client   *http.Client
}

// replica is a server with an IMS of its own, which counts its grants.
type replica struct {
	process
	ims     *standintest.IMS
	metrics string // an address

	mu      sync.Mutex // guards what follows
	granted time.Time  // the latest grant since the start
	renewed bool
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	dir, program, addresses := t.TempDir(), build(t), freeAddresses(t, 2*replicas+1)
	c := &cluster{}
	var ca []byte
	for i := range replicas {
		s := standintest.Start(t)
		ca = append(ca, s.CACert()...)
		if i == 0 {
			c.tenant = s.Tenant
		}
		r := &replica{ims: s.IMS, metrics: addresses[replicas+i]}
		host, port, _ := net.SplitHostPort(addresses[i])
		r.process = process{program: program, args: []string{"serve"}, dir: dir}
		r.address, r.output = addresses[i], t.Output()
		r.env = map[string]string{
			"SSL_CERT_FILE":                   write(t, t.TempDir(), "ca.pem", ca),
			"ITM_TOKEN_SERVER_HOST":           host,
			"ITM_TOKEN_SERVER_PORT":           port,
			"ITM_TOKEN_SERVER_METRICS_ADDR":   r.metrics,
			"ITM_TOKEN_SERVER_LOG_LEVEL":      "warn", // without a line for each token
			"ITM_TOKEN_SERVER_AUTH0_DOMAIN":   c.tenant.Domain(),
			"ITM_TOKEN_SERVER_AUTH0_AUDIENCE": audience,
			"ITM_TOKEN_SERVER_AUTHORITY":      s.IMS.URL(),
			"ITM_TOKEN_SERVER_CLIENT_ID":      s.IMS.ClientID(),
			"ITM_TOKEN_SERVER_CLIENT_SECRET":  s.IMS.ClientSecret(),
		}
		s.IMS.SetLife(life)
		s.IMS.Misbehave(func(w http.ResponseWriter, req *http.Request, honest http.Handler) {
			r.recordGrant(t)
			honest.ServeHTTP(w, req)
		})
		c.replicas = append(c.replicas, r)
		r.startReady(t)
	}
	c.startNginx(t, dir, addresses[2*replicas])
	return c
}

// startReady starts the server, or starts it again.
func (r *replica) startReady(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	r.granted = time.Time{}
	r.mu.Unlock()
	r.start(t)
	waitForStatus(t, http.DefaultClient, "http://"+r.address+"/readyz", http.StatusOK)
}

// recordGrant checks that the replica does not ask IMS twice in one renewal interval, except at its
// start.
func (r *replica) recordGrant(t *testing.T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.granted.IsZero() {
		r.renewed = true
		if passed := time.Since(r.granted); passed < soonest {
			t.Errorf("%s asked IMS again after %v, want %v or more", r.address, passed, soonest)
		}
	}
	r.granted = time.Now()
}

// startNginx runs nginx with deploy/nginx.conf.
func (c *cluster) startNginx(t *testing.T, dir, address string) {
	t.Helper()
	// httptest has a certificate for 127.0.0.1, and a client that trusts it.
	tls := httptest.NewTLSServer(nil)
	defer tls.Close()
	key, err := x509.MarshalPKCS8PrivateKey(tls.TLS.Certificates[0].PrivateKey)
	check(t, err)
	certificate := &pem.Block{Type: "CERTIFICATE", Bytes: tls.Certificate().Raw}
	write(t, dir, "cert.pem", pem.EncodeToMemory(certificate))
	write(t, dir, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	write(t, dir, "site.conf", c.site(t, dir, address))
	main := write(t, dir, "nginx.conf", []byte("daemon off;\npid nginx.pid;\nerror_log error.log;\n"+
		"events {}\nhttp { include site.conf; }\n"))

	nginx := exec.Command("nginx", "-p", dir, "-c", main)
	nginx.Stderr = os.Stderr
	check(t, nginx.Start())
	t.Cleanup(func() {
		nginx.Process.Signal(syscall.SIGTERM) // SIGKILL would leave its workers
		nginx.Wait()
	})
	c.url = "https://" + address + "/getToken"
	c.client = tls.Client()
	c.client.Timeout = 20 * time.Second
	waitForStatus(t, c.client, c.url, http.StatusUnauthorized)
}

// site is deploy/nginx.conf with the test's names, each of which must be in it once.
func (c *cluster) site(t *testing.T, dir, address string) []byte {
	t.Helper()
	site, err := os.ReadFile("../nginx.conf")
	check(t, err)
	servers := ""
	for _, r := range c.replicas {
		servers += "server " + r.address + " max_fails=1 fail_timeout=1s;\n"
	}
	for old, new := range map[string]string{
		"server 127.0.0.1:3001 max_fails=1 fail_timeout=1s;": servers,
		"rate=20r/s":  "rate=1000r/s", // the test has one address
		"listen 443 ": "listen " + address + " ",
		"/etc/letsencrypt/live/tokens.example.com/fullchain.pem": filepath.Join(dir, "cert.pem"),
		"/etc/letsencrypt/live/tokens.example.com/privkey.pem":   filepath.Join(dir, "key.pem"),
		"/var/log/nginx/itwin-token-server.log":                  filepath.Join(dir, "access.log"),
	} {
		want(t, fmt.Sprintf("%q in deploy/nginx.conf", old), bytes.Count(site, []byte(old)), 1)
		site = bytes.ReplaceAll(site, []byte(old), []byte(new))
	}
	return site
}

// valid reports whether an IMS issued the token and it has not expired.
func (c *cluster) valid(token string) bool {
	return slices.ContainsFunc(c.replicas, func(r *replica) bool { return r.ims.Valid(token) })
}

// oldestGrant is the time of the latest grant of the replica that renews next.
func (c *cluster) oldestGrant() time.Time {
	oldest := time.Now()
	for _, r := range c.replicas {
		r.mu.Lock()
		if r.granted.Before(oldest) {
			oldest = r.granted
		}
		r.mu.Unlock()
	}
	return oldest
}

// checkOutage checks that each replica renewed its token, and that one of them tried to while IMS
// was down: otherwise the test proves nothing.
func (c *cluster) checkOutage(t *testing.T) {
	t.Helper()
	all := ""
	for _, r := range c.replicas {
		_, metrics := get(http.DefaultClient, "http://"+r.metrics+"/metrics")
		all += metrics
		r.mu.Lock()
		want(t, "renewals by "+r.address, r.renewed, true)
		r.mu.Unlock()
	}
	failed := regexp.MustCompile(`grants_total\{result="(?:[^o]|o[^k])[^"]*"\} [1-9]`)
	if !failed.MatchString(all) {
		t.Error("no grant failed while IMS was down")
	}
}
