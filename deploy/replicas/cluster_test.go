//go:build replicas && linux

package replicas

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"itwin-token-server/internal/standin"
)

const audience = "https://tokens.example.com"

// cluster is three servers behind nginx, with stand-ins for Auth0 and IMS.
type cluster struct {
	upstream *standin.Standin
	replicas []*replica
	url      string       // of getToken, at nginx
	client   *http.Client // trusts nginx's certificate

	mu     sync.Mutex             // guards grants
	grants map[string][]time.Time // by scope, of which each replica has its own
}

func startCluster(t *testing.T) *cluster {
	t.Helper()
	dir := t.TempDir()
	c := &cluster{grants: map[string][]time.Time{}}
	c.startUpstream(t)
	ca := write(t, dir, "ca.pem", c.upstream.CACert())
	secret := write(t, dir, "client-secret", []byte(c.upstream.IMS.ClientSecret()))
	program := filepath.Join(dir, "itwin-token-server")
	if out, err := exec.Command("go", "build", "-C", "../..", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	addresses := freeAddresses(t, 2*replicas+1)
	for i := range replicas {
		r := &replica{program: program, dir: dir, address: addresses[2*i], metrics: addresses[2*i+1], scope: scope(i)}
		host, port, _ := net.SplitHostPort(r.address)
		r.env = []string{
			"SSL_CERT_FILE=" + ca,
			"ITM_TOKEN_SERVER_HOST=" + host,
			"ITM_TOKEN_SERVER_PORT=" + port,
			"ITM_TOKEN_SERVER_METRICS_ADDR=" + r.metrics,
			"ITM_TOKEN_SERVER_AUTH0_DOMAIN=" + c.upstream.Tenant.Domain(),
			"ITM_TOKEN_SERVER_AUTH0_AUDIENCE=" + audience,
			"ITM_TOKEN_SERVER_AUTHORITY=" + c.upstream.IMS.URL(),
			"ITM_TOKEN_SERVER_CLIENT_ID=" + c.upstream.IMS.ClientID(),
			"ITM_TOKEN_SERVER_CLIENT_SECRET_FILE=" + secret,
			"ITM_TOKEN_SERVER_SCOPE=" + r.scope,
		}
		r.start(t)
		t.Cleanup(func() { r.stop(t) })
		c.replicas = append(c.replicas, r)
	}
	for _, r := range c.replicas {
		r.waitReady(t)
	}
	c.startNginx(t, dir, addresses[2*replicas])
	return c
}

func scope(replica int) string { return fmt.Sprintf("replica-%d", replica+1) }

// startUpstream starts Auth0 and IMS. Each replica asks for a scope of its own, which tells whose grant
// it is.
func (c *cluster) startUpstream(t *testing.T) {
	t.Helper()
	upstream, err := standin.New()
	if err != nil {
		t.Fatal(err)
	}
	if err := upstream.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(upstream.Close)
	var scopes []string
	for i := range replicas {
		scopes = append(scopes, scope(i))
	}
	upstream.IMS.SetScope(strings.Join(scopes, " "))
	upstream.IMS.SetLife(life)
	upstream.IMS.Misbehave(func(honest http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body)) // to be read again
			form, _ := url.ParseQuery(string(body))
			c.mu.Lock()
			c.grants[form.Get("scope")] = append(c.grants[form.Get("scope")], time.Now())
			c.mu.Unlock()
			honest.ServeHTTP(w, r)
		})
	})
	c.upstream = upstream
}

// startNginx runs Debian's nginx with deploy/nginx.conf.
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
		nginx.Process.Signal(syscall.SIGTERM) // not KILL: its workers would stay
		nginx.Wait()
		retried(t, filepath.Join(dir, "access.log"))
	})
	c.url = "https://" + address + "/getToken"
	c.client = tls.Client()
	c.client.Timeout = 20 * time.Second
	waitFor(t, 5*time.Second, "nginx", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// site is deploy/nginx.conf, changed only where it says what to change: each of these is in it once.
func (c *cluster) site(t *testing.T, dir, address string) []byte {
	t.Helper()
	site, err := os.ReadFile("../nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	var servers []string
	for _, r := range c.replicas {
		servers = append(servers, "server "+r.address+" max_fails=1 fail_timeout=1s;")
	}
	text := string(site)
	for _, change := range [][2]string{
		{"server 127.0.0.1:3001 max_fails=1 fail_timeout=1s;", strings.Join(servers, "\n    ")},
		{"listen 443 ", "listen " + address + " "},
		{"/etc/letsencrypt/live/tokens.example.com/fullchain.pem", filepath.Join(dir, "cert.pem")},
		{"/etc/letsencrypt/live/tokens.example.com/privkey.pem", filepath.Join(dir, "key.pem")},
		{"/var/log/nginx/itwin-token-server.log", filepath.Join(dir, "access.log")},
	} {
		if strings.Count(text, change[0]) != 1 {
			t.Fatalf("deploy/nginx.conf has %q not just once", change[0])
		}
		text = strings.Replace(text, change[0], change[1], 1)
	}
	return []byte(text)
}

// retried tells what nginx did for its callers: how many requests it took to a second replica.
func retried(t *testing.T, log string) {
	text, err := os.ReadFile(log)
	if err != nil {
		t.Error(err)
	}
	// The last field is "(ADDRESS STATUS)", or "(ADDRESS, ADDRESS STATUS, STATUS)" with a retry.
	twice := 0
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, ", 127.0.0.1:") {
			twice++
		}
	}
	t.Logf("nginx took %d requests to a second replica", twice)
}

// oldestGrant is when the replica that will renew first got its token.
func (c *cluster) oldestGrant() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	oldest := time.Now()
	for _, times := range c.grants {
		if last := times[len(times)-1]; last.Before(oldest) {
			oldest = last
		}
	}
	return oldest
}

func (c *cluster) waitForGrantsSince(t *testing.T, since time.Time) {
	t.Helper()
	waitFor(t, life/2, "a renewal by each replica", func() bool { return c.oldestGrant().After(since) })
}

// checkGrants checks that no replica asked IMS twice in one renewal period, but at its start.
func (c *cluster) checkGrants(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.replicas {
		times := c.grants[r.scope]
		t.Logf("%s: %d starts, %d grants", r.scope, len(r.starts), len(times))
		if len(times) <= len(r.starts) {
			t.Errorf("%s never renewed its token", r.scope)
		}
		for i := 1; i < len(times); i++ {
			before, now := times[i-1], times[i]
			restarted := slices.ContainsFunc(r.starts, func(s time.Time) bool { return s.After(before) && s.Before(now) })
			if !restarted && now.Sub(before) < soonest {
				t.Errorf("%s asked IMS again after %v, want %v or more", r.scope, now.Sub(before), soonest)
			}
		}
	}
}

func write(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// freeAddresses may be taken by others between here and their use; the ports for that are many.
func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}

func waitFor(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within %v", what, limit)
		}
	}
}
