package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"

	"itwin-token-server/internal/standin"
)

const (
	audience = "http://tokenserver.sample.bentley.com"
	scope    = "openid"
)

// world is all that the targets meet: a stand-in tenant and IMS in this
// process, whose CPU time is nobody's, and the requests of their callers.
type world struct {
	*standin.Standin
	dir      string   // of its own, removed at the end
	bin      string   // folder: what is kept from one run to the next
	ca       string   // file
	answer   string   // file: the server's own 200, which bare and floor give back
	repeated []byte   // one request
	distinct [][]byte // requests, no two with the same token
}

// newWorld starts the stand-ins. The caller closes it.
func newWorld() (*world, error) {
	bin, err := filepath.Abs(".bin")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "itwin-token-server-bench")
	if err != nil {
		return nil, err
	}
	w := &world{dir: dir, bin: bin, ca: filepath.Join(dir, "ca.pem"), answer: filepath.Join(dir, "answer")}
	if w.Standin, err = standin.New(); err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	if err := w.Start(); err != nil {
		w.close()
		return nil, err
	}
	if err := os.WriteFile(w.ca, w.CACert(), 0o600); err != nil {
		w.close()
		return nil, err
	}
	w.repeated = w.request(0)
	return w, nil
}

func (w *world) close() {
	w.Close()
	os.RemoveAll(w.dir)
}

// sign makes n requests with distinct tokens. It takes about a millisecond of
// CPU each, and is done once: each target process is sent a request of the list
// at most once in its life, so to that process every token is new.
func (w *world) sign(n int) {
	w.distinct = make([][]byte, n)
	var wg sync.WaitGroup
	workers := runtime.GOMAXPROCS(0)
	for first := range workers {
		wg.Go(func() {
			for i := first; i < n; i += workers {
				w.distinct[i] = w.request(i + 1)
			}
		})
	}
	wg.Wait()
}

// request is what an app sends for user number i.
func (w *world) request(i int) []byte {
	token := w.Tenant.AccessToken(audience, standin.Claims{
		"sub": fmt.Sprintf("auth0|%024x", i),
		"jti": fmt.Sprintf("%022x", i),
	})
	return []byte("GET /getToken HTTP/1.1\r\n" +
		"Host: 127.0.0.1:3001\r\n" +
		"User-Agent: Dalvik/2.1.0 (Linux; U; Android 15; Pixel 9)\r\n" +
		"Accept: */*\r\n" +
		"Accept-Encoding: gzip\r\n" +
		"Authorization: Bearer " + token + "\r\n\r\n")
}

// settings are the environment of the four targets that are ours; each reads
// the ones it knows.
func (w *world) settings(addr string) []string {
	return []string{
		"SSL_CERT_FILE=" + w.ca,
		"ADDR=" + addr,
		"ANSWER=" + w.answer,
		"ISSUER=" + w.Tenant.Issuer(),
		"AUDIENCE=" + audience,
		"AUTHORITY=" + w.IMS.URL(),
		"CLIENT_ID=" + w.IMS.ClientID(),
		"CLIENT_SECRET=" + w.IMS.ClientSecret(),
	}
}
