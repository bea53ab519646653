package standintest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"time"
)

// Fault answers a request to an endpoint in place of the honest handler: the one that
// answers without a fault, which a Fault can use. Tests may write their own. One that
// waits must return when the request's context ends.
type Fault func(w http.ResponseWriter, r *http.Request, honest http.Handler)

// NamedFault is an element of Nonsense. The name can name a subtest.
type NamedFault struct {
	Name  string
	Fault Fault
}

const webPage = "<!doctype html><title>Sorry</title>" +
	"<h1>Something is wrong</h1><pre>" + Canary + "</pre>"

// Nonsense returns answers that are neither keys nor a token.
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
		{"error with status 200", Answer(200, asJSON, `{"error":"x","error_description":"`+Canary+`"}`)},
		{"truncated JSON", truncatedJSON()},
		{"truncated transfer", Truncated()},
		{"32 MiB", Huge(32 << 20)},
		{"redirect", Redirect(elsewhere)},
		{"wrong types", Answer(200, asJSON, `{"keys":"x","access_token":7,"expires_in":{}}`)},
		{"500 with HTML", Answer(500, asHTML, webPage)},
	}
}

// Status answers with the code and a text.
func Status(code int) Fault {
	return Answer(code, "text/plain; charset=utf-8", http.StatusText(code)+" "+Canary)
}

// Answer answers with just this.
func Answer(status int, contentType, body string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
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
func WithHeader(name, value string, fault Fault) Fault {
	return func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
		w.Header().Add(name, value)
		fault(w, r, honest)
	}
}

// Delay answers honestly, after d.
func Delay(d time.Duration) Fault {
	return func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
		wait(r.Context(), d)
		honest.ServeHTTP(w, r)
	}
}

// Hang never answers. It ends when the client closes the connection, or at Stop or Close.
func Hang() Fault {
	return func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		<-r.Context().Done()
		panic(http.ErrAbortHandler) // to return could send an empty 200 before the connection is closed
	}
}

// HangUp closes the connection without an answer.
func HangUp() Fault {
	return func(http.ResponseWriter, *http.Request, http.Handler) { panic(http.ErrAbortHandler) }
}

// truncatedJSON answers with half of the honest body, as if it were all.
func truncatedJSON() Fault {
	return rewrite(func(w http.ResponseWriter, _ *http.Request, body []byte) {
		w.Write(body[:len(body)/2])
	})
}

// Truncated sends half of the honest answer, then closes the connection.
func Truncated() Fault {
	return rewrite(func(w http.ResponseWriter, _ *http.Request, body []byte) {
		w.Write(body[:len(body)/2])
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
}

// Huge sends at least size spaces, which JSON allows, before the honest answer: a
// client that reads without a limit gets a good answer.
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

// rewrite sends the status and headers of the honest answer; send sends the body,
// given the honest one.
func rewrite(send func(w http.ResponseWriter, r *http.Request, body []byte)) Fault {
	return func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
		answer := &recorder{ResponseWriter: w}
		honest.ServeHTTP(answer, r)
		send(w, r, answer.body.Bytes())
	}
}

// recorder keeps the body of an answer. Status and headers go through.
type recorder struct {
	http.ResponseWriter
	body bytes.Buffer
}

func (a *recorder) Write(p []byte) (int, error) { return a.body.Write(p) }

// wait waits for d. If the client closes the connection first, it ends the handler.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
		panic(http.ErrAbortHandler)
	}
}
