// Package verified remembers tokens that were found good, so that one sent again
// costs a hash instead of a signature.
//
// It holds only what may be believed: the owner makes a new one whenever the
// keys change, and puts in only tokens that passed every check.
package tokencache

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

// A Place is where a token is remembered, if it is.
type Place[T any] struct {
	slot *atomic.Pointer[entry[T]]
	sum  [sha256.Size]byte
}

// Place finds a token's place. The token is hashed here, and only here.
func (t *Tokens[T]) Place(token string) Place[T] {
	var buffer [1 << 10]byte // most tokens fit, and are then not copied to the heap
	sum := sha256.Sum256(append(buffer[:0], token...))
	return Place[T]{&t.slots[binary.LittleEndian.Uint16(sum[:])%size], sum}
}

// Get returns the value put in for the token, until its time is over.
func (p Place[T]) Get() (value T, ok bool) {
	e := p.slot.Load()
	if e == nil || e.sum != p.sum || !time.Now().Before(e.until) {
		return value, false
	}
	return e.value, true
}

// Put remembers the token's value until the given time.
func (p Place[T]) Put(value T, until time.Time) {
	p.slot.Store(&entry[T]{p.sum, until, value})
}
