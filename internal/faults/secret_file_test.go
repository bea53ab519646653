//go:build unix

package faults

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// The secret's file must be a regular file: opening a FIFO waits until another program
// writes to it. A FIFO is an error at the start. One that replaces the file later fails
// the next grants, and keeps neither requests nor the end of the program waiting.
func TestSecretFileIsAFIFO(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	path := filepath.Join(t.TempDir(), "secret")
	makeFIFO(t, path)
	for _, command := range []string{"serve", "check"} {
		f.wantStartError(command, "CLIENT_SECRET_FILE", "CLIENT_SECRET=", "CLIENT_SECRET_FILE="+path)
	}
}

func TestSecretFileBecomesAFIFO(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.IMS.SetLife(4 * time.Second) // so the next grant comes soon
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(f.IMS.ClientSecret()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p := f.startReady("CLIENT_SECRET=", "CLIENT_SECRET_FILE="+path)
	makeFIFO(t, path)
	p.log.Await(t, `level=(WARN|ERROR) .*`+prefix+`CLIENT_SECRET_FILE`)
	p.signal(syscall.SIGTERM)
	p.wantExit(0, 10*time.Second)
}

// makeFIFO replaces the file, if there is one.
func makeFIFO(t *testing.T, path string) {
	t.Helper()
	os.Remove(path)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
}
