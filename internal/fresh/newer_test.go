package fresh

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestNewer(t *testing.T) {
	r := &remote{term: daily, takes: time.Second}
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

func TestNewerTakesTheFetchThatGetHasCaused(t *testing.T) {
	r := &remote{term: daily, err: errDown}
	testValue(t, r, func(t *testing.T, v *Value[int]) {
		time.Sleep(9 * time.Second) // the back-off is 8 s now, the last fetch 2 s ago
		r.set(time.Second, nil)
		get(v)
		synctest.Wait()
		wantResult(t, newer(v), result{value: 5, took: time.Second})
	})
}

// Half of the callers leave before the fetch has ended.
func TestAFloodOfNewerCausesSixFetchesAMinute(t *testing.T) {
	r := &remote{term: daily, takes: 50 * time.Millisecond}
	testValue(t, r, func(t *testing.T, v *Value[int]) {
		for range 6000 { // 10 min
			go read(v.Newer, 20*time.Millisecond)
			go newer(v)
			time.Sleep(100 * time.Millisecond)
		}
		gaps := r.gaps(1)
		if slices.Min(gaps) < 10*time.Second {
			t.Errorf("two fetches began %v apart, want at least 10s", slices.Min(gaps))
		}
		if longest := 10*time.Second + 100*time.Millisecond; slices.Max(gaps) > longest {
			t.Errorf("for %v no fetch began, want at most %v", slices.Max(gaps), longest)
		}
	})
}

func TestNewerInAnOutage(t *testing.T) {
	r := &remote{term: daily}
	testValue(t, r, func(t *testing.T, v *Value[int]) {
		time.Sleep(10 * time.Second)
		r.set(0, errDown)
		wantResult(t, newer(v), result{err: errDown, retry: time.Second}) // the back-off's first
		wantResult(t, get(v), result{value: 1})

		time.Sleep(45 * time.Second) // the back-off is 30 s now, the last fetch 13 s ago
		before := len(r.fetches())
		wantResult(t, newer(v), result{err: errDown, retry: 10 * time.Second})
		wantFetches(t, r, before+1)
		time.Sleep(4 * time.Second)
		wantResult(t, newer(v), result{err: errDown, retry: 6 * time.Second})
		wantFetches(t, r, before+1)

		r.set(hang, nil)
		time.Sleep(6 * time.Second)
		wantResult(t, newer(v), result{err: errTimeout, took: 3 * time.Second})
		wantResult(t, get(v), result{value: 1})
	})
}

// However the fetches of an outage fail, and whenever it ends.
func TestReadersSucceedSoonAfterAnOutage(t *testing.T) {
	const poll = 100 * time.Millisecond
	for _, test := range []struct {
		name  string
		read  func(*Value[int]) result
		takes time.Duration // of a fetch in the outage
		want  time.Duration
	}{
		{"Get, failures", get, 0, 5 * time.Second},
		{"Get, hanging fetches", get, hang, 11 * time.Second},
		{"Newer, failures", newer, 0, 15 * time.Second},
		{"Newer, hanging fetches", newer, hang, 15 * time.Second},
	} {
		for seconds := 60; seconds < 90; seconds++ {
			r := &remote{term: daily, takes: test.takes, err: errDown}
			testValue(t, r, func(t *testing.T, v *Value[int]) {
				for begun := time.Now(); time.Since(begun) < time.Duration(seconds)*time.Second; {
					test.read(v)
					time.Sleep(time.Second)
				}
				r.set(0, nil)
				end := time.Now()
				for test.read(v).err != nil {
					time.Sleep(poll)
				}
				if took := time.Since(end); took > test.want+poll {
					t.Errorf("%s: a value %v after %d s, want %v at most", test.name, took, seconds, test.want)
				}
			})
		}
	}
}

func TestAPauseIsNotCutShort(t *testing.T) {
	paused := fmt.Errorf("wrapped: %w", pause(12*time.Second))
	for _, until := range []time.Duration{time.Minute, time.Hour} { // without a value, with one
		r := &remote{term: Term{Renew: time.Minute, Until: until}}
		testValue(t, r, func(t *testing.T, v *Value[int]) {
			get(v)
			r.set(0, errDown)
			time.Sleep(3 * time.Minute) // the back-off is 30 s now
			r.set(0, paused)
			for !errors.Is(newer(v).err, paused) {
				time.Sleep(time.Second)
			}
			last := len(r.fetches())
			end := r.fetches()[last-1].Add(12 * time.Second)
			for left := time.Until(end); left > time.Second; left = time.Until(end) {
				want := result{err: paused, retry: left}
				wantResult(t, newer(v), want)
				if until == time.Hour {
					want = result{value: 1}
				}
				wantResult(t, get(v), want)
				time.Sleep(time.Second)
			}
			wantFetches(t, r, last)
			time.Sleep(2 * time.Second) // until at most 2 s after the pause
			wantFetches(t, r, last+1)
		})
	}
}
