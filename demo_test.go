package main

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"itwin-token-server/internal/demo"
	"itwin-token-server/internal/standin/standintest"
)

// With the shortest life that the demo allows, every token that is served is valid and
// has an expires_in of at least one second, on a machine where a grant takes 100 ms.
func TestShortestTokenLifeOfTheDemo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newIdleServer(t, nil)
		s.IMS.SetLife(demo.MinTokenLife)
		s.IMS.Misbehave(standintest.Delay(100 * time.Millisecond))
		s.start()
		for range 300 {
			w := s.get(s.userToken(), "application/json")
			var got struct {
				Token   string `json:"access_token"`
				Expires int    `json:"expires_in"`
			}
			err := json.Unmarshal(w.Body.Bytes(), &got)
			if err != nil || got.Expires < 1 || !s.IMS.Valid(got.Token) {
				t.Fatalf("got %s (%v), want a valid token for at least 1 s", w.Body, err)
			}
			time.Sleep(53 * time.Millisecond)
		}
	})
}
