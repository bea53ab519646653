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

var errDown = errors.New("down")

// A remote is a remote end to order: it answers with the number of the fetch.
type remote struct {
	takes       atomic.Int64 // how long an answer takes, as a time.Duration
	down        atomic.Bool
	deaf        atomic.Bool // never answers
	mu          sync.Mutex
	fetchBegins []time.Time // guarded by mu
	inside      atomic.Int64
	term        Term
}

func (r *remote) fetch(ctx context.Context) (int, Term, error) {
	if r.inside.Add(1) > 1 {
		panic("two fetches at once")
	}
	defer r.inside.Add(-1)
	r.mu.Lock()
	r.fetchBegins = append(r.fetchBegins, time.Now())
	n := len(r.fetchBegins)
	r.mu.Unlock()
	answer := time.After(time.Duration(r.takes.Load()))
	if r.deaf.Load() {
		answer = nil
	}
	select {
	case <-ctx.Done():
		return 0, Term{}, ctx.Err()
	case <-answer:
	}
	if r.down.Load() {
		return 0, Term{}, errDown
	}
	return n, r.term, nil
}

// begins are the times at which the fetches began.
func (r *remote) begins() []time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.fetchBegins)
}

// hourly is an iTwin token's term: an hour's life, served but for its last 5 s.
var hourly = Term{Renew: 30 * time.Minute, Until: time.Hour - 5*time.Second}

// start runs a value over r in the test's bubble, and stops it at the end.
func start(t *testing.T, r *remote, hurry time.Duration) *Value[int] {
	t.Helper()
	v := New(Config[int]{Fetch: r.fetch, MaxBackoff: hurry})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); v.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return v
}

// get reads v with ten seconds of patience; it says what came and what it took.
func get(v *Value[int]) (n int, took time.Duration, err error) {
	begun := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	n, err = v.Get(ctx)
	return n, time.Since(begun), err
}

// newer asks for another value than the last, with three seconds of patience.
func newer(v *Value[int]) (n int, took time.Duration) {
	begun := time.Now()
	last, _ := v.Last()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	n, _ = v.Newer(ctx, last)
	return n, time.Since(begun)
}

func wantFetches(t *testing.T, r *remote, want int) {
	t.Helper()
	synctest.Wait()
	if got := len(r.begins()); got != want {
		t.Errorf("%d fetches, want %d", got, want)
	}
}

func TestColdStartCosts500ReadersOneFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: hourly}
		r.takes.Store(int64(2 * time.Second))
		v := start(t, r, 0)
		var readers sync.WaitGroup
		for range 500 {
			readers.Go(func() {
				if n, took, err := get(v); n != 1 || took != 2*time.Second || err != nil {
					t.Errorf("get = %d after %v, %v; want 1 after 2s", n, took, err)
				}
			})
		}
		readers.Wait()
		wantFetches(t, r, 1)
	})
}

func TestReadersBeforeRunWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := New(Config[int]{Fetch: (&remote{term: hourly}).fetch})
		if _, took, err := get(v); !errors.Is(err, context.DeadlineExceeded) || took != 10*time.Second {
			t.Errorf("get before Run = %v after %v, want context.DeadlineExceeded after 10s", err, took)
		}
		if v.Had() {
			t.Error("Had() before the first fetch")
		}
	})
}

func TestAReaderThatLeavesSpoilsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: hourly}
		r.takes.Store(int64(2 * time.Second))
		v := start(t, r, 0)
		ctx, leave := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, leave)
		if _, err := v.Get(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("get of the one who left = %v, want context.Canceled", err)
		}
		if n, took, err := get(v); n != 1 || took != time.Second || err != nil {
			t.Errorf("get of the one who stayed = %d after %v, %v; want 1 after 1s", n, took, err)
		}
		wantFetches(t, r, 1)
	})
}

func TestAFetchThatHangsEndsAfterTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: hourly}
		r.deaf.Store(true)
		v := start(t, r, 0)
		if _, took, err := get(v); err == nil || took != 10*time.Second {
			t.Errorf("get = %v after %v, want an error after 10s", err, took)
		}
		r.deaf.Store(false)
		time.Sleep(minGap + time.Millisecond)
		if n, took, err := get(v); n != 2 || took != 0 || err != nil {
			t.Errorf("get = %d after %v, %v; want 2 at once", n, took, err)
		}
	})
}

