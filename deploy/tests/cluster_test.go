package tests

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"itwin-token-server/internal/standin"
)

const audience = "https://tokens.example.com"

// cluster is three replicas of the server behind nginx. Each has an IMS of its own, which counts its grants;
// they share a tenant.
type cluster struct {
	tenant   *standin.Tenant
	ims      []*standin.IMS
	replicas []*process
	metrics  []string // an address for each replica
	url      string   // of getToken, at nginx
	client   *http.Client

	mu       sync.Mutex        // guards what follows, by replica
	granted  map[int]time.Time // the latest grant since the replica's start
	renewals map[int]int
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	dir := t.TempDir()
	c := &cluster{granted: map[int]time.Time{}, renewals: map[int]int{}}
	ca := write(t, dir, "ca.pem", c.startUpstream(t))
	program := build(t)
	addresses := freeAddresses(t, 2*replicas+1)
	c.metrics = addresses[replicas : 2*replicas]
	for i := range replicas {
		p := &process{program: program, args: []string{"serve"}, dir: dir, address: addresses[i], output: t.Output()}
		host, port, _ := net.SplitHostPort(p.address)
		p.env = []string{
			"SSL_CERT_FILE=" + ca,
			"ITM_TOKEN_SERVER_HOST=" + host,
			"ITM_TOKEN_SERVER_PORT=" + port,
			"ITM_TOKEN_SERVER_METRICS_ADDR=" + c.metrics[i],
			"ITM_TOKEN_SERVER_LOG_LEVEL=warn", // without a line for each token
			"ITM_TOKEN_SERVER_AUTH0_DOMAIN=" + c.tenant.Domain(),
			"ITM_TOKEN_SERVER_AUTH0_AUDIENCE=" + audience,
			"ITM_TOKEN_SERVER_AUTHORITY=" + c.ims[i].URL(),
			"ITM_TOKEN_SERVER_CLIENT_ID=" + c.ims[i].ClientID(),
			"ITM_TOKEN_SERVER_CLIENT_SECRET=" + c.ims[i].ClientSecret(),
		}
		c.replicas = append(c.replicas, p)
		c.start(t, i)
		t.Cleanup(p.kill)
	}
	for _, p := range c.replicas {
		p.waitFor(t, "/readyz", http.StatusOK)
	}
	c.startNginx(t, dir, addresses[2*replicas])
	return c
}

// startUpstream starts the tenant and an IMS for each replica, and returns their CA certificates.
func (c *cluster) startUpstream(t *testing.T) []byte {
	t.Helper()
	var ca []byte
	for i := range replicas {
		s, err := standin.New()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(s.Close)
		s.IMS.SetLife(life)
		s.IMS.Misbehave(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				c.recordGrant(t, i)
				next.ServeHTTP(w, r)
			})
		})
		c.tenant, c.ims, ca = s.Tenant, append(c.ims, s.IMS), append(ca, s.CACert()...)
	}
	return ca
}

// recordGrant checks that no replica asks IMS twice in one renewal interval, except at its start.
func (c *cluster) recordGrant(t *testing.T, replica int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if previous, ok := c.granted[replica]; ok {
		c.renewals[replica]++
		if now.Sub(previous) < soonest {
			t.Errorf("replica %d asked IMS again after %v, want %v or more", replica, now.Sub(previous), soonest)
		}
	}
	c.granted[replica] = now
}

func (c *cluster) start(t *testing.T, i int) {
	t.Helper()
	c.mu.Lock()
	delete(c.granted, i)
	c.mu.Unlock()
	c.replicas[i].start(t)
}

// startNginx runs nginx with deploy/nginx.conf.
func (c *cluster) startNginx(t *testing.T, dir, address string) {
	t.Helper()
	// httptest has a certificate for 127.0.0.1, and a client that trusts it.
	tls := httptest.NewTLSServer(nil)
	defer tls.Close()
	key, err := x509.MarshalPKCS8PrivateKey(tls.TLS.Certificates[0].PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	write(t, dir, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tls.Certificate().Raw}))
	write(t, dir, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	write(t, dir, "site.conf", c.site(t, dir, address))
	main := write(t, dir, "nginx.conf", fmt.Appendf(nil, "daemon off;\npid %[1]s/nginx.pid;\nerror_log %[1]s/error.log;\n"+
		"events {}\nhttp {\ninclude %[1]s/site.conf;\n}\n", dir))

	nginx := exec.Command("nginx", "-p", dir, "-c", main)
	nginx.Stderr = os.Stderr
	if err := nginx.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		nginx.Process.Signal(syscall.SIGTERM) // SIGKILL would leave its workers
		nginx.Wait()
	})
	c.url = "https://" + address + "/getToken"
	c.client = tls.Client()
	c.client.Timeout = 20 * time.Second
	waitFor(t, 5*time.Second, "nginx", func() bool {
		status, _ := get(c.client, c.url)
		return status == http.StatusUnauthorized
	})
}

// site is deploy/nginx.conf with the test's names, each of which must be in it once.
func (c *cluster) site(t *testing.T, dir, address string) []byte {
	t.Helper()
	site, err := os.ReadFile("../nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	servers := ""
	for _, p := range c.replicas {
		servers += "server " + p.address + " max_fails=1 fail_timeout=1s;\n"
	}
	changes := []string{
		"server 127.0.0.1:3001 max_fails=1 fail_timeout=1s;", servers,
		"listen 443 ", "listen " + address + " ",
		"/etc/letsencrypt/live/tokens.example.com/fullchain.pem", filepath.Join(dir, "cert.pem"),
		"/etc/letsencrypt/live/tokens.example.com/privkey.pem", filepath.Join(dir, "key.pem"),
		"/var/log/nginx/itwin-token-server.log", filepath.Join(dir, "access.log"),
	}
	for i := 0; i < len(changes); i += 2 {
		if bytes.Count(site, []byte(changes[i])) != 1 {
			t.Fatalf("%q is not exactly once in deploy/nginx.conf", changes[i])
		}
	}
	return []byte(strings.NewReplacer(changes...).Replace(string(site)))
}

// valid reports whether an IMS issued the token and it has not expired.
func (c *cluster) valid(token string) bool {
	return slices.ContainsFunc(c.ims, func(ims *standin.IMS) bool { return ims.Valid(token) })
}

// oldestGrant is the time of the latest grant of the replica that renews next.
func (c *cluster) oldestGrant() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.MinFunc(slices.Collect(maps.Values(c.granted)), time.Time.Compare)
}

// checkOutage checks that each replica renewed its token, and that one of them tried to while IMS was down:
// otherwise the test proves nothing.
func (c *cluster) checkOutage(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	want(t, "replicas that renewed their token", len(c.renewals), replicas)
	c.mu.Unlock()
	failed := regexp.MustCompile(`itwin_token_server_grants_total\{result="(?:[^o]|o[^k])[^"]*"\} [1-9]`)
	for _, address := range c.metrics {
		if _, metrics := get(http.DefaultClient, "http://"+address+"/metrics"); failed.MatchString(metrics) {
			return
		}
	}
	t.Error("no grant failed while IMS was down")
}
