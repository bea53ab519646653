package main

import (
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"testing"

	"itwin-token-server/internal/standin/standintest"
	"itwin-token-server/internal/telemetry"
)

// newWarmServer returns a server that has its keys and its token, and a full set of
// checks. It drops its log.
func newWarmServer(t testing.TB) *testServer {
	s := newIdleServer(t, func(c *config) { c.RequiredScopes = []string{"openid"} })
	s.observer.Log = telemetry.NewLog(io.Discard, "text", slog.LevelInfo)
	s.start()
	wantStatus(t, "the first token", s.get(s.userToken()), 200)
	return s
}

// userTokens returns tokens of n users.
func (s *testServer) userTokens(n int) []string {
	tokens := make([]string, n)
	for i := range tokens {
		tokens[i] = s.userToken(standintest.Claims{"sub": "auth0|" + strconv.Itoa(i)})
	}
	return tokens
}

// A sink is a ResponseWriter that costs next to nothing.
type sink struct{ header http.Header }

func (s sink) Header() http.Header               { return s.header }
func (s sink) Write(b []byte) (int, error)       { return len(b), nil }
func (s sink) WriteString(t string) (int, error) { return len(t), nil }
func (s sink) WriteHeader(int)                   {}

func (s *testServer) serve(r *http.Request) { s.handler.ServeHTTP(sink{http.Header{}}, r) }

// BenchmarkDistinct uses tokens of which none is seen twice by one server.
func BenchmarkDistinct(b *testing.B) {
	s := newWarmServer(b)
	tokens := s.userTokens(2000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i > 0 && i%len(tokens) == 0 {
			b.StopTimer()
			s = newWarmServer(b)
			b.StartTimer()
		}
		s.serve(newRequest(tokens[i%len(tokens)]))
	}
}

func BenchmarkRepeated(b *testing.B) {
	s := newWarmServer(b)
	r := newRequest(s.userToken())
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		r := r.Clone(b.Context())
		for pb.Next() {
			s.serve(r)
		}
	})
}

// The hot path's allocations, with a margin over what they are: 123 and 3 a request, and
// up to 3 more with the race detector, which empties pools at random.
func TestHotPathAllocations(t *testing.T) {
	s := newWarmServer(t)
	tokens := s.userTokens(101)
	next := 0
	distinct := testing.AllocsPerRun(100, func() {
		s.serve(newRequest(tokens[next]))
		next++
	})
	again := newRequest(tokens[0])
	repeated := testing.AllocsPerRun(100, func() { s.serve(again) })
	if distinct > 130 || repeated > 6 {
		t.Errorf("a distinct token costs %v allocations, a repeated one %v; want at most 130 and 6",
			distinct, repeated)
	}
}