func TestAfterAFailedFetchReadersAreAnsweredAtOnceAndHastenTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: hourly}
		r.down.Store(true)
		v := start(t, r, 0)
		time.Sleep(45 * time.Second) // the fifth pause, from about 31 s to about 61 s
		r.down.Store(false)
		before := len(r.begins())
		if _, took, err := get(v); !errors.Is(err, errDown) || took != 0 {
			t.Errorf("get = %v after %v, want errDown at once", err, took)
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
		r.down.Store(true)
		var lived time.Duration // the value lives for 59 min 55 s, of which one second is gone
		for lived = time.Second; ; lived += 100 * time.Millisecond {
			if _, _, err := get(v); err != nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if want := hourly.Until; lived < want || lived > want+100*time.Millisecond {
			t.Errorf("served for %v of an outage, want %v", lived, want)
		}
		for range 36000 { // another hour, ten readers a second
			get(v)
			time.Sleep(100 * time.Millisecond)
		}
		synctest.Wait()
		begins := r.begins()
		for i := 1; i < len(begins); i++ {
			if gap := begins[i].Sub(begins[i-1]); gap < minGap {
				t.Fatalf("fetches %d and %d are %v apart, want at least %v", i-1, i, gap, minGap)
			}
		}
		r.down.Store(false)
		get(v)
		time.Sleep(minGap + time.Millisecond)
		if _, took, err := get(v); err != nil || took != 0 {
			t.Errorf("a second after the return: get = %v after %v, want a value at once", err, took)
		}
	})
}

func TestBackoffGrowsFromOneSecondToThirty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: hourly}
		r.down.Store(true)
		start(t, r, 0)
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30, 30} {
			want *= time.Second
			if gap := r.begins()[i+1].Sub(r.begins()[i]); gap > want || gap < max(minGap, want*9/10) {
				t.Errorf("pause %d is %v, want %v less up to a tenth", i+1, gap, want)
			}
		}
	})
}

func TestHurryCapsTheBackoffWhileThereIsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: Term{Renew: time.Minute, Until: time.Hour}}
		r.down.Store(true)
		start(t, r, 4*time.Second)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		nothing := len(r.begins())
		if gap := r.begins()[nothing-1].Sub(r.begins()[nothing-2]); gap > 4*time.Second {
			t.Errorf("with nothing to serve the pause is %v, want at most 4s", gap)
		}
		r.down.Store(false)
		time.Sleep(5 * time.Second)
		r.down.Store(true)
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		last := len(r.begins()) - 1
		if gap := r.begins()[last].Sub(r.begins()[last-1]); gap < 27*time.Second {
			t.Errorf("with a value to serve the pause is %v, want about 30s", gap)
		}
	})
}

func TestAFailureThenASuccessResetsTheBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: Term{Renew: time.Minute, Until: time.Hour}}
		v := start(t, r, 0)
		for range 3 {
			time.Sleep(59 * time.Second)
			r.down.Store(true)
			time.Sleep(1500 * time.Millisecond) // one failure, at 54 to 60 s
			r.down.Store(false)
			time.Sleep(3 * time.Second)
			if _, took, err := get(v); err != nil || took != 0 {
				t.Fatalf("get = %v after %v, want a value at once", err, took)
			}
		}
	})
}

func TestALateAnswerCountsFromItsBegin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: Term{Renew: 10 * time.Second, Until: 18 * time.Second}}
		r.takes.Store(int64(9 * time.Second))
		v := start(t, r, 0)
		time.Sleep(9*time.Second + time.Millisecond)
		r.deaf.Store(true)
		time.Sleep(9*time.Second - 2*time.Millisecond) // 18 s after the begin, less 1 ms
		if n, _, err := get(v); n != 1 || err != nil {
			t.Errorf("just before its end: get = %d, %v; want 1", n, err)
		}
		time.Sleep(2 * time.Millisecond)
		if n, _, err := get(v); err == nil {
			t.Errorf("past its end: get = %d, want an error", n)
		}
	})
}

func TestADayOfRenewals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: hourly}
		r.takes.Store(int64(time.Second))
		v := start(t, r, 0)
		get(v)
		for range 24 * 60 * 6 { // a look every 10 s for a day
			n, took, err := get(v)
			if err != nil || took != 0 {
				t.Fatalf("get = %v after %v, want a value at once", err, took)
			}
			if left := time.Until(r.begins()[n-1].Add(time.Hour)); left < time.Hour*4/10 {
				t.Fatalf("a value with %v left, want at least 40%% of an hour", left)
			}
			time.Sleep(10 * time.Second)
		}
		synctest.Wait()
		// 48 half-lives, each up to a tenth shorter: 48 to 54 fetches.
		if n := len(r.begins()); n < 48 || n > 54 {
			t.Errorf("%d fetches in a day, want 48 to 54", n)
		}
	})
}

func TestRenewalsSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: hourly}
		start(t, r, 0)
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		begins := r.begins()
		pauses := make(map[time.Duration]bool)
		for i := 1; i < len(begins); i++ {
			pause := begins[i].Sub(begins[i-1])
			if pause > hourly.Renew || pause < hourly.Renew*9/10 {
				t.Errorf("a renewal after %v, want %v less up to a tenth", pause, hourly.Renew)
			}
			pauses[pause] = true
		}
		if len(pauses) < len(begins)/2 {
			t.Errorf("%d renewals have %d different pauses: replicas started together would stay together", len(begins), len(pauses))
		}
	})
}

func TestIdlenessDoesNotAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: hourly}
		v := start(t, r, 0)
		time.Sleep(72 * time.Hour)
		n, took, err := get(v)
		if err != nil || took != 0 {
			t.Fatalf("get = %v after %v, want a value at once", err, took)
		}
		if age := time.Since(r.begins()[n-1]); age > 30*time.Minute {
			t.Errorf("after three idle days the value is %v old, want at most 30m", age)
		}
	})
}

func TestShortTermsAreFetchedOnceASecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: Term{Renew: time.Millisecond, Until: 2 * time.Millisecond}}
		v := start(t, r, 0)
		for range 1000 {
			get(v)
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		if n := len(r.begins()); n < 9 || n > 11 {
			t.Errorf("%d fetches in 10s, want about 10", n)
		}
	})
}

func TestNewer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: Term{Renew: time.Hour, Until: 24 * time.Hour}}
		r.takes.Store(int64(time.Second))
		v := start(t, r, 0)
		get(v)

		var askers sync.WaitGroup
		for range 100 {
			askers.Go(func() {
				if n, took := newer(v); n != 2 || took != time.Second {
					t.Errorf("newer = %d after %v, want 2 after 1s", n, took)
				}
			})
		}
		askers.Wait()
		wantFetches(t, r, 2) // one for all who ask at one moment

		for n := 3; n <= 6; n++ { // with the one above, five in a burst
			if got, took := newer(v); got != n || took != time.Second {
				t.Errorf("newer = %d after %v, want %d after 1s", got, took, n)
			}
		}
		if got, took := newer(v); got != 6 || took != 0 {
			t.Errorf("newer past the burst = %d after %v, want 6 at once", got, took)
		}
		// The first ask was 5 s ago; its place in the burst is free again 30 s
		// after it, and the ask above is remembered until then.
		time.Sleep(27 * time.Second)
		wantFetches(t, r, 7)
	})
}

func TestNewerThanAnOldValueCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: Term{Renew: time.Hour, Until: 24 * time.Hour}}
		v := start(t, r, 0)
		get(v)
		if n, err := v.Newer(t.Context(), 0); n != 1 || err != nil {
			t.Errorf("newer than 0 = %d, %v; want 1", n, err)
		}
		wantFetches(t, r, 1)
	})
}

func TestAFloodOfAskersIsATrickleOfFetches(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: Term{Renew: time.Hour, Until: 24 * time.Hour}}
		r.takes.Store(int64(50 * time.Millisecond))
		v := start(t, r, 0)
		get(v)
		for range 6000 { // ten minutes, ten a second, half of which leave midway
			ctx, leave := context.WithCancel(t.Context())
			last, _ := v.Last()
			go v.Newer(ctx, last)
			time.Sleep(20 * time.Millisecond)
			leave()
			go newer(v)
			time.Sleep(80 * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		// The first, a burst of five, and one in each of the 20 half minutes.
		if n := len(r.begins()); n < 24 || n > 1+5+20 {
			t.Errorf("%d fetches, want about 26 at most", n)
		}
	})
}

func TestNewerKeepsTheValueThroughAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: Term{Renew: time.Hour, Until: 24 * time.Hour}}
		v := start(t, r, 0)
		get(v)
		r.down.Store(true)
		if n, took := newer(v); n != 1 || took != 0 {
			t.Errorf("newer = %d after %v, want 1 at once", n, took)
		}
		if age := time.Since(v.Begun()); age != 0 || !v.Had() {
			t.Errorf("the value is %v old, had: %v; want 0s and true", age, v.Had())
		}
		r.down.Store(false)
		r.deaf.Store(true)
		if n, took := newer(v); n != 1 || took != 3*time.Second {
			t.Errorf("newer of a fetch that hangs = %d after %v, want 1 after 3s", n, took)
		}
	})
}

func TestShutdownWhileFetching(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: hourly}
		r.deaf.Store(true)
		reports := 0
		v := New(Config[int]{Fetch: r.fetch, Report: func(time.Duration, error) { reports++ }})
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
			t.Error("a fetch that the shutdown cut was reported as a failure")
		}
	})
}

func TestReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &remote{term: hourly}
		r.takes.Store(int64(2 * time.Second))
		r.down.Store(true)
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
		r.down.Store(false)
		if got := <-reports; got != (report{2 * time.Second, nil}) {
			t.Errorf("second report = %v, want 2s and no error", got)
		}
	})
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

func BenchmarkGet(b *testing.B) {
	v := New(Config[int]{Fetch: (&remote{term: hourly}).fetch})
	go v.Run(b.Context())
	get(v)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			v.Get(b.Context())
		}
	})
}
