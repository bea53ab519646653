package fresh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestNewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: daily, takes: time.Second}
		v := start(t, r, 0)
		get(v)
		var callers sync.WaitGroup
		for range 100 {
			callers.Go(func() {
				if n, took, err := newer(v); n != 2 || took != time.Second || err != nil {
					t.Errorf("newer = %d after %v, %v; want 2 after 1s", n, took, err)
				}
			})
		}
		callers.Wait()
		wantFetches(t, r, 2)      // one for all callers of one moment
		for n := 3; n <= 6; n++ { // with the one above, five in a burst
			if got, took, err := newer(v); got != n || took != time.Second || err != nil {
				t.Errorf("newer = %d after %v, %v; want %d after 1s", got, took, err, n)
			}
		}
		if got, took, err := newer(v); got != 6 || took != 0 || err != nil {
			t.Errorf("newer over the limit = %d after %v, %v; want 6 at once", got, took, err)
		}
		// The burst began 5 s ago: its first place is free 30 s after that, and the
		// request above is remembered until then.
		time.Sleep(24 * time.Second)
		wantFetches(t, r, 6)
		time.Sleep(3 * time.Second)
		wantFetches(t, r, 7)

		if n, err := v.Newer(t.Context(), 0); n != 7 || err != nil {
			t.Errorf("newer than an old value = %d, %v; want the last one", n, err)
		}
		wantFetches(t, r, 7)
	})
}

func TestAFloodOfNewerIsAtMostOneFetchIn30Seconds(t *testing.T) {
	for _, outage := range []error{nil, errDown} {
		synctest.Test(t, func(t *testing.T) {
			r := &remote{term: daily, takes: 50 * time.Millisecond}
			v := start(t, r, 0)
			get(v)
			r.set(50*time.Millisecond, outage)
			for range 6000 { // ten minutes, ten a second, half of which leave early
				ctx, leave := context.WithCancel(t.Context())
				last, _ := v.Last()
				go v.Newer(ctx, last)
				time.Sleep(20 * time.Millisecond)
				leave()
				go newer(v)
				time.Sleep(80 * time.Millisecond)
			}
			time.Sleep(5 * time.Second)
			// The first, a burst of five, and one in each of the 20 half minutes. In an
			// outage, those of the back-off too: one in 27 to 30 s.
			most := 1 + 5 + 20
			if outage != nil {
				most += 605 / 27
			}
			if n := len(r.fetches()); n < 24 || n > most {
				t.Errorf("%v: %d fetches, want 24 to %d", outage, n, most)
			}
			if gap := slices.Min(r.gaps(2)); outage != nil && gap < minGap {
				t.Errorf("%v: two fetches are %v apart, want at least %v", outage, gap, minGap)
			}
		})
	}
}

func TestNewerDecidesNothingInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: daily}
		v := start(t, r, 0)
		get(v)
		r.set(0, errDown)
		for n := range 6 { // the second fetch is the back-off's, the others are a burst
			want := min(minGap, time.Duration(n)*minGap) // the first follows a success
			if _, took, err := newer(v); !errors.Is(err, errDown) || took != want || n < 5 && retryIn(err) != minGap {
				t.Errorf("newer %d = %v after %v, retry in %v; want errDown after %v", n+1, err, took, retryIn(err), want)
			}
		}
		_, took, err := newer(v) // over the limit, until 30 s after the first
		if !errors.Is(err, errDown) || took != 0 || retryIn(err) != 25*time.Second {
			t.Errorf("newer over the limit = %v after %v, retry in %v; want errDown at once, 25s", err, took, retryIn(err))
		}
		if n, _, err := get(v); n != 1 || err != nil || time.Since(v.Begun()) != 5*time.Second {
			t.Errorf("get = %d, %v; want the value of 5s ago", n, err)
		}
		r.set(hang, nil)
		time.Sleep(retryIn(err) + time.Millisecond)
		if _, took, err := newer(v); !errors.Is(err, context.DeadlineExceeded) || took != 3*time.Second {
			t.Errorf("newer of a fetch that hangs = %v after %v, want DeadlineExceeded after 3s", err, took)
		}
	})
}

func TestNewerAfterAnOutageIsServedWithin35Seconds(t *testing.T) {
	for _, outage := range []struct {
		name  string
		takes time.Duration
		err   error
	}{{"fails at once", 0, errDown}, {"hangs", hang, nil}} {
		for returns := range 45 { // at each second of more than a limit's period
			synctest.Test(t, func(t *testing.T) {
				r := &remote{term: daily}
				v := start(t, r, 0)
				get(v)
				r.set(outage.takes, outage.err)
				ask := func() (ok bool) {
					n, _, err := newer(v)
					return err == nil && n > 1
				}
				for begun := time.Now(); time.Since(begun) < 2*time.Minute+time.Duration(returns)*time.Second; time.Sleep(time.Second) {
					if ask() {
						t.Fatalf("%s: newer succeeds in the outage", outage.name)
					}
				}
				r.set(0, nil)
				back := time.Now()
				for !ask() {
					time.Sleep(time.Second)
				}
				if took := time.Since(back); took > 35*time.Second {
					t.Errorf("%s, until %d s: newer succeeds %v after the return, want at most 35s", outage.name, returns, took)
				}
			})
		}
	}
}

