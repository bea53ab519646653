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
		ctx, leave := context.WithCancel(t.Context())
		var readers sync.WaitGroup
		readers.Go(func() {
			if _, err := v.Get(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("get of a reader that left = %v, want context.Canceled", err)
			}
		})
		for range 500 {
			readers.Go(func() { get(v).is(t, 1, 3*time.Second) })
		}
		time.Sleep(time.Second) // readers before Run wait, too
		if !v.Begun().IsZero() || v.Last() != 0 {
			t.Error("there is a value before the first fetch")
		}
		time.AfterFunc(time.Second, leave) // which does not disturb the fetch
		go v.Run(t.Context())
		readers.Wait()
		if n, err := v.Get(ctx); n != 1 || err != nil || v.Begun().IsZero() || v.Last() != 1 {
			t.Errorf("get with a canceled context = %d, %v; want the value there is", n, err)
		}
		if n := len(r.fetches()); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
	})
}

func TestAfterAFailedFetchReadersAreAnsweredAtOnceAndBringTheNextForward(t *testing.T) {
	r := &remote{term: hourly, takes: hang}
	run(t, r, func(t *testing.T, v *Value[int]) {
		time.Sleep(time.Millisecond) // so that the fetch ends before the reader's deadline
		get(v).fails(t, context.DeadlineExceeded, 10*time.Second-time.Millisecond, minGap)
		r.set(0, errDown)
		time.Sleep(45 * time.Second) // within the fifth back-off, from about 31 s to about 61 s
		r.set(0, nil)
		before := len(r.fetches())
		get(v).fails(t, errDown, 0, 0)
		time.Sleep(time.Millisecond)
		get(v).is(t, before+1, 0)
	})
}

func TestAnHourOfFailureUnderLoad(t *testing.T) {
	r := &remote{term: hourly}
	run(t, r, func(t *testing.T, v *Value[int]) {
		time.Sleep(time.Second)
		r.set(0, throttled(time.Millisecond)) // no pause is shorter than a second
		for get(v).err == nil {
			time.Sleep(100 * time.Millisecond)
		}
		if lived := time.Since(v.Begun()); lived < hourly.Until || lived > hourly.Until+100*time.Millisecond {
			t.Errorf("served for %v of an outage, want %v", lived, hourly.Until)
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
		get(v).is(t, len(r.fetches()), 0)
	})
}

func TestTheBackoffGrowsToThirtySecondsAndStartsAgainAfterASuccess(t *testing.T) {
	r := &remote{term: Term{Renew: 30 * time.Second, Until: 31 * time.Second}, err: errDown}
	wantBackoff := func(t *testing.T, gaps []time.Duration) { // each up to a tenth shorter
		t.Helper()
		for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30, 30} {
			want *= time.Second
			if gaps[i] > want || gaps[i] < max(minGap, want*9/10) {
				t.Errorf("gap %d is %v, want %v less up to a tenth", i+1, gaps[i], want)
			}
		}
	}
	run(t, r, func(t *testing.T, v *Value[int]) {
		time.Sleep(5 * time.Minute)
		wantBackoff(t, r.gaps(1))
		r.set(0, nil)
		time.Sleep(time.Minute)
		if err := get(v).err; err != nil {
			t.Fatalf("after the return: %v", err)
		}
		r.set(0, errDown)
		before := len(r.fetches())
		time.Sleep(6 * time.Minute)
		wantBackoff(t, r.gaps(before+1)) // from the first failure on
	})
}

func TestMaxBackoffAppliesWhileThereIsNothingToServe(t *testing.T) {
	r := &remote{term: Term{Renew: time.Minute, Until: time.Hour}, err: errDown, maxBackoff: 4 * time.Second}
	run(t, r, func(t *testing.T, v *Value[int]) {
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
	r := &remote{term: Term{Renew: 10 * time.Second, Until: 18 * time.Second}, takes: 9 * time.Second}
	run(t, r, func(t *testing.T, v *Value[int]) {
		get(v).is(t, 1, 9*time.Second)
		r.set(hang, nil)
		time.Sleep(9*time.Second - time.Millisecond) // 18 s after the start, less 1 ms
		get(v).is(t, 1, 0)
		time.Sleep(time.Millisecond)
		if got := get(v); got.err == nil {
			t.Errorf("after its expiry: %d, want an error", got.n)
		}
	})
}

func TestADayOfRenewalsAndThreeIdleDays(t *testing.T) {
	r := &remote{term: hourly, takes: time.Second}
	run(t, r, func(t *testing.T, v *Value[int]) {
		wantFresh := func() {
			t.Helper()
			got := get(v)
			if age := time.Since(v.Begun()); got.err != nil || got.took != 0 || age > hourly.Renew+time.Second {
				t.Fatalf("%v after %v, %v old; want a value of 30m at once", got.err, got.took, age)
			}
		}
		get(v)
		for range 24 * 60 * 6 { // every 10 s for a day
			wantFresh()
			time.Sleep(10 * time.Second)
		}
		gaps := r.gaps(1)
		slices.Sort(gaps)
		if gaps[0] < hourly.Renew*9/10 || gaps[len(gaps)-1] > hourly.Renew {
			t.Errorf("renewals after %v, want %v less up to a tenth", gaps, hourly.Renew)
		}
		if len(slices.Compact(slices.Clone(gaps))) < len(gaps)/2 {
			t.Errorf("renewals after %v: replicas started together would stay together", gaps)
		}
		time.Sleep(72 * time.Hour)
		wantFresh()
	})
}

func TestShortTermsAreFetchedOnceASecondAtMost(t *testing.T) {
	r := &remote{term: Term{Renew: time.Millisecond, Until: 2 * time.Millisecond}}
	run(t, r, func(t *testing.T, v *Value[int]) {
		time.Sleep(10 * time.Millisecond)
		get(v).fails(t, ErrNotFetched, 0, minGap-10*time.Millisecond)
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
	}{{time.Hour, time.Hour, true}, {time.Hour, -time.Minute, false}, {-time.Minute, time.Hour, false}} {
		s := state[int]{until: clocks(t, test.monotonic, test.wall)}
		if got := s.usable(); got != test.usable {
			t.Errorf("with %v left by the monotonic clock, %v by the wall clock: usable %v", test.monotonic, test.wall, got)
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

func TestReportAndShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type report struct {
			took time.Duration
			err  error
		}
		var reports []report
		r := &remote{takes: 2 * time.Second, err: errDown}
		v := New(Config[int]{Fetch: r.fetch, Report: func(took time.Duration, err error) { reports = append(reports, report{took, err}) }})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(2500*time.Millisecond, func() { r.set(time.Second, nil) }) // for a fetch from 3 s to 4 s
		time.AfterFunc(3500*time.Millisecond, func() { r.set(hang, nil) })        // from 5 s on
		time.AfterFunc(5500*time.Millisecond, func() { get(v).fails(t, context.Canceled, 500*time.Millisecond, minGap) })
		time.AfterFunc(6*time.Second, cancel)
		begun := time.Now()
		v.Run(ctx)
		synctest.Wait()
		if took := time.Since(begun); took != 6*time.Second {
			t.Errorf("Run returned after %v, want 6s", took)
		}
		if want := []report{{2 * time.Second, errDown}, {time.Second, nil}}; !slices.Equal(reports, want) {
			t.Errorf("reports %v, want %v and none of the interrupted fetch", reports, want)
		}
	})
}
