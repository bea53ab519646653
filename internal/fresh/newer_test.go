package fresh

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

func TestNewer(t *testing.T) {
	r := &remote{term: daily, takes: time.Second}
	run(t, r, func(t *testing.T, v *Value[int]) {
		get(v)
		var callers sync.WaitGroup
		for range 100 { // one fetch for all callers of one moment
			callers.Go(func() { newer(v).is(t, result{n: 2, took: time.Second}) })
		}
		callers.Wait()
		for n := 3; n <= 6; n++ { // with the one above, five in a burst
			newer(v).is(t, result{n: n, took: time.Second})
		}
		newer(v).is(t, result{n: 6}) // over the limit
		// The burst began 5 s ago: its first place is free 30 s after that, and the
		// request above is remembered until then.
		time.Sleep(24 * time.Second)
		if n := len(r.fetches()); n != 6 {
			t.Errorf("%d fetches before the limit allows one, want 6", n)
		}
		time.Sleep(1500 * time.Millisecond)
		newer(v).is(t, result{n: 7, took: 500 * time.Millisecond})
		if n, err := v.Newer(t.Context(), 0); n != 7 || err != nil || len(r.fetches()) != 7 {
			t.Errorf("newer than an old value = %d, %v after %d fetches; want the last one, 7", n, err, len(r.fetches()))
		}
	})
}

func TestNewerOverTheLimitSharesARenewal(t *testing.T) {
	r := &remote{term: Term{Renew: 10 * time.Second, Until: time.Hour}}
	run(t, r, func(t *testing.T, v *Value[int]) {
		for range 7 {
			newer(v)
		}
		r.set(900*time.Millisecond, nil)
		time.Sleep(8500 * time.Millisecond) // the renewal begins after 9 to 10 s
		var callers sync.WaitGroup
		for range 2 { // one caller before it, one during it
			callers.Go(func() {
				if got := newer(v); got.n != 7 {
					t.Errorf("newer = %+v, want the renewal's 7", got)
				}
			})
			time.Sleep(1501 * time.Millisecond)
		}
		callers.Wait()
	})
}

func TestRequestsOlderThanTheValueAreIgnored(t *testing.T) {
	r := &remote{term: daily, takes: 2 * time.Second}
	run(t, r, func(t *testing.T, v *Value[int]) {
		time.Sleep(time.Second)
		v.needed <- struct{}{}
		v.newer <- v.state.Load().next
		time.Sleep(time.Minute)
		if n := len(r.fetches()); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
	})
}

func TestAFloodOfNewerIsAtMostOneFetchIn30Seconds(t *testing.T) {
	for _, outage := range []error{nil, errDown} {
		r := &remote{term: daily, takes: 50 * time.Millisecond}
		run(t, r, func(t *testing.T, v *Value[int]) {
			get(v)
			r.set(50*time.Millisecond, outage)
			for range 6000 { // ten minutes, twenty a second, half of which leave early
				go read(20*time.Millisecond, func(ctx context.Context) (int, error) { return v.Newer(ctx, v.Last()) })
				go newer(v)
				time.Sleep(100 * time.Millisecond)
			}
			time.Sleep(5 * time.Second)
			most := 1 + 5 + 20 // the first, a burst of five, and one in each of the 20 half minutes
			if outage != nil {
				most += 605 / 27 // the back-off's: one in 27 to 30 s
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
	r := &remote{term: daily}
	run(t, r, func(t *testing.T, v *Value[int]) {
		get(v)
		r.set(0, errDown)
		newer(v).is(t, result{err: errDown, retry: minGap}) // at once: it follows a success
		for range 4 {                                       // the first of these is the back-off's
			newer(v).is(t, result{err: errDown, took: minGap, retry: minGap})
		}
		if got := newer(v); !errors.Is(got.err, errDown) || got.took != minGap {
			t.Errorf("the last within the limit: %+v, want errDown after %v", got, minGap)
		}
		newer(v).is(t, result{err: errDown, retry: 25 * time.Second}) // over the limit, until 30 s after the first
		get(v).is(t, result{n: 1})
		r.set(hang, nil)
		time.Sleep(25*time.Second + time.Millisecond)
		newer(v).is(t, result{err: context.DeadlineExceeded, took: 3 * time.Second})
	})
}

func TestNewerIsServedWithin35SecondsAfterAnOutage(t *testing.T) {
	for _, takes := range []time.Duration{0, hang} { // an outage of failures, one of hanging fetches
		for second := range 45 { // of more than the limit's period: then it ends
			r := &remote{term: daily}
			run(t, r, func(t *testing.T, v *Value[int]) {
				get(v)
				r.set(takes, errDown)
				for begun := time.Now(); time.Since(begun) < time.Duration(120+second)*time.Second; time.Sleep(time.Second) {
					if got := newer(v); got.err == nil {
						t.Fatalf("newer = %d in the outage, want an error", got.n)
					}
				}
				r.set(0, nil)
				back := time.Now()
				for newer(v).err != nil {
					time.Sleep(time.Second)
				}
				if took := time.Since(back); took > 35*time.Second {
					t.Errorf("fetches of %v, until second %d: newer succeeds %v after the return, want at most 35s", takes, second, took)
				}
			})
		}
	}
}

func TestNothingIsFetchedDuringAPause(t *testing.T) {
	const takes, pause = 3 * time.Second, 12 * time.Second
	for _, held := range []time.Duration{time.Second, time.Hour} { // the value, which is renewed after a minute
		r := &remote{term: Term{Renew: time.Minute, Until: held}}
		run(t, r, func(t *testing.T, v *Value[int]) {
			get(v)
			r.set(takes, fmt.Errorf("wrapped: %w", throttled(pause)))
			time.Sleep(time.Minute) // the renewal has begun
			for n := 2; n < 5; n++ {
				end := r.fetches()[n-1].Add(takes + pause)
				time.Sleep(time.Until(end) - pause + time.Millisecond) // the fetch has ended
				for left := time.Until(end); left > 2*time.Millisecond; left = time.Until(end) {
					want := result{err: throttled(pause), retry: left}
					read(time.Millisecond, func(ctx context.Context) (int, error) { return v.Newer(ctx, 1) }).is(t, want)
					if held == time.Hour {
						want = result{n: 1}
					}
					get(v).is(t, want)
					time.Sleep(10 * time.Millisecond)
				}
				time.Sleep(time.Until(end) + 2*time.Second)
				if after := r.fetches(); len(after) != n+1 || after[n].Before(end) {
					t.Fatalf("%d fetches, the last %v after the pause's end; want one within 2s", len(after)-n, after[len(after)-1].Sub(end))
				}
			}
		})
	}
}

func TestNewerWaitsForTheEndOfAPauseThatIsNear(t *testing.T) {
	r := &remote{term: daily}
	run(t, r, func(t *testing.T, v *Value[int]) {
		for range 5 {
			newer(v)
		}
		r.set(0, throttled(12*time.Second))
		newer(v)                                                                          // the last within the limit
		newer(v).is(t, result{err: throttled(12 * time.Second), retry: 12 * time.Second}) // and not when the limit ends
		r.set(0, nil)
		time.Sleep(11 * time.Second)
		if got := newer(v); got.n != 7 || got.took > 2*time.Second {
			t.Errorf("newer 1s before the pause's end = %+v, want 7 within 2s", got)
		}
	})
}
