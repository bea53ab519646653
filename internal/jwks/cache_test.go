package jwks

import (
	"crypto/sha256"
	"testing"
	"testing/synctest"
	"time"
)

func TestCache(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Cache
		wantGet := func(hash [sha256.Size]byte, want string) {
			t.Helper()
			if got, ok := c.Get(hash); got != want || ok != (want != "") {
				t.Errorf("Get = %q, %v, want %q", got, ok, want)
			}
		}
		jane, expiry := sha256.Sum256([]byte("Jane's token")), time.Now().Add(time.Hour)
		wantGet(jane, "")
		c.Put(jane, "jane", expiry)
		for i := range jane { // the whole hash counts, also in the same slot
			other := jane
			other[i] ^= 0x80
			wantGet(other, "")
		}
		joe := jane // in the same slot
		joe[31] ^= 1
		c.Put(joe, "joe", expiry)
		wantGet(jane, "")
		time.Sleep(time.Hour - time.Nanosecond)
		wantGet(joe, "joe")
		time.Sleep(time.Nanosecond)
		wantGet(joe, "")
	})
}
