package fresh

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	daily      = Term{Renew: 12 * time.Hour, Until: 24 * time.Hour} // not renewed during a test
	errDown    = errors.New("down")
	errTimeout = context.DeadlineExceeded
)

// A pause is an error that asks for one.
type pause time.Duration

func (p pause) Error() string             { return "paused" }
func (p pause) RetryAfter() time.Duration { return time.Duration(p) }

// A remote answers each fetch with its number, from 1.
type remote struct {
	term Term // daily if it is zero

	mu    sync.Mutex // guards what follows
	takes time.Duration
	err   error
	begun []time.Time
}

// set sets the duration and the error of the fetches that begin from now on.
func (r *remote) set(takes time.Duration, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.takes, r.err = takes, err
}

func (r *remote) fetch(ctx context.Context) (int, Term, error) {
	r.mu.Lock()
	r.begun = append(r.begun, time.Now())
	n, takes, err := len(r.begun), r.takes, r.err
	r.mu.Unlock()
	if takes > 0 {
		select {
		case <-ctx.Done():
			return 0, Term{}, ctx.Err()
		case <-time.After(takes):
		}
	}
	return n, cmp.Or(r.term, daily), err
}

// fetches returns when each fetch began.
func (r *remote) fetches() []time.Time {
	synctest.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.begun)
}

// gaps returns the time from each fetch's beginning to the next one's.
func (r *remote) gaps() (gaps []time.Duration) {
	begun := r.fetches()
	for i, next := range begun[1:] {
		gaps = append(gaps, next.Sub(begun[i]))
	}
	return gaps
}

// testValue runs a test in a bubble, with a value that is fetched from r.
func testValue(t *testing.T, r *remote, test func(*testing.T, *Value[int])) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		v := New(Config[int]{Fetch: r.fetch})
		go v.Run(t.Context())
		test(t, v)
	})
}

// A result is what a reader got.
type result struct {
	value int
	err   error
	took  time.Duration
	retry time.Duration // until the reader may ask again
}

// get and newer read the value with a deadline.
func get(v *Value[int]) result   { return read(v.Get, 15*time.Second) }
func newer(v *Value[int]) result { return read(v.Newer, 3*time.Second) }

func read(method func(context.Context) (int, error), timeout time.Duration) (r result) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	r.value, r.err = method(ctx)
	r.took = time.Since(begun)
	if failed, ok := errors.AsType[*Error](r.err); ok {
		r.retry = max(0, time.Until(failed.Retry))
	}
	return r
}

func wantResult(t *testing.T, got, want result) {
	t.Helper()
	if got.value != want.value || !errors.Is(got.err, want.err) || got.took != want.took ||
		got.retry != want.retry {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func wantFetches(t *testing.T, r *remote, want int) {
	t.Helper()
	if got := len(r.fetches()); got != want {
		t.Errorf("%d fetches, want %d", got, want)
	}
}

func TestColdStartCostsOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{takes: 2 * time.Second}
		v := New(Config[int]{Fetch: r.fetch})
		var readers sync.WaitGroup
		impatient := result{err: errTimeout, took: 2 * time.Second}
		readers.Go(func() { wantResult(t, read(v.Get, impatient.took), impatient) })
		for range 500 {
			readers.Go(func() { wantResult(t, get(v), result{value: 1, took: 3 * time.Second}) })
		}
		time.Sleep(time.Second) // readers wait before Run has begun, too
		go v.Run(t.Context())
		readers.Wait()
		wantFetches(t, r, 1)
	})
}

func TestGetAfterAFailure(t *testing.T) {
	r := &remote{takes: 10 * time.Second, err: errDown}
	testValue(t, r, func(t *testing.T, v *Value[int]) {
		want := result{err: errDown, took: 10 * time.Second, retry: time.Second}
		wantResult(t, get(v), want) // it waits for the fetch in progress
		r.set(0, errDown)
		time.Sleep(45 * time.Second) // the back-off is 30 s now
		r.set(time.Second, nil)
		before := len(r.fetches())
		// Get fails at once, and a fetch begins.
		wantResult(t, get(v), result{err: errDown})
		time.Sleep(time.Millisecond)
		wantFetches(t, r, before+1)
		wantResult(t, get(v), result{value: before + 1, took: time.Second - time.Millisecond})
	})
}

