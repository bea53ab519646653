package tests

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

const (
	replicas = 3
	rate     = 200 // token requests a second
	// Short enough to see each replica renew its token, long enough for a token to outlast the outage:
	// a renewal is due after 30 s to 45 s, and the latest leaves another 25 s.
	life   = 75 * time.Second
	outage = 20 * time.Second
	// A renewal comes no sooner: the server renews at half of the life, with jitter, and never lets it
	// fall below 40%.
	soonest = life * 4 / 10
)

// TestReplicas asks three replicas behind nginx for tokens while one is killed, all are restarted
// in turn, IMS is down and Auth0 rotates its signing key. Every request must get a token that is
// valid at that moment, and no replica may ask IMS more often than alone. It takes a minute and a
// half.
func TestReplicas(t *testing.T) {
	c := startCluster(t)
	load := startLoad(c)
	time.Sleep(2 * time.Second)

	load.phase.Store("kill -9 of one replica")
	c.replicas[0].kill()
	time.Sleep(3 * time.Second)
	c.replicas[0].startReady(t)

	load.phase.Store("rolling restart")
	for _, r := range c.replicas {
		r.terminate(t)
		r.startReady(t)
	}

	load.phase.Store("until the first renewal is due")
	time.Sleep(time.Until(c.oldestGrant().Add(soonest)))
	load.phase.Store("IMS down")
	for _, r := range c.replicas {
		r.ims.Stop()
	}
	time.Sleep(outage)
	for _, r := range c.replicas {
		check(t, r.ims.Restart())
	}
	restarted := time.Now()

	load.phase.Store("signing key rotated")
	// Twice: Auth0 publishes the next key beforehand, so after one rotation the servers know the key.
	c.tenant.Rotate()
	c.tenant.Rotate()
	load.signIn()
	waitFor(t, life/2, "renewal by each replica", func() bool {
		return c.oldestGrant().After(restarted)
	})

	load.end(t)
	c.checkOutage(t)
}

// load requests tokens at a constant rate, as the user who signed in last.
type load struct {
	cluster *cluster
	stop    func()
	done    chan struct{}
	user    atomic.Value // string: the user token
	phase   atomic.Value // string
	slowest time.Duration
	failed  []string
}

func startLoad(c *cluster) *load {
	l := &load{cluster: c, done: make(chan struct{})}
	l.phase.Store("no fault")
	l.signIn()
	attacker := vegeta.NewAttacker(vegeta.Client(c.client))
	l.stop = func() { attacker.Stop() }
	results := attacker.Attack(func(target *vegeta.Target) error {
		target.Method, target.URL = "GET", c.url
		target.Header = http.Header{"Authorization": {"Bearer " + l.user.Load().(string)}}
		return nil
	}, vegeta.Rate{Freq: rate, Per: time.Second}, 0, "")
	go func() {
		defer close(l.done)
		for result := range results {
			l.check(result)
		}
	}()
	return l
}

// signIn gives the user a new token, signed with the tenant's current key.
func (l *load) signIn() { l.user.Store(l.cluster.tenant.AccessToken(audience)) }

// check records a failure unless the answer has a token that is valid now.
func (l *load) check(result *vegeta.Result) {
	l.slowest = max(l.slowest, result.Latency)
	token, ok := strings.CutPrefix(string(result.Body), "Bearer ")
	if result.Code != http.StatusOK || !ok || !l.cluster.valid(token) {
		l.failed = append(l.failed, fmt.Sprintf("%s, after %v: %d %s %q",
			l.phase.Load(), result.Latency, result.Code, result.Error, result.Body))
	}
}

func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop()
	<-l.done
	t.Logf("the slowest request took %v", l.slowest)
	if n := len(l.failed); n > 0 {
		t.Errorf("%d requests failed, want 0:\n%s", n, strings.Join(l.failed[:min(n, 20)], "\n"))
	}
}
