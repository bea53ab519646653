package standin

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"
)

// Fault makes an endpoint misbehave: it wraps the honest handler. Faults can be nested
// and written by hand. One that waits must return when the request's context ends.
type Fault func(honest http.Handler) http.Handler

// NamedFault is an element of Nonsense. The name can name a subtest.
type NamedFault struct {
	Name  string
	Fault Fault
}

const webPage = "<!doctype html><title>Sorry</title><h1>Something is wrong</h1><pre>" + Canary + "</pre>"

// Nonsense returns answers that are neither keys nor a token. A client must refuse
// each of them, whichever of the two it wants.
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
		{"truncated JSON", rewrite(func(w http.ResponseWriter, _ *http.Request, body []byte) {
			w.Write(body[:len(body)/2])
		})},
		{"truncated transfer", Truncated()},
		{"32 MiB", Huge(32 << 20)},
		{"redirect", Redirect(elsewhere)},
		{"wrong types", Answer(200, asJSON, `{"keys":"x","access_token":7,"token_type":7,"expires_in":{}}`)},
		{"500 with HTML", Answer(500, asHTML, webPage)},
	}
}

// Status answers with the code and a text.
func Status(code int) Fault {
	return Answer(code, "text/plain; charset=utf-8", http.StatusText(code)+" "+Canary)
}

// Answer answers with just this; an empty contentType is not sent.
func Answer(status int, contentType, body string) Fault {
	return fault(func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header()["Content-Type"] = nil // or net/http would guess one
		if contentType != "" {
			w.Header().Set("Content-Type", contentType)
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	})
}

// Throttle answers 429 with a Retry-After header of any text: seconds, a date, nonsense.
func Throttle(retryAfter string) Fault {
	return WithHeader("Retry-After", retryAfter, Status(http.StatusTooManyRequests))
}

// Redirect redirects to url with the method and body kept (307). A path stays on the
// same server.
func Redirect(url string) Fault {
	return WithHeader("Location", url, Status(http.StatusTemporaryRedirect))
}

// WithHeader is the fault with a header added to its answer.
func WithHeader(name, value string, base Fault) Fault {
	return fault(func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
		w.Header().Add(name, value)
		base(honest).ServeHTTP(w, r)
	})
}

// Delay answers honestly, after d.
func Delay(d time.Duration) Fault {
	return fault(func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
		wait(r.Context(), d)
		honest.ServeHTTP(w, r)
	})
}

// Hang never answers. It ends when the client closes the connection, or at Stop or Close.
func Hang() Fault {
	return fault(func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // to return would send an empty 200
	})
}

// HangUp closes the connection without an answer.
func HangUp() Fault {
	return fault(func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) })
}

// Truncated sends half of the honest answer, then closes the connection.
func Truncated() Fault {
	return rewrite(func(w http.ResponseWriter, _ *http.Request, body []byte) {
		w.Write(body[:len(body)/2])
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
}

// Huge sends size bytes of spaces or a little more, which JSON allows, before the
// honest answer: a client that reads without a limit gets a good answer.
func Huge(size int) Fault {
	return rewrite(func(w http.ResponseWriter, _ *http.Request, body []byte) {
		spaces := bytes.Repeat([]byte{' '}, 64<<10)
		for sent := 0; sent < size; sent += len(spaces) {
			if _, err := w.Write(spaces); err != nil {
				return // the client has closed the connection
			}
		}
		w.Write(body)
	})
}

// Drip sends the honest answer one byte at a time, with the interval between them.
func Drip(interval time.Duration) Fault {
	return rewrite(func(w http.ResponseWriter, r *http.Request, body []byte) {
		for i := range body {
			if i > 0 {
				http.NewResponseController(w).Flush()
				wait(r.Context(), interval)
			}
			w.Write(body[i : i+1])
		}
	})
}

func fault(serve func(w http.ResponseWriter, r *http.Request, honest http.Handler)) Fault {
	return func(honest http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(w, r, honest) })
	}
}

// rewrite sends the status and headers of the honest answer; send sends the body,
// given the honest one.
func rewrite(send func(w http.ResponseWriter, r *http.Request, body []byte)) Fault {
	return fault(func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
		answer := &recorder{ResponseWriter: w, status: http.StatusOK}
		honest.ServeHTTP(answer, r)
		w.WriteHeader(answer.status)
		send(w, r, answer.body.Bytes())
	})
}

// recorder keeps the status and the body of an answer. Headers go through.
type recorder struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (a *recorder) WriteHeader(status int)      { a.status = status }
func (a *recorder) Write(p []byte) (int, error) { return a.body.Write(p) }

// wait waits for d. If the client closes the connection first, it ends the handler.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
		panic(http.ErrAbortHandler)
	}
}
