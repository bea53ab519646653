package standin

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(Log)
		var writers sync.WaitGroup
		for i := range 10 {
			writers.Go(func() {
				time.Sleep(time.Duration(i) * time.Second)
				fmt.Fprintf(log, "line %d of it\n", i)
			})
		}
		if got := log.Await(t, `line (\d) of`); got != "0" {
			t.Errorf("the first group is %q, want 0", got)
		}
		if got := log.Await(t, `line 8`); got != "line 8" {
			t.Errorf("the match is %q, want line 8", got)
		}
		writers.Wait()
		if n := strings.Count(log.String(), "\n"); n != 10 {
			t.Errorf("%d lines, want 10", n)
		}
		failing := &failed{TB: t}
		var end sync.WaitGroup
		end.Go(func() { log.Await(failing, "line 10") })
		end.Wait()
		if !strings.Contains(failing.text, "line 10") {
			t.Errorf("a line that never comes: %q, want the test to fail", failing.text)
		}
	})
}

// failed is a test that keeps why it failed.
type failed struct {
	TB
	text string
}

func (f *failed) Fatalf(format string, args ...any) {
	f.text = fmt.Sprintf(format, args...)
	runtime.Goexit()
}
