package standintest

import (
	"bytes"
	"regexp"
	"sync"
	"time"
)

// Log keeps what is written to it, such as a program's log or output. The zero value
// is empty and ready to use. Methods are safe for concurrent use.
type Log struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns all that was written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Await waits until the text matches the pattern, and returns the match of its last
// group, or the whole match. The test fails if that takes more than 30 s.
func (l *Log) Await(t TB, pattern string) string {
	t.Helper()
	re := regexp.MustCompile(pattern)
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		text := l.String()
		if match := re.FindStringSubmatch(text); match != nil {
			return match[len(match)-1]
		}
		if time.Since(start) > 30*time.Second {
			t.Fatal("no match of " + pattern + " in:\n" + text)
		}
	}
}
