package tokencache

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func wantGet(t *testing.T, tokens *Tokens[string], token, want string, wantOK bool) {
	t.Helper()
	if got, ok := tokens.Place(token).Get(); got != want || ok != wantOK {
		t.Errorf("%.20s: got %q, %v, want %q, %v", token, got, ok, want, wantOK)
	}
}

func TestHitAndMiss(t *testing.T) {
	var tokens Tokens[string]
	later := time.Now().Add(time.Hour)
	long := strings.Repeat("x", 16<<10)
	wantGet(t, &tokens, "", "", false)
	wantGet(t, &tokens, "jane's", "", false)
	for _, token := range []string{"jane's", long + "1", long + "2", ""} {
		tokens.Place(token).Put("of "+token, later)
	}
	wantGet(t, &tokens, "jane's", "of jane's", true)
	wantGet(t, &tokens, long+"1", "of "+long+"1", true)
	wantGet(t, &tokens, long+"2", "of "+long+"2", true)
	wantGet(t, &tokens, "", "of ", true)
	wantGet(t, &tokens, "jane's.", "", false)
	wantGet(t, &tokens, "Jane's", "", false)
	var other Tokens[string]
	wantGet(t, &other, "jane's", "", false)
}

func TestAPlaceSeesWhatIsPutLater(t *testing.T) {
	var tokens Tokens[string]
	place := tokens.Place("jane's")
	tokens.Place("jane's").Put("first", time.Now().Add(time.Hour))
	if got, ok := place.Get(); got != "first" || !ok {
		t.Errorf("got %q, %v, want first", got, ok)
	}
	place.Put("second", time.Now().Add(time.Hour))
	wantGet(t, &tokens, "jane's", "second", true)
}

func TestEndsWhenItsTimeIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tokens Tokens[string]
		tokens.Place("jane's").Put("jane", time.Now().Add(time.Hour))
		time.Sleep(time.Hour - 1)
		wantGet(t, &tokens, "jane's", "jane", true)
		time.Sleep(time.Nanosecond)
		wantGet(t, &tokens, "jane's", "", false)
		tokens.Place("dead").Put("joe", time.Now())
		wantGet(t, &tokens, "dead", "", false)
		tokens.Place("never").Put("joe", time.Time{})
		wantGet(t, &tokens, "never", "", false)
	})
}

// rival is another token that has its slot where this one has.
func rival(token string) string {
	slot := func(token string) uint16 {
		sum := sha256.Sum256([]byte(token))
		return binary.LittleEndian.Uint16(sum[:]) % size
	}
	for i := 0; ; i++ {
		if other := fmt.Sprint(token, i); slot(other) == slot(token) {
			return other
		}
	}
}

func TestNewcomerTakesThePlace(t *testing.T) {
	var tokens Tokens[string]
	other, later := rival("jane's"), time.Now().Add(time.Hour)
	tokens.Place("jane's").Put("jane", later)
	wantGet(t, &tokens, other, "", false) // a slot is no proof
	tokens.Place(other).Put("joe", later)
	wantGet(t, &tokens, other, "joe", true)
	wantGet(t, &tokens, "jane's", "", false)
	tokens.Place("jane's").Put("jane", later)
	wantGet(t, &tokens, "jane's", "jane", true)
}

func TestRemembersAtMost8192(t *testing.T) {
	const put = 50_000
	var tokens Tokens[int]
	later := time.Now().Add(time.Hour)
	for i := range put {
		tokens.Place(fmt.Sprint(i)).Put(i, later)
	}
	hits := 0
	for i := range put {
		if got, ok := tokens.Place(fmt.Sprint(i)).Get(); ok {
			hits++
			if got != i {
				t.Fatalf("%d: got the value of %d", i, got)
			}
		}
	}
	// Each slot was hit 6 times on average, so some 18 stay empty (8192/e^6.1).
	if hits > 8192 || hits < 8100 {
		t.Errorf("remembers %d of %d, want 8192", hits, put)
	}
}

func TestConcurrentUse(t *testing.T) {
	var tokens Tokens[string]
	all := []string{"jane's", rival("jane's"), "joe's"}
	later := time.Now().Add(time.Hour)
	var users sync.WaitGroup
	for range 4 {
		users.Go(func() {
			for i := range 3000 {
				token := all[i%len(all)]
				tokens.Place(token).Put("of "+token, later)
				for _, token := range all {
					if got, ok := tokens.Place(token).Get(); ok && got != "of "+token {
						t.Errorf("%s: got %q", token, got)
					}
				}
			}
		})
	}
	users.Wait()
}

func TestAHitCostsNoMemory(t *testing.T) {
	var tokens Tokens[string]
	token := strings.Repeat("x", 1000) // as long as Auth0 makes them
	tokens.Place(token).Put("jane", time.Now().Add(time.Hour))
	hit := true
	if n := testing.AllocsPerRun(100, func() { _, ok := tokens.Place(token).Get(); hit = hit && ok }); n != 0 || !hit {
		t.Errorf("%v allocations (a hit: %v), want none", n, hit)
	}
}
