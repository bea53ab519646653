//go:build replicas && linux

package replicas

import (
	"testing"
	"time"
)

const (
	replicas = 3
	rate     = 200 // token requests a second
	// Short enough to see every replica renew its token, long enough for a token to outlive the outage:
	// a renewal is due after 30 s to 45 s, so the last of them has another 25 s to come.
	life   = 75 * time.Second
	outage = 20 * time.Second
	// No renewal comes sooner: the server promises tokens with at least 40% of their life left, and
	// renews at half, with jitter.
	soonest = life * 4 / 10
)

func TestReplicasAreOneServer(t *testing.T) {
	c := startCluster(t)
	load := startLoad(t, c)
	time.Sleep(2 * time.Second)

	load.phase("kill -9 of one")
	c.replicas[0].kill(t)
	time.Sleep(3 * time.Second)
	c.replicas[0].start(t)
	c.replicas[0].waitReady(t)

	load.phase("rolling restart")
	for _, r := range c.replicas {
		r.terminate(t)
		r.start(t)
		r.waitReady(t)
	}

	load.phase("waiting for the first renewal to be due")
	time.Sleep(time.Until(c.oldestGrant().Add(soonest)))
	load.phase("IMS down")
	c.upstream.IMS.Stop()
	time.Sleep(outage)
	if err := c.upstream.IMS.Restart(); err != nil {
		t.Fatal(err)
	}
	back := time.Now()

	load.phase("signing key rotated")
	// Twice at once: the next key is always published beforehand, so after one rotation the servers
	// would know the new key already.
	c.upstream.Tenant.Rotate()
	c.upstream.Tenant.Rotate()
	load.signIn()
	c.waitForGrantsSince(t, back)

	load.stop(t)
	c.checkGrants(t)
	if n := c.failedGrants(t); n == 0 {
		t.Error("no renewal failed while IMS was down: the outage was not felt, and proves nothing")
	}
}
