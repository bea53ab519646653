package fresh

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var errTimeout = context.DeadlineExceeded

func TestColdStartCostsOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: hourly, takes: 2 * time.Second}
		v := New(Config[int]{Fetch: r.fetch})
		ctx, leave := context.WithCancel(t.Context())
		var readers sync.WaitGroup
		readers.Go(func() {
			if _, err := v.Get(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("Get of a reader that left = %v, want context.Canceled", err)
			}
		})
		for range 500 {
			readers.Go(func() { wantResult(t, get(v), result{value: 1, took: 3 * time.Second}) })
		}
		time.Sleep(time.Second) // readers wait before Run has begun, too
		go v.Run(t.Context())
		time.Sleep(time.Second)
		leave()
		readers.Wait()
		wantFetches(t, r, 1)
		if n, err := v.Get(ctx); n != 1 || err != nil {
			t.Errorf("Get with a canceled context = %d, %v; want the value that there is", n, err)
		}
	})
}

func TestGetAfterAFailure(t *testing.T) {
	r := &remote{term: hourly, takes: hang}
	testValue(t, r, func(t *testing.T, v *Value[int]) {
		want := result{err: errTimeout, took: 10 * time.Second, retry: time.Second}
		wantResult(t, get(v), want) // it waits for the fetch in progress

		r.set(0, errDown)
		time.Sleep(45 * time.Second) // the back-off is 30 s now
		r.set(time.Second, nil)
		before := len(r.fetches())
		wantResult(t, get(v), result{err: errDown}) // at once,
		time.Sleep(time.Millisecond)
		wantFetches(t, r, before+1) // and a fetch has begun
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
		{errDown, hourly, errDown},
		{pause(ms), hourly, pause(ms)},
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
			gaps := r.gaps(1)
			if slices.Min(gaps) < time.Second || slices.Max(gaps) > time.Second+100*ms {
				t.Errorf("fetches began %v apart, want one a second", gaps)
			}
		})
	}
}

func TestBackoff(t *testing.T) {
	for _, test := range []struct {
		maxBackoff time.Duration
		want       []time.Duration // in seconds
	}{
		{0, []time.Duration{1, 2, 4, 8, 16, 30, 30}},
		{4 * time.Second, []time.Duration{1, 2, 4, 4, 4, 4, 4}},
	} {
		synctest.Test(t, func(t *testing.T) {
			r := &remote{term: Term{Renew: 30 * time.Second, Until: time.Hour}, err: errDown}
			v := New(Config[int]{Fetch: r.fetch, MaxBackoff: test.maxBackoff})
			go v.Run(t.Context())
			time.Sleep(5 * time.Minute)
			wantGaps(t, r.gaps(1), test.want)
			r.set(0, nil)
			time.Sleep(time.Minute)
			r.set(0, errDown)
			before := len(r.fetches())
			time.Sleep(6 * time.Minute) // from 1 s again, and with a value up to 30 s
			wantGaps(t, r.gaps(before+1), []time.Duration{1, 2, 4, 8, 16, 30, 30})
		})
	}
}

// wantGaps wants these first gaps, in seconds, each but that of 1 s up to a tenth shorter.
func wantGaps(t *testing.T, got, want []time.Duration) {
	t.Helper()
	for i, want := range want {
		longest := want * time.Second
		shortest := max(longest*9/10, time.Second)
		if got[i] > longest || got[i] < shortest || got[i] == longest && i > 1 {
			t.Errorf("gap %d is %v, want %v to %v", i+1, got[i], shortest, longest)
		}
	}
}

func TestTheTermBeginsWithTheFetch(t *testing.T) {
	term := Term{Renew: 10 * time.Second, Until: 18 * time.Second}
	r := &remote{term: term, takes: 9 * time.Second}
	testValue(t, r, func(t *testing.T, v *Value[int]) {
		wantResult(t, get(v), result{value: 1, took: 9 * time.Second})
		if age := time.Since(v.Begun()); age != 9*time.Second {
			t.Errorf("Begun is %v ago, want 9s", age)
		}
		r.set(hang, nil)
		time.Sleep(9*time.Second - time.Millisecond) // 1 ms before 18 s are over
		wantResult(t, get(v), result{value: 1})
		time.Sleep(time.Millisecond)
		if got := get(v); got.err == nil {
			t.Errorf("after its expiry: %d, want an error", got.value)
		}
		if gap := r.gaps(1)[0]; gap != 10*time.Second { // 1 s is the least after a fetch
			t.Errorf("the renewal began %v after the fetch, want 10s", gap)
		}
	})
}

func TestRenewals(t *testing.T) {
	r := &remote{term: hourly, takes: time.Second}
	testValue(t, r, func(t *testing.T, v *Value[int]) {
		get(v)
		for range 24 * 60 {
			time.Sleep(time.Minute)
			got, age := get(v), time.Since(v.Begun())
			if got.err != nil || got.took > 0 || age > hourly.Renew+time.Second {
				t.Fatalf("got %+v, %v old; want a value of at most half an hour at once", got, age)
			}
		}
		time.Sleep(72 * time.Hour) // idle
		wantResult(t, get(v), result{value: len(r.fetches())})

		gaps := slices.Sorted(slices.Values(r.gaps(1)))
		if gaps[0] < hourly.Renew*9/10 || gaps[len(gaps)-1] > hourly.Renew {
			t.Errorf("renewals after %v, want 30m less up to a tenth", gaps)
		}
		if len(slices.Compact(gaps)) < 10 {
			t.Errorf("renewals after %v: replicas started together would stay together", gaps)
		}
	})
}

// A timer stands still while a laptop sleeps; the wall clock goes on, as v.left says.
func TestALaptopWakesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: hourly}
		var slept atomic.Int64 // since the last fetch
		v := New(Config[int]{Fetch: func(ctx context.Context) (int, Term, error) {
			slept.Store(0)
			return r.fetch(ctx)
		}})
		v.left = func(t time.Time) time.Duration { return Until(t) - time.Duration(slept.Load()) }
		go v.Run(t.Context())
		time.Sleep(70 * time.Second) // 20 s before Run looks at the clock
		slept.Store(int64(70 * time.Minute))
		wantResult(t, get(v), result{err: ErrNotFetched}) // it has expired, and a fetch begins
		time.Sleep(70 * time.Second)
		slept.Store(int64(40 * time.Minute)) // past the renewal, but not past the expiry
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
	if left := Until(end); left > time.Hour || left < 0 {
		t.Errorf("Until in an hour = %v", left)
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
		begun := time.Now()
		v.Run(ctx)
		if took := time.Since(begun); took != 4*time.Second {
			t.Errorf("Run returned after %v, want 4s", took)
		}
		if want := []result{{took: 2 * time.Second, err: errDown}}; !slices.Equal(reports, want) {
			t.Errorf("reports %v, want %v and none of the interrupted fetch", reports, want)
		}
	})
}
