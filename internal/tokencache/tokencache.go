// Package tokencache remembers user tokens that passed every check, so that one
// sent again costs a hash instead of a signature. When the keys change, make a new
// cache: what was verified with another key set is verified again.
package tokencache

import (
	"crypto/sha256"
	"encoding/binary"
	"sync/atomic"
	"time"
)

// A Cache remembers up to 8192 tokens, each with the subject of its user. The zero
// value is ready to use, from any number of goroutines. A token's hash chooses its
// slot, and replaces the token there; only verified tokens do, so a caller cannot
// evict others at will.
type Cache struct {
	slots [1 << 13]atomic.Pointer[entry]
}

type entry struct {
	key     Key // never the token itself
	subject string
	expiry  time.Time
}

// A Key is the SHA-256 of a token.
type Key [sha256.Size]byte

// KeyOf hashes a token. It is not inlined, since its buffer would double the stack
// of each connection that verifies a token.
//
//go:noinline
func KeyOf(token string) Key {
	var buffer [1 << 10]byte // on the stack: most tokens fit
	return sha256.Sum256(append(buffer[:0], token...))
}

// Get returns the subject of a remembered token that has not expired.
func (c *Cache) Get(key Key) (subject string, ok bool) {
	e := c.slot(key).Load()
	if e == nil || e.key != key || !time.Now().Before(e.expiry) {
		return "", false
	}
	return e.subject, true
}

// Put remembers a token until its expiry.
func (c *Cache) Put(key Key, subject string, expiry time.Time) {
	c.slot(key).Store(&entry{key, subject, expiry})
}

func (c *Cache) slot(key Key) *atomic.Pointer[entry] {
	return &c.slots[int(binary.LittleEndian.Uint16(key[:]))%len(c.slots)]
}
