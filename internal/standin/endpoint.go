package standin

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"sync"
)

const (
	// maxBody is more than any grant takes.
	maxBody = 64 << 10
	// maxHeld is how much of an answer waits for its end; more is let go in parts.
	maxHeld = 64 << 10
	// elsewhere is where a redirect leads that should not be followed: the honest
	// answer is to be had there, so a client that follows is found out.
	elsewhere = "/elsewhere"
)

// endpoint is the one that is counted and misbehaves.
func (s *Server) endpoint(honest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler, leave := s.enter(honest)
		defer leave()
		defer context.AfterFunc(r.Context(), leave)()

		// Read first: net/http notices that a client has left only once it has its body.
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			http.Error(w, "the body is too long or broken off "+Canary, http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))

		answer := &heldBack{ResponseWriter: w}
		handler.ServeHTTP(answer, r)
		leave() // before the client can know that it was answered, and ask again
		answer.release()
	})
}

// enter counts a request in, and says what it meets; leave counts it out, once.
func (s *Server) enter(honest http.Handler) (handler http.Handler, leave func()) {
	s.mu.Lock()
	s.requests++
	s.now++
	s.most = max(s.most, s.now)
	fault := s.fault
	s.mu.Unlock()

	leave = sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.now--
	})
	if fault == nil {
		return honest, leave
	}
	return fault(honest), leave
}

// heldBack keeps the end of an answer until release, whatever the handler writes.
type heldBack struct {
	http.ResponseWriter
	code int // 0: none yet, so 200
	sent bool
	held []byte
}

func (h *heldBack) WriteHeader(code int) {
	if h.code == 0 {
		h.code = code
	}
}

func (h *heldBack) Write(p []byte) (int, error) {
	h.WriteHeader(http.StatusOK)
	if len(h.held)+len(p) > maxHeld {
		if err := h.release(); err != nil {
			return 0, err
		}
	}
	h.held = append(h.held, p...)
	return len(p), nil
}

// Flush sends what was written so far. A handler that flushes after its last
// byte gives the end away.
func (h *heldBack) Flush() {
	h.release()
	http.NewResponseController(h.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (h *heldBack) Unwrap() http.ResponseWriter { return h.ResponseWriter }

func (h *heldBack) release() error {
	h.WriteHeader(http.StatusOK)
	if !h.sent {
		h.sent = true
		h.ResponseWriter.WriteHeader(h.code)
	}
	if len(h.held) == 0 {
		return nil
	}
	_, err := h.ResponseWriter.Write(h.held)
	h.held = h.held[:0]
	return err
}
