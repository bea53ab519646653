package logs

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A reader takes what is written, when it is let.
type reader struct {
	bytes.Buffer
	writes int
	gate   chan struct{} // closed: open
}

func (r *reader) Write(p []byte) (int, error) {
	<-r.gate
	r.writes++
	return r.Buffer.Write(p)
}

func newReader(open bool) *reader {
	r := &reader{gate: make(chan struct{})}
	if open {
		close(r.gate)
	}
	return r
}

func TestAQueueWritesEveryLineInOrderInFewWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReader(true)
		q := NewQueue(r)
		var want strings.Builder
		for i := range 1000 { // a line a millisecond
			line := fmt.Sprintf("line %d\n", i)
			want.WriteString(line)
			q.Write([]byte(line))
			time.Sleep(time.Millisecond)
		}
		q.Close()
		if got := r.String(); got != want.String() {
			t.Errorf("got %d bytes, want the %d that were logged, in order", len(got), want.Len())
		}
		if r.writes > 102 { // one in 10 ms
			t.Errorf("%d writes, want about 100", r.writes)
		}
	})
}

func TestALineIsWrittenAtOnceWhereNoneWasBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReader(true)
		q := NewQueue(r)
		time.Sleep(time.Hour)
		q.Write([]byte("a line\n"))
		synctest.Wait()
		if got := r.String(); got != "a line\n" {
			t.Errorf("at once %q is written, want the line", got)
		}
		q.Close()
	})
}

func TestWhoLogsNeverWaitsForWhoReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReader(false)
		q := NewQueue(r)
		line := bytes.Repeat([]byte("x"), 1<<20)
		line[len(line)-1] = '\n'
		q.Write(line)
		synctest.Wait() // the first is being written, and hangs
		var writers sync.WaitGroup
		begun := time.Now()
		for range 6 {
			writers.Go(func() { q.Write(line) })
		}
		writers.Wait()
		if took := time.Since(begun); took != 0 {
			t.Errorf("the writers waited %v", took)
		}
		close(r.gate)
		q.Close()
		got := r.String()
		if n := strings.Count(got, "x\n"); n != 5 {
			t.Errorf("%d lines are written, want 5: one at once, and the 4 MiB that may wait", n)
		}
		if want := `{"level":"WARN","msg":"the log is read too slowly","lost":2}` + "\n"; !strings.HasSuffix(got, want) {
			t.Errorf("the log does not end with %s", want)
		}
	})
}

func TestAStuckReaderDoesNotKeepTheProgramFromItsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReader(false)
		q := NewQueue(r)
		q.Write([]byte("a line\n"))
		begun := time.Now()
		q.Close()
		if took := time.Since(begun); took != lastWords {
			t.Errorf("Close took %v, want %v", took, lastWords)
		}
		close(r.gate)
	})
}

func TestAQueueFromManyGoroutinesLosesNothing(t *testing.T) {
	r := newReader(true)
	q := NewQueue(r)
	var writers sync.WaitGroup
	for range 8 {
		writers.Go(func() {
			for range 1000 {
				q.Write([]byte("line\n"))
			}
		})
	}
	writers.Wait()
	q.Close()
	if got := strings.Count(r.String(), "line\n"); got != 8000 {
		t.Errorf("%d lines, want 8000", got)
	}
}
