package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"itwin-token-server/internal/standin"
)

// BenchmarkServe answers 4,000 requests over sockets, each of 2,000 tokens twice:
// first new, then known. make profile makes its CPU profile.
func BenchmarkServe(b *testing.B) {
	s := standin.ForTest(b)
	tokens := manyTokens(s, 2000)
	for b.Loop() {
		web := httptest.NewServer(warm(b, s).routes(nil))
		var clients sync.WaitGroup
		for part := range slices.Chunk(tokens, 100) {
			clients.Go(func() {
				conn, err := net.Dial("tcp", web.Listener.Addr().String())
				if err != nil {
					b.Error(err)
					return
				}
				defer conn.Close()
				answers := bufio.NewReader(conn)
				for _, token := range slices.Concat(part, part) {
					fmt.Fprintf(conn, "GET /getToken HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\nAuthorization: Bearer %s\r\n\r\n", token)
					answer, err := http.ReadResponse(answers, nil)
					if err != nil || answer.StatusCode != http.StatusOK {
						b.Errorf("%v, %v", answer, err)
						return
					}
					io.Copy(io.Discard, answer.Body)
				}
			})
		}
		clients.Wait()
		web.Close()
	}
}
