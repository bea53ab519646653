package standin

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"syscall"
)

// transport serves requests in goroutines of their own, without sockets. All that
// one waits on is made within RoundTrip, so in the caller's synctest bubble.
type transport struct{ tenant, ims *Server }

// RoundTrip follows http.RoundTripper: no redirects, and the body is closed.
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	x, err := t.dial(req)
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	go x.serve()
	select {
	case <-x.begun:
	case <-x.ctx.Done():
	}
	// Asked first: a handler that saw its client leave has begun or ended somehow.
	if err := x.left(); err != nil {
		return nil, err
	}
	if x.response == nil {
		x.visit.cancel(nil)
		return nil, io.ErrUnexpectedEOF
	}
	return x.response, nil
}

// exchange is one request and its answer. The handler's goroutine owns header and
// sent; it sets response before it closes begun, and RoundTrip reads it after.
type exchange struct {
	server *Server
	visit  *visit
	asked  *http.Request
	ctx    context.Context // the request's, which Stop ends too

	header   http.Header
	sent     int64
	reader   *io.PipeReader
	body     *io.PipeWriter
	begun    chan struct{} // closed when the header is sent, or never will be
	response *http.Response
}

func (t transport) dial(req *http.Request) (*exchange, error) {
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	if req.URL.Scheme != "https" {
		return nil, fmt.Errorf("standin: got the scheme %q, want https", req.URL.Scheme)
	}
	server := t.find(req.URL.Host)
	if server == nil {
		unknown := &net.DNSError{Err: "no such host", Name: req.URL.Hostname(), IsNotFound: true}
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: unknown}
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	reader, writer := io.Pipe()
	x := &exchange{
		server: server,
		reader: reader,
		body:   writer,
		visit:  &visit{cancel},
		asked:  req,
		ctx:    ctx,
		header: http.Header{},
		begun:  make(chan struct{}),
	}
	if !server.admit(x.visit) {
		cancel(nil)
		refused := os.NewSyscallError("connect", syscall.ECONNREFUSED)
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: refused}
	}
	return x, nil
}

func (t transport) find(host string) *Server {
	for _, server := range []*Server{t.tenant, t.ims} {
		if host == server.name || host == server.host() {
			return server
		}
	}
	return nil
}

// left is why the client is gone or cut off; nil if it isn't.
func (x *exchange) left() error {
	if err := x.asked.Context().Err(); err != nil {
		return err
	}
	if context.Cause(x.ctx) == errCut {
		return errCut
	}
	return nil
}

// serve runs the handler as a server does. Only http.ErrAbortHandler is recovered
// from: any other panic is a test's own mistake, and should be seen.
func (x *exchange) serve() {
	defer x.server.dismiss(x.visit)
	defer context.AfterFunc(x.ctx, func() { x.body.CloseWithError(x.left()) })()
	r := x.request()
	defer r.Body.Close()
	defer func() {
		p := recover()
		x.end(p != nil)
		if p != nil && p != http.ErrAbortHandler {
			panic(p)
		}
	}()
	x.server.mux.ServeHTTP(x, r)
}

// request is the one that was asked, as a server reads it.
func (x *exchange) request() *http.Request {
	r := x.asked.Clone(x.ctx)
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	r.RequestURI = r.URL.RequestURI()
	r.URL.Scheme, r.URL.Host = "", ""
	if r.Body == nil {
		r.Body = http.NoBody
	}
	return r
}

// end says how the answer ended, to those who read its body or still wait for it.
func (x *exchange) end(aborted bool) {
	if !aborted {
		x.WriteHeader(http.StatusOK)
	}
	err := x.left()
	if err == nil && (aborted || x.response.ContentLength > x.sent) {
		err = io.ErrUnexpectedEOF
	}
	x.body.CloseWithError(err) // nil is io.EOF; the first to close it decides
	if x.response == nil {
		close(x.begun)
	}
}

// Header is part of http.ResponseWriter.
func (x *exchange) Header() http.Header { return x.header }

// WriteHeader lets RoundTrip return.
func (x *exchange) WriteHeader(code int) {
	if x.response != nil || code < 200 {
		return
	}
	length, err := strconv.ParseInt(x.header.Get("Content-Length"), 10, 64)
	if err != nil || x.asked.Method == http.MethodHead {
		length = -1
	}
	x.response = &http.Response{
		Status:        fmt.Sprintf("%d %s", code, http.StatusText(code)),
		StatusCode:    code,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        x.header.Clone(),
		Body:          body{x.reader, x.visit},
		ContentLength: length,
		Request:       x.asked,
	}
	close(x.begun)
}

// Write waits until the client has read p, closed the body or left.
func (x *exchange) Write(p []byte) (int, error) {
	x.WriteHeader(http.StatusOK)
	if x.asked.Method == http.MethodHead {
		return len(p), nil
	}
	n, err := x.body.Write(p)
	x.sent += int64(n)
	return n, err
}

// Flush has nothing to do beyond the header: Write keeps nothing back.
func (x *exchange) Flush() { x.WriteHeader(http.StatusOK) }

// body is an answer's. Closing it tells the handler that its client has left.
type body struct {
	*io.PipeReader
	visit *visit
}

func (b body) Close() error {
	b.visit.cancel(nil)
	return b.PipeReader.Close()
}
