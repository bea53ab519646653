// Package tests checks deploy/kubernetes.yaml against Kubernetes' own packages and against the
// server, and runs three replicas behind nginx with deploy/nginx.conf.
//
// It is a module of its own, so that the server needs none of these packages.
package tests

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// process is a server that is started, stopped and started again at one address.
type process struct {
	program string
	args    []string
	env     map[string]string
	output  io.Writer
	dir     string // an empty folder, so that no .env file is read
	address string
	cmd     *exec.Cmd
}

func (p *process) start(t *testing.T) {
	t.Helper()
	p.cmd = p.command(p.args...)
	p.cmd.Stderr = p.output
	check(t, p.cmd.Start())
	t.Cleanup(p.kill)
}

func (p *process) command(args ...string) *exec.Cmd {
	cmd := exec.Command(p.program, args...)
	cmd.Dir = p.dir
	for name, value := range p.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// kill ends the process without a shutdown. It may have ended already.
func (p *process) kill() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

// terminate sends SIGTERM and checks that the server exits with status 0 within 10 s.
func (p *process) terminate(t *testing.T) {
	t.Helper()
	began := time.Now()
	check(t, p.cmd.Process.Signal(syscall.SIGTERM))
	err := p.cmd.Wait()
	if took := time.Since(began); err != nil || took > 10*time.Second {
		t.Errorf("SIGTERM ended the server with %v after %v, want status 0 within 10 s", err, took)
	}
}

func waitForStatus(t *testing.T, client *http.Client, url string, status int) {
	t.Helper()
	waitFor(t, 10*time.Second, fmt.Sprintf("%d from %s", status, url), func() bool {
		got, _ := get(client, url)
		return got == status
	})
}

// get returns the status and the body, or status 0 if there is no answer.
func get(client *http.Client, url string) (int, string) {
	resp, err := client.Get(url)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

func waitFor(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s within %v", what, limit)
		}
	}
}

func build(t *testing.T) string {
	t.Helper()
	server := filepath.Join(t.TempDir(), "itwin-token-server")
	output, err := exec.Command("go", "build", "-C", "../..", "-o", server, ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, output)
	}
	return server
}

func write(t *testing.T, dir, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(dir, name)
	check(t, os.WriteFile(path, content, 0o600))
	return path
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// freeAddresses returns addresses that nothing listens on now.
func freeAddresses(t *testing.T, n int) []string {
	t.Helper()
	var addresses []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		defer l.Close()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses
}