// throttled is an error with a pause.
type throttled time.Duration

func (p throttled) Error() string             { return "throttled" }
func (p throttled) RetryAfter() time.Duration { return time.Duration(p) }

func TestNothingIsFetchedDuringAPause(t *testing.T) {
	const takes, pause = 3 * time.Second, 12 * time.Second
	for _, held := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			r := &remote{term: Term{Renew: time.Minute, Until: time.Hour}}
			err := fmt.Errorf("wrapped: %w", throttled(pause))
			if !held {
				r.set(takes, err)
			}
			v := start(t, r, 4*time.Second)
			if held {
				get(v)
				r.set(takes, err)
				time.Sleep(54 * time.Second)
				newer(v)
			}
			for range 3 { // pauses, each after a fetch of 3 s
				before := r.fetches()
				end := before[len(before)-1].Add(takes + pause)
				time.Sleep(time.Until(end.Add(-pause + time.Millisecond))) // the fetch has ended
				for time.Now().Before(end) {
					n, took, err := get(v)
					if held && (n != 1 || err != nil) {
						t.Fatalf("get = %d, %v; want the value held", n, err)
					}
					if !held && (took != 0 || !errors.As(err, new(throttled)) || time.Until(end) != retryIn(err)) {
						t.Fatalf("get = %v after %v, retry in %v; want the pause's end in %v", err, took, retryIn(err), time.Until(end))
					}
					if left := time.Until(end); held && left > 4*time.Second {
						if _, took, err := newer(v); took != 0 || !errors.As(err, new(throttled)) || retryIn(err) != left {
							t.Fatalf("newer = %v after %v, retry in %v; want the pause's end in %v", err, took, retryIn(err), left)
						}
					}
					time.Sleep(10 * time.Millisecond)
				}
				time.Sleep(time.Until(end.Add(2 * time.Second)))
				after := r.fetches()
				if len(after) != len(before)+1 || after[len(before)].Before(end) {
					t.Fatalf("%d fetches after the first, the last %v after the pause's end; want one within 2s", len(after)-len(before), after[len(after)-1].Sub(end))
				}
			}
			r.set(0, nil)
			time.Sleep(takes + pause + 2*time.Second)
			if n, _, err := get(v); err != nil || n == 1 {
				t.Errorf("after the pauses: get = %d, %v; want a new value", n, err)
			}
		})
	}
}

func TestAPauseThatEndsSoonIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: daily}
		v := start(t, r, 0)
		get(v)
		r.set(0, throttled(12*time.Second))
		newer(v)
		r.set(0, nil)
		time.Sleep(11 * time.Second)
		if n, took, err := newer(v); n != 3 || took > 2*time.Second || err != nil {
			t.Errorf("newer 1s before the pause's end = %d after %v, %v; want 3 within 2s", n, took, err)
		}
	})
}

func TestNoPauseIsShorterThanASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: daily, err: throttled(time.Millisecond)}
		v := start(t, r, 0)
		for range 100 {
			get(v)
			time.Sleep(100 * time.Millisecond)
		}
		if gap := slices.Min(r.gaps(1)); gap < minGap {
			t.Errorf("two fetches are %v apart, want at least %v", gap, minGap)
		}
	})
}

func TestShutdownWhileFetching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reports := 0
		v := New(Config[int]{Fetch: (&remote{takes: hang}).fetch, Report: func(time.Duration, error) { reports++ }})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		waiter := make(chan error)
		go func() { _, _, err := get(v); waiter <- err }()
		begun := time.Now()
		v.Run(ctx)
		if took := time.Since(begun); took != time.Second {
			t.Errorf("Run returned after %v, want 1s", took)
		}
		if err := <-waiter; !errors.Is(err, context.Canceled) {
			t.Errorf("the waiting reader got %v, want context.Canceled", err)
		}
		if reports != 0 {
			t.Error("a fetch that shutdown interrupted was reported as a failure")
		}
	})
}

func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: hourly, takes: 2 * time.Second, err: errDown}
		type report struct {
			took time.Duration
			err  error
		}
		reports := make(chan report, 10)
		v := New(Config[int]{Fetch: r.fetch, Report: func(took time.Duration, err error) { reports <- report{took, err} }})
		go v.Run(t.Context())
		if got := <-reports; got != (report{2 * time.Second, errDown}) {
			t.Errorf("first report = %v, want 2s and errDown", got)
		}
		r.set(2*time.Second, nil)
		if got := <-reports; got != (report{2 * time.Second, nil}) {
			t.Errorf("second report = %v, want 2s and no error", got)
		}
	})
}
