package standin

import (
	"bytes"
	"regexp"
	"sync"
	"time"
)

// TB is the part of [testing.TB] that the test kit needs. The demo links this package
// into the released program, which package testing stays out of.
type TB interface {
	Helper()
	Cleanup(func())
	Fatal(...any)
}

// shared makes the keys that all tests of a process use: RSA keys take long to make.
var shared = sync.OnceValues(New)

// ForTest returns a new Standin that is closed when the test ends. Nothing listens;
// use [Standin.Transport], in a synctest bubble too.
func ForTest(t TB) *Standin {
	t.Helper()
	base, err := shared()
	if err != nil {
		t.Fatal(err)
	}
	s, err := base.Fresh()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// StartForTest is ForTest and Start: both servers listen on loopback.
func StartForTest(t TB) *Standin {
	t.Helper()
	s := ForTest(t)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	return s
}

// Log keeps what is written to it, such as a program's log or output. The zero value
// is empty and ready to use. Methods are safe for concurrent use.
type Log struct {
	mu      sync.Mutex // guards what follows
	text    bytes.Buffer
	written chan struct{} // closed at the next Write; nil: nothing waits for it
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.written != nil {
		close(l.written)
		l.written = nil
	}
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
	timeout := time.After(30 * time.Second)
	for {
		text, written := l.read()
		if match := re.FindStringSubmatch(text); match != nil {
			return match[len(match)-1]
		}
		select {
		case <-written:
		case <-timeout:
			t.Fatal("no match of " + pattern + " in:\n" + text)
		}
	}
}

// read returns the text and a channel that the next Write closes.
func (l *Log) read() (string, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.written == nil {
		l.written = make(chan struct{})
	}
	return l.text.String(), l.written
}
