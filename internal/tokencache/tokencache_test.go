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
	tokens := []string{"jane's", long + "1", long + "2", ""}
	for _, token := range tokens {
		c.Put(KeyOf(token), "of "+token, time.Now().Add(time.Hour))
	}
	for _, token := range tokens {
		wantGet(t, &c, token, "of "+token)
	}
	wantGet(t, &c, "Jane's", "")
	wantGet(t, &other, "jane's", "")
}

func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c Cache
		c.Put(KeyOf("jane's"), "jane", time.Now().Add(time.Hour))
		time.Sleep(time.Hour - time.Nanosecond)
		wantGet(t, &c, "jane's", "jane")
		time.Sleep(time.Nanosecond)
		wantGet(t, &c, "jane's", "")
	})
}

func TestTokensOfOneSlot(t *testing.T) {
	var c Cache
	one, other := "jane's", ""
	key := KeyOf(one)
	c.Put(key, "jane", time.Now().Add(time.Hour))
	for i := range key { // the whole hash must be equal
		near := key
		near[i] ^= 0x80 // for 1 the other half of the slots
		if subject, ok := c.Get(near); ok {
			t.Errorf("Get of another hash in byte %d = %q, want nothing", i, subject)
		}
	}
	for i := 0; c.slot(KeyOf(other)) != c.slot(KeyOf(one)); i++ {
		other = fmt.Sprint("joe's", i)
	}
	expiry := time.Now().Add(time.Hour)
	c.Put(KeyOf(one), "jane", expiry)
	wantGet(t, &c, other, "") // the whole hash must be equal
	c.Put(KeyOf(other), "joe", expiry)
	wantGet(t, &c, other, "joe")
	wantGet(t, &c, one, "")
	var users sync.WaitGroup
	for token, subject := range map[string]string{one: "jane", other: "joe"} { // at once
		users.Go(func() {
			for range 3000 {
				c.Put(KeyOf(token), subject, expiry)
				if got, ok := c.Get(KeyOf(token)); ok && got != subject {
					t.Errorf("Get(%s) = %q, want %q", token, got, subject)
				}
			}
		})
	}
	users.Wait()
}