func TestAFloodOfGetCausesOneFetchASecond(t *testing.T) {
	const ms = time.Millisecond
	for _, test := range []struct {
		err  error // of each fetch
		term Term
		want error // of each Get without a value
	}{
		{errDown, daily, errDown},
		{pause(ms), daily, pause(ms)},
		{nil, Term{Renew: time.Hour, Until: ms}, ErrNotFetched},
	} {
		r := &remote{term: test.term, err: test.err}
		testValue(t, r, func(t *testing.T, v *Value[int]) {
			for range 600 { // 1 min
				time.Sleep(100 * ms)
				got := get(v)
				if got.took > 0 || got.err != nil && !errors.Is(got.err, test.want) {
					t.Fatalf("got %+v, want the error %v at once", got, test.want)
				}
			}
			gaps := r.gaps()
			if slices.Min(gaps) < time.Second || slices.Max(gaps) > time.Second+100*ms {
				t.Errorf("fetches began %v apart, want one a second", gaps)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	for maxBackoff, want := range map[time.Duration][]time.Duration{
		0:               {1, 2, 4, 8, 16, 30, 30}, // in seconds
		4 * time.Second: {1, 2, 4, 4, 4, 4, 4},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := &remote{term: Term{Renew: 30 * time.Second, Until: time.Hour}, err: errDown}
			v := New(Config[int]{Fetch: r.fetch, MaxBackoff: maxBackoff})
			go v.Run(t.Context())
			time.Sleep(5 * time.Minute)
			wantGaps(t, r.gaps(), want)
			r.set(0, nil)
			time.Sleep(time.Minute)
			r.set(0, errDown)
			before := len(r.fetches())
			time.Sleep(5 * time.Minute)
			withValue := []time.Duration{1, 2, 4, 8, 16, 30, 30} // whatever MaxBackoff is
			wantGaps(t, r.gaps()[before:], withValue)
		})
	}
}

// wantGaps wants these first gaps, in seconds. Each may be up to a tenth shorter, but not
// below 1 s.
func wantGaps(t *testing.T, got, want []time.Duration) {
	t.Helper()
	for i, want := range want {
		longest := want * time.Second
		if i >= len(got) || got[i] < max(longest*9/10, time.Second) || got[i] > longest {
			t.Fatalf("gap %d of %v, want %v less up to a tenth", i+1, got, longest)
		}
	}
}

func TestTheTermBeginsWithTheFetch(t *testing.T) {
	r := &remote{takes: 9 * time.Second, term: Term{Renew: 10 * time.Second, Until: 18 * time.Second}}
	testValue(t, r, func(t *testing.T, v *Value[int]) {
		wantResult(t, get(v), result{value: 1, took: 9 * time.Second})
		r.set(0, errDown)
		time.Sleep(9*time.Second - time.Millisecond) // 1 ms before 18 s are over
		wantResult(t, get(v), result{value: 1})
		time.Sleep(time.Millisecond)
		if got := get(v); got.err == nil {
			t.Errorf("after its expiry: %d, want an error", got.value)
		}
		if gap := r.gaps()[0]; gap != 10*time.Second { // 9 s of fetch and minGap
			t.Errorf("the renewal began %v after the fetch, want 10s", gap)
		}
	})
}

func TestRenewalsWithoutReaders(t *testing.T) {
	r := &remote{term: Term{Renew: 30 * time.Minute, Until: time.Hour}, takes: time.Second}
	testValue(t, r, func(t *testing.T, v *Value[int]) {
		time.Sleep(72 * time.Hour)
		if got := get(v); got.err != nil || got.took > 0 {
			t.Errorf("got %+v, want a value at once", got)
		}
		gaps := slices.Sorted(slices.Values(r.gaps()))
		shortest, longest := gaps[0], gaps[len(gaps)-1]
		if shortest < 27*time.Minute || longest > 30*time.Minute || shortest == longest {
			t.Errorf("renewals after %v, want 30m less up to a tenth, at random", gaps)
		}
	})
}

// A timer stands still while a laptop sleeps; the wall clock goes on, as v.left says.
func TestALaptopWakesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := new(remote)
		var slept atomic.Int64 // since the last fetch
		v := New(Config[int]{Fetch: func(ctx context.Context) (int, Term, error) {
			slept.Store(0)
			return r.fetch(ctx)
		}})
		v.left = func(t time.Time) time.Duration { return Until(t) - time.Duration(slept.Load()) }
		go v.Run(t.Context())
		time.Sleep(70 * time.Second) // 20 s before Run looks at the clock
		slept.Store(int64(25 * time.Hour))
		wantResult(t, get(v), result{err: ErrNotFetched}) // it has expired, and a fetch begins
		time.Sleep(70 * time.Second)
		slept.Store(int64(13 * time.Hour)) // past the renewal, but not past the expiry
		wantResult(t, get(v), result{value: 2})
		time.Sleep(30 * time.Second)
		wantFetches(t, r, 3)
	})
}

