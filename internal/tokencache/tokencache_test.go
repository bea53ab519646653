package tokencache

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func wantGet(t *testing.T, c *Cache, token, want string) {
	t.Helper()
	if got, ok := c.Get(KeyOf(token)); got != want || ok != (want != "") {
		t.Errorf("Get(%.20s) = %q, %v, want %q", token, got, ok, want)
	}
}

func TestGet(t *testing.T) {
	var c, other Cache
	long := strings.Repeat("x", 16<<10)
	wantGet(t, &c, "jane's", "")
	for _, token := range []string{"jane's", long + "1", long + "2", ""} {
		c.Put(KeyOf(token), "of "+token, time.Now().Add(time.Hour))
	}
	for _, token := range []string{"jane's", long + "1", long + "2", ""} {
		wantGet(t, &c, token, "of "+token)
	}
	wantGet(t, &c, "jane's.", "")
	wantGet(t, &c, "Jane's", "")
	wantGet(t, &other, "jane's", "")
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Cache
		c.Put(KeyOf("jane's"), "jane", time.Now().Add(time.Hour))
		time.Sleep(time.Hour - 1)
		wantGet(t, &c, "jane's", "jane")
		time.Sleep(time.Nanosecond)
		wantGet(t, &c, "jane's", "")
		c.Put(KeyOf("expired"), "joe", time.Now())
		wantGet(t, &c, "expired", "")
	})
}

// sameSlot returns another token that has the slot of this one.
func sameSlot(c *Cache, token string) string {
	for i := 0; ; i++ {
		if other := fmt.Sprint(token, i); c.slot(KeyOf(other)) == c.slot(KeyOf(token)) {
			return other
		}
	}
}

func TestALaterTokenReplacesAnEarlierOneInItsSlot(t *testing.T) {
	var c Cache
	other, expiry := sameSlot(&c, "jane's"), time.Now().Add(time.Hour)
	c.Put(KeyOf("jane's"), "jane", expiry)
	wantGet(t, &c, other, "") // the same slot is not enough: the whole hash must be equal
	c.Put(KeyOf(other), "joe", expiry)
	wantGet(t, &c, other, "joe")
	wantGet(t, &c, "jane's", "")
}

func TestConcurrentUse(t *testing.T) {
	var c Cache
	tokens := []string{"jane's", sameSlot(&c, "jane's"), "joe's"}
	expiry := time.Now().Add(time.Hour)
	var users sync.WaitGroup
	for range 4 {
		users.Go(func() {
			for i := range 3000 {
				c.Put(KeyOf(tokens[i%3]), "of "+tokens[i%3], expiry)
				for _, token := range tokens {
					if got, ok := c.Get(KeyOf(token)); ok && got != "of "+token {
						t.Errorf("Get(%s) = %q", token, got)
					}
				}
			}
		})
	}
	users.Wait()
}

func TestAHitDoesNotAllocate(t *testing.T) {
	var c Cache
	token := strings.Repeat("x", 1000) // a usual length
	c.Put(KeyOf(token), "jane", time.Now().Add(time.Hour))
	if n := testing.AllocsPerRun(100, func() { c.Get(KeyOf(token)) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}
