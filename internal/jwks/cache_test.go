package jwks

import (
	"crypto/sha256"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func hash(token string) [sha256.Size]byte { return sha256.Sum256([]byte(token)) }

func wantGet(t *testing.T, c *Cache, hash [sha256.Size]byte, want string) {
	t.Helper()
	if got, ok := c.Get(hash); got != want || ok != (want != "") {
		t.Errorf("Get = %q, %v, want %q", got, ok, want)
	}
}

func TestCacheExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c, other Cache
		wantGet(t, &c, hash("jane's"), "")
		c.Put(hash("jane's"), "jane", time.Now().Add(time.Hour))
		wantGet(t, &other, hash("jane's"), "")
		time.Sleep(time.Hour - time.Nanosecond)
		wantGet(t, &c, hash("jane's"), "jane")
		time.Sleep(time.Nanosecond)
		wantGet(t, &c, hash("jane's"), "")
	})
}

// Two tokens with one slot: the whole hash is compared, and the later one replaces the
// other, also at the same moment.
func TestCacheSlots(t *testing.T) {
	var c Cache
	one, expiry := hash("jane's"), time.Now().Add(time.Hour)
	c.Put(one, "jane", expiry)
	for i := range one {
		other := one
		other[i] ^= 0x80 // in another slot for the first two bytes, at most
		wantGet(t, &c, other, "")
	}
	other := one
	other[31] ^= 1
	c.Put(other, "joe", expiry)
	wantGet(t, &c, other, "joe")
	wantGet(t, &c, one, "")

	var users sync.WaitGroup
	for hash, subject := range map[[sha256.Size]byte]string{one: "jane", other: "joe"} {
		users.Go(func() {
			for range 3000 {
				c.Put(hash, subject, expiry)
				if got, ok := c.Get(hash); ok && got != subject {
					t.Errorf("Get = %q, want %q", got, subject)
				}
			}
		})
	}
	users.Wait()
}
