package faults

import (
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// A log that cannot be written does not end the program. If its reader has gone away or
// its disk is full, requests are served on. If its reader stops reading, requests wait,
// so that no token is handed out without its line; signals still end the program.

// A journald or a log driver that restarts closes the pipe that the program writes to.
func TestLogReaderGoesAway(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	p := f.startReady()
	p.stderr.Close()
	p.wantService()
}

func TestLogDiskIsFull(t *testing.T) {
	t.Parallel()
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err) // only Linux has it
	}
	defer full.Close()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().(*net.TCPAddr)
	listener.Close() // for the program, whose log cannot tell its port
	f := newFixture(t)
	cmd := f.command(t.Context(), nil, "PORT="+strconv.Itoa(addr.Port))
	cmd.Stderr = full
	p := f.run(cmd)
	p.addr = addr.String()
	p.awaitReady()
	p.wantService()
}

// wantService requests tokens, and then ends the program in order.
func (p *process) wantService() {
	p.t.Helper()
	for range 10 {
		p.get("/getToken", p.userToken()).wantStatus(p.t, "without a log", 200)
	}
	p.signal(syscall.SIGTERM)
	p.wantExit(0, 10*time.Second)
}

func TestLogReaderStopsReading(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		signals int
		timeout time.Duration
	}{
		{"one signal", 1, 15 * time.Second}, // 11 s, and a margin for a busy machine
		{"a second one, which ends it at once", 2, 3 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t)
			p := f.startReady()
			p.stderr.SetReadDeadline(time.Now())
			load := p.load(4, 0, oneOf(f.userTokens(4)...))
			load.await(100)
			load.awaitEnd() // since the pipe is full
			for range test.signals {
				p.signal(syscall.SIGTERM)
				time.Sleep(200 * time.Millisecond)
			}
			if !p.wantEnd(test.timeout) {
				return
			}
			p.stderr.SetReadDeadline(time.Time{})
			io.Copy(p.log, p.stderr) // what the pipe still holds
			served := slices.DeleteFunc(load.end(), func(r result) bool { return r.status != 200 })
			if lines := p.logLines("getToken status=200"); lines < len(served) {
				t.Errorf("%d tokens were handed out, %d of them with a line", len(served), lines)
			}
		})
	}
}
