package jwks

import (
	"crypto/sha256"
	"encoding/binary"
	"sync/atomic"
	"time"
)

// A Cache remembers up to 8192 tokens that passed every check, so that one which is sent
// again costs a hash instead of a signature. It holds the SHA-256 of a token, never the
// token itself. The zero value is ready to use, from any number of goroutines.
//
// The hash chooses the slot, and a token replaces the one that was there. Only verified
// tokens are remembered, so a caller cannot evict those of others at will.
type Cache struct {
	slots [1 << 13]atomic.Pointer[entry]
}

type entry struct {
	hash    [sha256.Size]byte
	subject string
	expiry  time.Time
}

// Get returns the subject of a remembered token that has not expired.
func (c *Cache) Get(hash [sha256.Size]byte) (subject string, ok bool) {
	e := c.slot(hash).Load()
	if e == nil || e.hash != hash || !time.Now().Before(e.expiry) {
		return "", false
	}
	return e.subject, true
}

// Put remembers a token until its expiry. After it the token is verified again, with the
// leeway.
func (c *Cache) Put(hash [sha256.Size]byte, subject string, expiry time.Time) {
	c.slot(hash).Store(&entry{hash, subject, expiry})
}

func (c *Cache) slot(hash [sha256.Size]byte) *atomic.Pointer[entry] {
	return &c.slots[int(binary.LittleEndian.Uint16(hash[:]))%len(c.slots)]
}
