// Package answer is what bare and floor share: the server's own 200 answer,
// given back byte for byte, over net/http.
package answer

import (
	"bufio"
	"io"
	"net/http"
	"os"
)

// Load reads the answer recorded in the named file, and returns a function
// that writes it: the same header fields, the same body.
func Load(file string) (func(http.ResponseWriter), error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	recorded, err := http.ReadResponse(bufio.NewReader(f), nil)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(recorded.Body)
	if err != nil {
		return nil, err
	}
	// net/http writes these two itself, at its own cost, as for the server.
	recorded.Header.Del("Date")
	recorded.Header.Del("Content-Length")

	return func(w http.ResponseWriter) {
		header := w.Header()
		for name, values := range recorded.Header {
			header[name] = values
		}
		w.Write(body)
	}, nil
}