func TestBothClocksCount(t *testing.T) {
	now := time.Now()
	end, wall := now.Add(time.Hour), now.Round(0)
	if left := timeLeft(end, now, wall.Add(2*time.Hour)); left != -time.Hour {
		t.Errorf("after two hours of sleep %v are left, want -1h", left)
	}
	if left := timeLeft(end, now.Add(2*time.Hour), wall); left != -time.Hour {
		t.Errorf("two hours later, with the clock set back, %v are left, want -1h", left)
	}
}

func TestReportAndShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reports []result
		r := &remote{takes: 2 * time.Second, err: errDown}
		v := New(Config[int]{Fetch: r.fetch, Report: func(took time.Duration, err error) {
			reports = append(reports, result{took: took, err: err})
		}})
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second) // within the second fetch
		defer cancel()
		v.Run(ctx)
		if want := []result{{took: 2 * time.Second, err: errDown}}; !slices.Equal(reports, want) {
			t.Errorf("reports %v, want %v and none of the interrupted fetch", reports, want)
		}
	})
}

func TestNewer(t *testing.T) {
	r := &remote{takes: time.Second}
	testValue(t, r, func(t *testing.T, v *Value[int]) {
		wantResult(t, newer(v), result{value: 1, took: time.Second}) // of the fetch in progress
		time.Sleep(9*time.Second - time.Millisecond)                 // it began 1 ms less than 10 s ago
		wantResult(t, newer(v), result{value: 1})
		time.Sleep(time.Millisecond)
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() { wantResult(t, newer(v), result{value: 2, took: time.Second}) })
		}
		callers.Wait()
		wantFetches(t, r, 2)
	})
}

// Half of the callers leave before the fetch has ended.
func TestAFloodOfNewerCausesSixFetchesAMinute(t *testing.T) {
	r := &remote{takes: 50 * time.Millisecond}
	testValue(t, r, func(t *testing.T, v *Value[int]) {
		for range 600 { // 1 min
			go read(v.Newer, 20*time.Millisecond)
			go newer(v)
			time.Sleep(100 * time.Millisecond)
		}
		wantFetches(t, r, 6)
	})
}

func TestNewerInAnOutage(t *testing.T) {
	r := new(remote)
	testValue(t, r, func(t *testing.T, v *Value[int]) {
		time.Sleep(10 * time.Second)
		r.set(0, errDown)
		wantResult(t, newer(v), result{err: errDown, retry: time.Second}) // the back-off's first
		wantResult(t, get(v), result{value: 1})

		time.Sleep(45 * time.Second) // the back-off is 30 s now, the last fetch more than 10 s ago
		before := len(r.fetches())
		wantResult(t, newer(v), result{err: errDown, retry: 10 * time.Second})
		time.Sleep(4 * time.Second)
		wantResult(t, newer(v), result{err: errDown, retry: 6 * time.Second})
		wantFetches(t, r, before+1)

		r.set(time.Minute, nil)
		time.Sleep(6 * time.Second)
		wantResult(t, newer(v), result{err: errTimeout, took: 3 * time.Second})
		wantResult(t, get(v), result{value: 1})
	})
}

// However the fetches of an outage fail, and whenever it ends.
func TestGetSucceedsSoonAfterAnOutage(t *testing.T) {
	const poll = 100 * time.Millisecond
	// How long a fetch in the outage takes, and what docs/operate.md promises.
	for takes, want := range map[time.Duration]time.Duration{
		0: 5 * time.Second, 10 * time.Second: 11 * time.Second,
	} {
		for outage := time.Minute; outage < 90*time.Second; outage += time.Second {
			r := &remote{takes: takes, err: errDown}
			testValue(t, r, func(t *testing.T, v *Value[int]) {
				time.AfterFunc(outage, func() { r.set(0, nil) })
				begun := time.Now()
				for get(v).err != nil {
					time.Sleep(poll)
				}
				if took := time.Since(begun) - outage; took > want+poll {
					t.Errorf("a value %v after an outage of %v, want %v at most", took, outage, want)
				}
			})
		}
	}
}

func TestAPauseIsNotCutShort(t *testing.T) {
	paused := errors.Join(pause(12 * time.Second)) // wrapped
	r := &remote{term: Term{Renew: time.Minute, Until: time.Hour}}
	testValue(t, r, func(t *testing.T, v *Value[int]) {
		time.Sleep(time.Second)
		r.set(0, errDown)
		time.Sleep(3 * time.Minute) // the back-off is 30 s now
		r.set(0, paused)
		time.Sleep(30 * time.Second)
		fetches := r.fetches()
		end := fetches[len(fetches)-1].Add(12 * time.Second)
		for left := time.Until(end); left > 0; left = time.Until(end) {
			wantResult(t, newer(v), result{err: paused, retry: left})
			wantResult(t, get(v), result{value: 1})
			time.Sleep(time.Second)
		}
		wantFetches(t, r, len(fetches)+1) // at the end
	})
}
