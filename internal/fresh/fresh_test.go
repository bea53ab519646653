package fresh

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"
)

func TestColdStartCosts500ReadersOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: hourly, takes: 2 * time.Second}
		v := New(Config[int]{Fetch: r.fetch})
		var readers sync.WaitGroup
		for range 500 {
			readers.Go(func() {
				if n, took, err := get(v); n != 1 || took != 3*time.Second || err != nil {
					t.Errorf("get = %d after %v, %v; want 1 after 3s", n, took, err)
				}
			})
		}
		time.Sleep(time.Second) // readers before Run wait, too
		if !v.Begun().IsZero() || v.Last() != 0 {
			t.Error("there is a value before the first fetch")
		}
		go v.Run(t.Context())
		readers.Wait()
		wantFetches(t, r, 1)
		if v.Begun().IsZero() || v.Last() != 1 {
			t.Errorf("the last value = %d of %v, want 1", v.Last(), v.Begun())
		}
	})
}

func TestAReaderThatLeavesDoesNotDisturbTheFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: hourly, takes: 2 * time.Second}
		v := start(t, r, 0)
		ctx, leave := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, leave)
		if _, err := v.Get(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("get of the reader that left = %v, want context.Canceled", err)
		}
		if n, took, err := get(v); n != 1 || took != time.Second || err != nil {
			t.Errorf("get of the reader that stayed = %d after %v, %v; want 1 after 1s", n, took, err)
		}
		if n, err := v.Get(ctx); n != 1 || err != nil {
			t.Errorf("get with a canceled context = %d, %v; want the value there is", n, err)
		}
		wantFetches(t, r, 1)
	})
}

func TestAfterAFailedFetchReadersAreAnsweredAtOnceAndBringTheNextForward(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: hourly, takes: hang}
		v := start(t, r, 0)
		time.Sleep(time.Millisecond)
		if _, took, err := get(v); err == nil || took != 10*time.Second-time.Millisecond || retryIn(err) != minGap {
			t.Errorf("get of a fetch that hangs = %v after %v, retry in %v; want an error when it ends, %v", err, took, retryIn(err), minGap)
		}
		r.set(0, errDown)
		time.Sleep(45 * time.Second) // within the fifth back-off, from about 31 s to about 61 s
		r.set(0, nil)
		before := len(r.fetches())
		if _, took, err := get(v); !errors.Is(err, errDown) || took != 0 || retryIn(err) > 0 {
			t.Errorf("get = %v after %v, retry in %v; want errDown at once, to retry at once", err, took, retryIn(err))
		}
		time.Sleep(time.Millisecond)
		if n, took, err := get(v); n != before+1 || took != 0 || err != nil {
			t.Errorf("get = %d after %v, %v; want %d at once", n, took, err, before+1)
		}
	})
}

func TestAnHourOfFailureUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: hourly}
		v := start(t, r, 0)
		time.Sleep(time.Second)
		r.set(0, throttled(time.Millisecond)) // no pause is shorter than a second
		lived := time.Second                  // the value lives for 59 min 55 s, of which one second has passed
		for _, _, err := get(v); err == nil; _, _, err = get(v) {
			time.Sleep(100 * time.Millisecond)
			lived += 100 * time.Millisecond
		}
		if want := hourly.Until; lived < want || lived > want+100*time.Millisecond {
			t.Errorf("served for %v of an outage, want %v", lived, want)
		}
		r.set(0, errDown)
		for range 36000 { // another hour, ten readers a second
			get(v)
			time.Sleep(100 * time.Millisecond)
		}
		if gap := slices.Min(r.gaps(1)); gap < minGap {
			t.Errorf("two fetches are %v apart, want at least %v", gap, minGap)
		}
		r.set(0, nil)
		get(v)
		time.Sleep(minGap + time.Millisecond)
		if _, took, err := get(v); err != nil || took != 0 {
			t.Errorf("a second after the return: get = %v after %v, want a value at once", err, took)
		}
	})
}

// wantBackoff wants gaps of 1, 2, 4, … 30 s, each up to a tenth shorter.
func wantBackoff(t *testing.T, gaps []time.Duration) {
	t.Helper()
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30, 30} {
		want *= time.Second
		if gaps[i] > want || gaps[i] < max(minGap, want*9/10) {
			t.Errorf("gap %d is %v, want %v less up to a tenth", i+1, gaps[i], want)
		}
	}
}

func TestTheBackoffGrowsToThirtySecondsAndStartsAgainAfterASuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: Term{Renew: 30 * time.Second, Until: 31 * time.Second}, err: errDown}
		v := start(t, r, 0)
		time.Sleep(5 * time.Minute)
		wantBackoff(t, r.gaps(1))
		r.set(0, nil)
		time.Sleep(time.Minute)
		if _, _, err := get(v); err != nil {
			t.Fatalf("after the return: %v", err)
		}
		r.set(0, errDown)
		before := len(r.fetches())
		time.Sleep(6 * time.Minute)
		wantBackoff(t, r.gaps(before+1)) // from the first failure on
	})
}

