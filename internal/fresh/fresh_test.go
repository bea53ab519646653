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
			readers.Go(func() { get(v).is(t, result{n: 1, took: 3 * time.Second}) })
		}
		time.Sleep(time.Second)            // readers before Run wait, too
		time.AfterFunc(time.Second, leave) // which does not disturb the fetch
		go v.Run(t.Context())
		readers.Wait()
		if n, err := v.Get(ctx); n != 1 || err != nil {
			t.Errorf("get with a canceled context = %d, %v; want the value there is", n, err)
		}
		if n := len(r.fetches()); n != 1 {
			t.Errorf("%d fetches, want 1", n)
		}
	})
}

func TestReadersAreAnsweredAtOnceAfterAFailureAndBringTheNextFetchForward(t *testing.T) {
	r := &remote{term: hourly, takes: hang}
	run(t, r, func(t *testing.T, v *Value[int]) {
		time.Sleep(time.Millisecond) // so that the fetch ends before the reader's deadline
		get(v).is(t, result{err: context.DeadlineExceeded, took: 10*time.Second - time.Millisecond, retry: minGap})
		r.set(0, errDown)
		time.Sleep(45 * time.Second) // within the fifth back-off, from about 31 s to about 61 s
		r.set(0, nil)
		before := len(r.fetches())
		get(v).is(t, result{err: errDown})
		time.Sleep(time.Millisecond)
		get(v).is(t, result{n: before + 1})
	})
}

func TestAFloodOfReadersCostsOneFetchASecond(t *testing.T) {
	for _, test := range []struct {
		outage, want error
		term         Term
	}{
		{errDown, errDown, hourly},
		{throttled(time.Millisecond), throttled(time.Millisecond), hourly}, // no pause is shorter than a second
		{nil, ErrNotFetched, Term{Renew: time.Millisecond, Until: 2 * time.Millisecond}},
	} {
		r := &remote{term: test.term, err: test.outage}
		run(t, r, func(t *testing.T, v *Value[int]) {
			for range 6000 { // ten minutes, ten readers a second
				time.Sleep(100 * time.Millisecond)
				if got := get(v); got.took > 0 || got.err != nil && !errors.Is(got.err, test.want) {
					t.Fatalf("got %+v, want %v at once", got, test.want)
				}
			}
			if gaps := r.gaps(1); slices.Min(gaps) < minGap || slices.Max(gaps) > minGap+100*time.Millisecond {
				t.Errorf("%v: fetches are %v to %v apart, want 1s", test.want, slices.Min(gaps), slices.Max(gaps))
			}
		})
	}
}

func TestTheBackoffGrowsAndStartsAgainAfterASuccess(t *testing.T) {
	wantBackoff := func(t *testing.T, gaps []time.Duration, seconds ...time.Duration) { // each up to a tenth shorter
		t.Helper()
		for i, want := range seconds {
			want *= time.Second
			if gaps[i] > want || gaps[i] < max(minGap, want*9/10) || i > 1 && gaps[i] == want {
				t.Errorf("gap %d is %v, want %v less up to a tenth", i+1, gaps[i], want)
			}
		}
	}
	for maxBackoff, want := range map[time.Duration][]time.Duration{
		0:               {1, 2, 4, 8, 16, 30, 30, 30},
		4 * time.Second: {1, 2, 4, 4, 4, 4, 4, 4},
	} {
		r := &remote{term: Term{Renew: 30 * time.Second, Until: time.Hour}, err: errDown, maxBackoff: maxBackoff}
		run(t, r, func(t *testing.T, v *Value[int]) {
			time.Sleep(5 * time.Minute)
			wantBackoff(t, r.gaps(1), want...)
			r.set(0, nil)
			time.Sleep(time.Minute)
			r.set(0, errDown)
			before := len(r.fetches())
			time.Sleep(6 * time.Minute)
			wantBackoff(t, r.gaps(before+1), 1, 2, 4, 8, 16, 30, 30, 30) // from the first failure on: there is a value
			get(v).is(t, result{n: before})
		})
	}
}

func TestALateAnswerCountsFromItsStart(t *testing.T) {
	r := &remote{term: Term{Renew: 10 * time.Second, Until: 18 * time.Second}, takes: 9 * time.Second}
	run(t, r, func(t *testing.T, v *Value[int]) {
		get(v).is(t, result{n: 1, took: 9 * time.Second})
		if age := time.Since(v.Begun()); age != 9*time.Second {
			t.Errorf("the value is %v old, want 9s", age)
		}
		r.set(hang, nil)
		time.Sleep(9*time.Second - time.Millisecond) // 18 s after the start, less 1 ms
		get(v).is(t, result{n: 1})
		time.Sleep(time.Millisecond)
		if got := get(v); got.err == nil {
			t.Errorf("after its expiry: %d, want an error", got.n)
		}
		if gap := r.gaps(1)[0]; gap != 10*time.Second {
			t.Errorf("the renewal is %v after the start, want 10s", gap)
		}
	})
}

func TestADayOfRenewalsAndThreeIdleDays(t *testing.T) {
	r := &remote{term: hourly, takes: time.Second}
	run(t, r, func(t *testing.T, v *Value[int]) {
		get(v)
		for _, idle := range append(slices.Repeat([]time.Duration{10 * time.Second}, 24*60*6), 72*time.Hour) {
			time.Sleep(idle)
			got := get(v)
			if age := time.Since(v.Begun()); got.err != nil || got.took != 0 || age > hourly.Renew+time.Second {
				t.Fatalf("%+v, %v old; want a value of 30m at once", got, age)
			}
		}
		gaps := r.gaps(1)
		slices.Sort(gaps)
		if gaps[0] < hourly.Renew*9/10 || gaps[len(gaps)-1] > hourly.Renew {
			t.Errorf("renewals after %v, want %v less up to a tenth", gaps, hourly.Renew)
		}
		if len(slices.Compact(slices.Clone(gaps))) < len(gaps)/2 {
			t.Errorf("renewals after %v: replicas started together would stay together", gaps)
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

func TestReportAndShutdown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reports []result
		r := &remote{takes: 2 * time.Second, err: errDown} // then from 3 s to shutdown
		v := New(Config[int]{Fetch: r.fetch, Report: func(took time.Duration, err error) { reports = append(reports, result{took: took, err: err}) }})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(3500*time.Millisecond, func() { get(v).is(t, result{err: context.Canceled, took: 500 * time.Millisecond, retry: minGap}) })
		time.AfterFunc(4*time.Second, cancel)
		begun := time.Now()
		v.Run(ctx)
		synctest.Wait()
		if took := time.Since(begun); took != 4*time.Second {
			t.Errorf("Run returned after %v, want 4s", took)
		}
		if want := []result{{took: 2 * time.Second, err: errDown}}; !slices.Equal(reports, want) {
			t.Errorf("reports %v, want %v and none of the interrupted fetch", reports, want)
		}
	})
}
