//go:build replicas && linux

package replicas

import (
	"bufio"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// replica is one server process after another, at one address.
type replica struct {
	program, dir     string
	address, metrics string
	scope            string // that it asks IMS for, and its name
	env              []string
	cmd              *exec.Cmd
	starts           []time.Time
}

func (r *replica) log() string { return filepath.Join(r.dir, r.scope+".log") }

func (r *replica) start(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(r.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	r.cmd = exec.Command(r.program, "serve")
	r.cmd.Dir, r.cmd.Env, r.cmd.Stderr = r.dir, r.env, log
	r.starts = append(r.starts, time.Now())
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// stop ends the process however the test ended, and shows the log of one that failed.
func (r *replica) stop(t *testing.T) {
	r.cmd.Process.Kill()
	r.cmd.Wait()
	if t.Failed() {
		log, _ := exec.Command("grep", "-v", "msg=getToken status=200", r.log()).Output()
		t.Logf("%s said:\n%s", r.scope, log)
	}
}

// kill is what a lost node looks like: no goodbye.
func (r *replica) kill(t *testing.T) {
	t.Helper()
	if err := r.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	r.cmd.Wait() // says "signal: killed"
}

// terminate is what a deployment does. The server promises to be gone within 10 s, with status 0.
func (r *replica) terminate(t *testing.T) {
	t.Helper()
	began := time.Now()
	if err := r.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := r.cmd.Wait(); err != nil || time.Since(began) > 10*time.Second {
		t.Errorf("%s ended after SIGTERM with %v in %v, want status 0 in 10 s", r.scope, err, time.Since(began))
	}
}

func (r *replica) waitReady(t *testing.T) {
	t.Helper()
	waitFor(t, 10*time.Second, r.scope+" ready", func() bool {
		resp, err := http.Get("http://" + r.address + "/readyz")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
}

// failedGrants is how often the replicas, since their last starts, tried in vain to renew.
func (c *cluster) failedGrants(t *testing.T) int {
	t.Helper()
	failed := 0
	for _, r := range c.replicas {
		resp, err := http.Get("http://" + r.metrics + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			series, value, _ := strings.Cut(lines.Text(), " ")
			if strings.HasPrefix(series, "itwin_token_server_grants_total{") && !strings.Contains(series, `"ok"`) {
				n, err := strconv.ParseFloat(value, 64)
				if err != nil {
					t.Fatalf("metrics: %q", lines.Text())
				}
				failed += int(n)
			}
		}
	}
	return failed
}