func TestMaxBackoffAppliesWhileThereIsNothingToServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: Term{Renew: time.Minute, Until: time.Hour}, err: errDown}
		start(t, r, 4*time.Second)
		time.Sleep(10 * time.Minute)
		if gap := slices.Max(r.gaps(1)); gap > 4*time.Second {
			t.Errorf("with nothing to serve a gap is %v, want at most 4s", gap)
		}
		r.set(0, nil)
		time.Sleep(5 * time.Second)
		r.set(0, errDown)
		time.Sleep(10 * time.Minute)
		if gaps := r.gaps(1); gaps[len(gaps)-1] < 27*time.Second {
			t.Errorf("with a value to serve the gap is %v, want about 30s", gaps[len(gaps)-1])
		}
	})
}

func TestALateAnswerCountsFromItsStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: Term{Renew: 10 * time.Second, Until: 18 * time.Second}, takes: 9 * time.Second}
		v := start(t, r, 0)
		time.Sleep(9*time.Second + time.Millisecond)
		r.set(hang, nil)
		time.Sleep(9*time.Second - 2*time.Millisecond) // 18 s after the start, less 1 ms
		if n, _, err := get(v); n != 1 || err != nil || time.Since(v.Begun()) != 18*time.Second-time.Millisecond {
			t.Errorf("just before its expiry: get = %d of %v, %v; want 1", n, v.Begun(), err)
		}
		time.Sleep(2 * time.Millisecond)
		if n, _, err := get(v); err == nil {
			t.Errorf("after its expiry: get = %d, want an error", n)
		}
	})
}

func TestADayOfRenewalsAndThreeIdleDays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: hourly, takes: time.Second}
		v := start(t, r, 0)
		get(v)
		for range 24 * 60 * 6 { // every 10 s for a day
			if _, took, err := get(v); err != nil || took != 0 {
				t.Fatalf("get = %v after %v, want a value at once", err, took)
			}
			if age := time.Since(v.Begun()); age > hourly.Renew+time.Second {
				t.Fatalf("the value is %v old, want at most %v", age, hourly.Renew+time.Second)
			}
			time.Sleep(10 * time.Second)
		}
		gaps := r.gaps(1)
		if slices.Min(gaps) < hourly.Renew*9/10 || slices.Max(gaps) > hourly.Renew {
			t.Errorf("renewals after %v to %v, want %v less up to a tenth", slices.Min(gaps), slices.Max(gaps), hourly.Renew)
		}
		slices.Sort(gaps)
		if different := len(slices.Compact(slices.Clone(gaps))); different < len(gaps)/2 {
			t.Errorf("%d renewals have %d different gaps: replicas started together would stay together", len(gaps), different)
		}
		time.Sleep(72 * time.Hour)
		if _, took, err := get(v); err != nil || took != 0 || time.Since(v.Begun()) > hourly.Renew+time.Second {
			t.Errorf("after three idle days: get = %v after %v, fetched at %v; want a value of 30m at once", err, took, v.Begun())
		}
	})
}

func TestShortTermsAreFetchedOnceASecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: Term{Renew: time.Millisecond, Until: 2 * time.Millisecond}}
		v := start(t, r, 0)
		time.Sleep(10 * time.Millisecond)
		if _, took, err := get(v); !errors.Is(err, ErrNotFetched) || took != 0 || retryIn(err) != minGap-10*time.Millisecond {
			t.Errorf("get of an expired value = %v after %v, retry in %v; want ErrNotFetched at once", err, took, retryIn(err))
		}
		for range 1000 {
			get(v)
			time.Sleep(10 * time.Millisecond)
		}
		if n := len(r.fetches()); n < 10 || n > 11 {
			t.Errorf("%d fetches in 10s, want 10 or 11", n)
		}
	})
}

// clocks returns a time that is so far from now by each clock, as time.Now gives
// it after the machine slept or its wall clock was set.
func clocks(t *testing.T, monotonic, wall time.Duration) time.Time {
	t.Helper()
	now := time.Now()
	then := now.Add(wall)
	(*struct { // as in package time
		wall uint64
		ext  int64 // the monotonic reading
		loc  *time.Location
	})(unsafe.Pointer(&then)).ext += int64(monotonic - wall)
	if then.Sub(now) != monotonic || then.Round(0).Sub(now.Round(0)) != wall {
		t.Fatal("package time has another form of Time now: adapt this helper")
	}
	return then
}

// A laptop that slept past the expiry: only the wall clock went on. A clock that
// was set back: only the monotonic one did.
func TestBothClocksCount(t *testing.T) {
	for _, test := range []struct {
		monotonic, wall time.Duration
		usable          bool
	}{
		{time.Hour, time.Hour, true},
		{time.Hour, -time.Minute, false},
		{-time.Minute, time.Hour, false},
	} {
		s := state[int]{until: clocks(t, test.monotonic, test.wall)}
		if got := s.usable(); got != test.usable {
			t.Errorf("with %v left by the monotonic clock, %v by the wall clock: usable %v, want %v", test.monotonic, test.wall, got, test.usable)
		}
	}
}

func TestGetAllocatesNothing(t *testing.T) {
	v := New(Config[int]{Fetch: (&remote{term: hourly}).fetch})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go v.Run(ctx)
	get(v)
	if n := testing.AllocsPerRun(100, func() { v.Get(ctx) }); n != 0 {
		t.Errorf("Get allocates %v times, want 0", n)
	}
}
