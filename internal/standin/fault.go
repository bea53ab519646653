package standin

import (
	"bytes"
	"context"
	"io"
	"maps"
	"net/http"
	"strconv"
	"time"
)

// Fault makes an endpoint misbehave: it is given the honest handler. Faults can be
// nested, and written by hand; one that waits should heed its request's context.
type Fault func(honest http.Handler) http.Handler

// NamedFault is one of Nonsense. The name is fit for a subtest.
type NamedFault struct {
	Name  string
	Fault Fault
}

const webPage = "<!doctype html><title>Sorry</title><h1>Something is wrong</h1><pre>" + Canary + "</pre>"

// Nonsense is what upstreams say instead of an answer: each is to be refused whole,
// by those who want keys and by those who want a token.
func Nonsense() []NamedFault {
	const asJSON, asHTML = "application/json", "text/html; charset=utf-8"
	return []NamedFault{
		{"empty object", Answer(200, asJSON, `{}`)},
		{"no keys", Answer(200, asJSON, `{"keys":[]}`)},
		{"null", Answer(200, asJSON, `null`)},
		{"list", Answer(200, asJSON, `[]`)},
		{"empty body", Answer(200, asJSON, ``)},
		{"HTML", Answer(200, asHTML, webPage)},
		{"HTML said to be JSON", Answer(200, asJSON, webPage)},
		{"error with status 200", Answer(200, asJSON, `{"error":"server_error","error_description":"`+Canary+`"}`)},
		{"truncated JSON", half},
		{"truncated transfer", Truncated()},
		{"32 MiB", Huge(32 << 20)},
		{"redirect", Redirect(elsewhere)},
		{"wrong types", Answer(200, asJSON, `{"keys":"x","access_token":7,"token_type":7,"expires_in":{}}`)},
		{"500 with HTML", Answer(500, asHTML, webPage)},
	}
}

// Status answers with the code and a text. A code that is no final status counts as 500.
func Status(code int) Fault {
	return Answer(code, "text/plain; charset=utf-8", http.StatusText(code)+" "+Canary)
}

// Answer answers with just this; an empty contentType is not sent. A status that is
// no final one counts as 500.
func Answer(status int, contentType, body string) Fault {
	if status < 200 || status > 999 {
		status = http.StatusInternalServerError // net/http panics on some of these
	}
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			if contentType == "" {
				w.Header()["Content-Type"] = nil // or net/http would guess one
			}
			w.WriteHeader(status)
			io.WriteString(w, body)
		})
	}
}

// Delay answers honestly, after d.
func Delay(d time.Duration) Fault {
	return func(honest http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			pause(r.Context(), d)
			honest.ServeHTTP(w, r)
		})
	}
}

// Hang never answers. It ends when the client leaves, or at Stop or Close.
func Hang() Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			panic(http.ErrAbortHandler) // to return would be an empty 200
		})
	}
}

// HangUp closes the connection without an answer.
func HangUp() Fault {
	return func(http.Handler) http.Handler {
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			panic(http.ErrAbortHandler)
		})
	}
}

// Truncated announces the honest answer's length and closes the connection halfway.
func Truncated() Fault {
	return spoil(func(w http.ResponseWriter, _ *http.Request, answer *recorder) {
		body := answer.body.Bytes()
		w.Header().Set("Content-Length", strconv.Itoa(len(body)+1)) // +1: even if it was empty
		w.WriteHeader(answer.code)
		w.Write(body[:len(body)/2])
	})
}

// half sends half of the honest answer as if that were all.
func half(honest http.Handler) http.Handler {
	return spoil(func(w http.ResponseWriter, _ *http.Request, answer *recorder) {
		w.WriteHeader(answer.code)
		w.Write(answer.body.Bytes()[:answer.body.Len()/2])
	})(honest)
}

// Huge sends the honest answer behind so many bytes of blanks, which JSON allows:
// whoever reads without a limit is content.
func Huge(size int) Fault {
	return spoil(func(w http.ResponseWriter, _ *http.Request, answer *recorder) {
		w.WriteHeader(answer.code)
		blanks := bytes.Repeat([]byte{' '}, min(max(size, 0), maxBody))
		for sent := 0; sent < size; sent += len(blanks) {
			if _, err := w.Write(blanks[:min(len(blanks), size-sent)]); err != nil {
				return // the client has had enough
			}
		}
		w.Write(answer.body.Bytes())
	})
}

// Redirect points to url, with the method and body kept (307). A path stays on the
// same server.
func Redirect(url string) Fault {
	return func(http.Handler) http.Handler {
		return http.RedirectHandler(url, http.StatusTemporaryRedirect)
	}
}

// Drip sends the honest answer a byte at a time, with the interval between two.
func Drip(interval time.Duration) Fault {
	return spoil(func(w http.ResponseWriter, r *http.Request, answer *recorder) {
		w.WriteHeader(answer.code)
		for i := range answer.body.Len() {
			if i > 0 {
				http.NewResponseController(w).Flush()
				pause(r.Context(), interval)
			}
			w.Write(answer.body.Bytes()[i : i+1])
		}
	})
}

// spoil lets the honest handler answer, and sends something else. The honest
// headers are set already; the status is the caller's to send.
func spoil(send func(http.ResponseWriter, *http.Request, *recorder)) Fault {
	return func(honest http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			answer := &recorder{header: http.Header{}}
			honest.ServeHTTP(answer, r)
			answer.WriteHeader(http.StatusOK)
			maps.Copy(w.Header(), answer.header)
			send(w, r, answer)
		})
	}
}

// pause waits for d, and abandons the answer if its client leaves first.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		panic(http.ErrAbortHandler)
	}
}

// recorder keeps an answer.
type recorder struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (a *recorder) Header() http.Header { return a.header }

func (a *recorder) WriteHeader(code int) {
	if a.code == 0 {
		a.code = code
	}
}

func (a *recorder) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}
