package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// serve answers over real sockets, and returns the address.
func serve(t *testing.T, handler http.HandlerFunc) string {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func numbered(i int) []byte {
	return fmt.Appendf(nil, "GET /getToken HTTP/1.1\r\nHost: bench\r\nNumber: %d\r\n\r\n", i)
}

func TestEachRequestIsSentOnce(t *testing.T) {
	var mu sync.Mutex // guards seen
	seen := map[string]int{}
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen[r.Header.Get("Number")]++
		mu.Unlock()
		fmt.Fprint(w, "Bearer token")
	})
	p, err := dial(addr, 16)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	const n = 500
	if err := p.send(n, numbered, "Bearer "); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if got := seen[fmt.Sprint(i)]; got != 1 {
			t.Errorf("request %d was sent %d times, want once", i, got)
		}
	}
	if len(seen) != n {
		t.Errorf("%d requests were sent, want %d", len(seen), n)
	}
}

func TestOneBadAnswerFailsTheRun(t *testing.T) {
	for name, bad := range map[string]http.HandlerFunc{
		"a refusal":     func(w http.ResponseWriter, r *http.Request) { http.Error(w, "Bearer ", http.StatusUnauthorized) },
		"another body":  func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "bearer token") },
		"an empty body": func(w http.ResponseWriter, r *http.Request) {},
		"no length":     func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "Bearer "); w.(http.Flusher).Flush() },
		"a hang-up":     func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
		"a long answer": func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "Bearer ", strings.Repeat("x", 5000)) },
	} {
		t.Run(name, func(t *testing.T) {
			addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Header.Get("Number") == "77" {
					bad(w, r)
					return
				}
				fmt.Fprint(w, "Bearer token")
			})
			p, err := dial(addr, 4)
			if err != nil {
				t.Fatal(err)
			}
			defer p.close()
			if err := p.send(200, numbered, "Bearer "); err == nil || !strings.Contains(err.Error(), "request 78 of 200") {
				t.Errorf("send = %v, want request 78 of 200 named", err)
			}
		})
	}
}
