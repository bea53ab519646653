package logs

import (
	"fmt"
	"io"
	"sync"
	"time"
)

const (
	// gather is how long lines wait for others to be written with: one call to
	// the system for all requests of that time, instead of one for each.
	gather = 10 * time.Millisecond

	// maxQueued bounds the lines that wait for a slow reader, in bytes.
	maxQueued = 4 << 20

	// lastWords is how long the end of the program waits for its log.
	lastWords = time.Second
)

// A Queue writes lines in the background, so that who logs never waits for who
// reads the log. When 4 MiB wait, further lines are left out, and a line says
// how many. Use [NewQueue].
type Queue struct {
	to   io.Writer
	wake chan struct{} // there are lines
	done chan struct{} // all is written, after Close

	mu      sync.Mutex // guards the rest; held for copying only, never for writing
	lines   []byte
	lost    int
	closing bool
}

// NewQueue makes a queue that writes to w. Close it, or its last lines are lost.
func NewQueue(w io.Writer) *Queue {
	q := &Queue{to: w, wake: make(chan struct{}, 1), done: make(chan struct{})}
	go q.run()
	return q
}

// Write queues a line, which it copies. It never fails.
func (q *Queue) Write(line []byte) (int, error) {
	q.mu.Lock()
	if len(q.lines)+len(line) > maxQueued {
		q.lost++
	} else {
		q.lines = append(q.lines, line...)
	}
	q.mu.Unlock()
	q.signal()
	return len(line), nil
}

// Close writes what waits, and returns when that is done, or after a second: a
// reader that is stuck must not keep the program from its end.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closing = true
	q.mu.Unlock()
	q.signal()
	select {
	case <-q.done:
	case <-time.After(lastWords):
	}
}

func (q *Queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// run is the one writer. It fills one buffer while the other is being written.
func (q *Queue) run() {
	defer close(q.done)
	var spare []byte
	for range q.wake {
		lines, lost, closing := q.take(spare)
		q.to.Write(lines) // where the log cannot be written, there is nowhere to say so
		if lost > 0 {
			// JSON is also a line that a reader of text understands.
			fmt.Fprintf(q.to, `{"level":"WARN","msg":"the log is read too slowly","lost":%d}`+"\n", lost)
		}
		if closing {
			return
		}
		spare = lines[:0]
		time.Sleep(gather)
	}
}

// take empties the queue; spare becomes its next buffer.
func (q *Queue) take(spare []byte) (lines []byte, lost int, closing bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	lines, lost, closing = q.lines, q.lost, q.closing
	q.lines, q.lost = spare, 0
	return lines, lost, closing
}
