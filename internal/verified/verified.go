// Package verified remembers tokens that were found good, so that one sent again
// costs a hash instead of a signature.
//
// It holds only what may be believed: the owner makes a new one whenever the
// keys change, and puts in only tokens that passed every check.
package verified

import (
	"crypto/sha256"
	"encoding/binary"
	"sync/atomic"
	"time"
)

// size is the number of tokens remembered at most: a power of two under 10,000.
const size = 1 << 13

// Tokens remembers up to 8192 tokens, each with a value. Its zero value is
// empty. It takes no lock: each slot is an atomic pointer, chosen by the token's
// SHA-256, and a newcomer takes the place of who is there. Nobody can choose to
// collide with somebody else, since only tokens of the tenant's signing enter.
type Tokens[T any] struct {
	slots [size]atomic.Pointer[entry[T]]
}

type entry[T any] struct {
	sum   [sha256.Size]byte // never the token itself
	until time.Time
	value T
}

// Get returns the value put in for the token, until its time is over.
func (t *Tokens[T]) Get(token string) (value T, ok bool) {
	sum := sha256.Sum256([]byte(token))
	e := t.slot(sum).Load()
	if e == nil || e.sum != sum || !time.Now().Before(e.until) {
		return value, false
	}
	return e.value, true
}

// Put remembers the token's value until the given time.
func (t *Tokens[T]) Put(token string, value T, until time.Time) {
	sum := sha256.Sum256([]byte(token))
	t.slot(sum).Store(&entry[T]{sum, until, value})
}

func (t *Tokens[T]) slot(sum [sha256.Size]byte) *atomic.Pointer[entry[T]] {
	return &t.slots[binary.LittleEndian.Uint16(sum[:])%size]
}
