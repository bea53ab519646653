package standin

import (
	"bytes"
	"io"
	"net/http"
)

const (
	// maxBody is the limit of a request's body. A grant takes less than 1 KiB.
	maxBody = 64 << 10
	// elsewhere is a path that serves honest answers, uncounted. Redirect(elsewhere)
	// shows a client that follows redirects: it gets a good answer.
	elsewhere = "/elsewhere"
)

// endpoint counts the requests to a handler and applies the fault to them.
func (s *Server) endpoint(honest http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler := honest
		s.state.update(func(st *serverState) {
			st.requests++
			st.inFlight++
			st.most = max(st.most, st.inFlight)
			if st.fault != nil {
				handler = st.fault(honest)
			}
		})
		// The end of the answer is sent after this handler has returned, so a client
		// that has read it all and sends another request finds this one counted out.
		defer s.state.update(func(st *serverState) { st.inFlight-- })

		// net/http cancels the context of a closed connection only after the body was read.
		body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
		if err != nil {
			http.Error(w, "the body is too long or incomplete "+Canary, http.StatusRequestEntityTooLarge)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		handler.ServeHTTP(w, r)
	})
}
