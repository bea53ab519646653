package upstream

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxPause caps what is believed of Retry-After, so that no upstream can stop the
// server for longer than an operator would notice.
const maxPause = 5 * time.Minute

// A Kind says what went wrong, coarsely: enough to choose a status by.
type Kind string

const (
	Unreachable Kind = "unreachable" // there was no answer
	Slow        Kind = "slow"        // there was none in time
	Refused     Kind = "refused"     // the answer was no
	Throttled   Kind = "throttled"   // the answer was 429, or asked for a pause
	Nonsense    Kind = "nonsense"    // the answer was not what the protocol has
)

// An Error is a request that failed. Nothing in its text comes from the other
// side, so it may be logged.
type Error struct {
	Kind Kind
	Text string

	pause time.Duration
	dns   *net.DNSError
}

func (e *Error) Error() string { return e.Text }

// RetryAfter returns the pause that the other side asked for, 0 for none.
func (e *Error) RetryAfter() time.Duration { return e.pause }

// Unwrap returns the [*net.DNSError] if the host's name could not be resolved,
// nil otherwise.
func (e *Error) Unwrap() error {
	if e.dns == nil {
		return nil
	}
	return e.dns
}

// Errorf makes an [*Error]; its arguments must not come from the other side.
func Errorf(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Text: fmt.Sprintf(format, args...)}
}

// Errorf makes the [*Error] of an answer that is not a success: the host, a colon
// and the formatted text, which must not come from the other side. Its kind is
// [Refused], or [Throttled] if the answer is 429 or asks for a pause; the pause
// is then part of the error.
func (a Answer) Errorf(format string, args ...any) error {
	return a.fail(Refused, format, args...)
}

// fail is Errorf for any kind that the answer has if it is not [Throttled].
func (a Answer) fail(kind Kind, format string, args ...any) error {
	text := a.Host + ": " + fmt.Sprintf(format, args...)
	if a.RetryAfter > 0 {
		text += fmt.Sprintf(" (asked to wait %d s)", (a.RetryAfter+time.Second-1)/time.Second)
	}
	if a.RetryAfter > 0 || a.Status == http.StatusTooManyRequests {
		kind = Throttled
	}
	return &Error{Kind: kind, Text: text, pause: a.RetryAfter}
}

// retryAfter reads a Retry-After (RFC 9110 §10.2.3), seconds or a date, as the
// time to wait from now, at most maxPause. What is neither, or past, is 0.
func retryAfter(value string, now time.Time) time.Duration {
	if value != "" && strings.Trim(value, "0123456789") == "" {
		seconds, _ := strconv.ParseUint(value, 10, 64) // the largest uint64 if there are too many digits
		return time.Duration(min(seconds, uint64(maxPause/time.Second))) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	return max(0, min(at.Sub(now), maxPause))
}
