//go:build replicas && linux

package replicas

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// load asks nginx for a token, rate times a second, each time as the user who signed in last.
type load struct {
	cluster *cluster
	user    atomic.Value // string: the user's token
	asking  sync.WaitGroup
	quit    chan struct{}
	done    chan struct{}

	mu       sync.Mutex // guards what follows
	name     string     // of the phase
	since    time.Time
	answered int
	slowest  time.Duration
	failures []string
	report   []string
}

func startLoad(t *testing.T, c *cluster) *load {
	t.Helper()
	l := &load{cluster: c, quit: make(chan struct{}), done: make(chan struct{}), name: "quiet", since: time.Now()}
	l.signIn()
	go func() {
		defer close(l.done)
		tick := time.NewTicker(time.Second / rate)
		defer tick.Stop()
		for {
			select {
			case <-l.quit:
				return
			case <-tick.C:
				l.asking.Go(l.ask)
			}
		}
	}()
	return l
}

// signIn gives the user a fresh token, signed with the tenant's current key.
func (l *load) signIn() { l.user.Store(l.cluster.upstream.Tenant.AccessToken(audience)) }

func (l *load) ask() {
	began := time.Now()
	err := l.getToken()
	took := time.Since(began)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.answered++
	l.slowest = max(l.slowest, took)
	if err != nil {
		l.failures = append(l.failures, fmt.Sprintf("%s, asked %.1f s into it, after %v: %v",
			l.name, began.Sub(l.since).Seconds(), took.Round(time.Millisecond), err))
	}
}

// getToken is nil only for a 200 with a token that IMS would accept now.
func (l *load) getToken() error {
	req, err := http.NewRequest("GET", l.cluster.url, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+l.user.Load().(string))
	resp, err := l.cluster.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, body)
	}
	token, ok := strings.CutPrefix(string(body), "Bearer ")
	if !ok || !l.cluster.upstream.IMS.Valid(token) {
		return fmt.Errorf("200, but no token that lives: %q", body)
	}
	return nil
}

// phase ends one part of the story and begins the next.
func (l *load) phase(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.report = append(l.report, fmt.Sprintf("%-40s %4.1f s %6d answers, slowest %v",
		l.name, time.Since(l.since).Seconds(), l.answered, l.slowest.Round(time.Millisecond)))
	l.name, l.since, l.answered, l.slowest = name, time.Now(), 0, 0
}

func (l *load) stop(t *testing.T) {
	t.Helper()
	close(l.quit)
	<-l.done
	l.asking.Wait()
	l.phase("")
	t.Logf("\n%s", strings.Join(l.report, "\n"))
	for _, failure := range l.failures[:min(len(l.failures), 20)] {
		t.Error(failure)
	}
	if n := len(l.failures); n > 0 {
		t.Errorf("%d requests failed, want 0", n)
	}
}
