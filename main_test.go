package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"itwin-token-server/internal/server"
	"itwin-token-server/internal/settings"
	"itwin-token-server/internal/standin/standintest"
	"itwin-token-server/internal/telemetry"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// A process is a program that runs until the test stops it.
type process struct {
	stdout, stderr *standintest.Log
	stop           func() error // as Ctrl-C does; returns run's error
}

func startProgram(t *testing.T, p program) *process {
	t.Helper()
	running := &process{stdout: new(standintest.Log), stderr: new(standintest.Log)}
	p.name, p.stdout, p.stderr = "go run .", running.stdout, running.stderr
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, p) }()
	running.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { running.stop() })
	return running
}

// wantEnd stops the program, which must end within ten seconds.
func (p *process) wantEnd(t *testing.T) {
	t.Helper()
	begun := time.Now()
	if err := p.stop(); err != nil || time.Since(begun) > 10*time.Second {
		t.Errorf("it ended with %v after %v, want nil within 10s", err, time.Since(begun))
	}
}

// wantBase returns the URL that the log announces for this machine.
func (p *process) wantBase(t *testing.T) string {
	t.Helper()
	return p.stderr.Await(t, `from="this machine" url=(https?://[^/]+)/getToken`)
}

// runOnce runs a command that ends by itself.
func runOnce(p program) (stdout, stderr string, err error) {
	out, log := new(standintest.Log), new(standintest.Log)
	p.name, p.stdout, p.stderr = "go run .", out, log
	if p.stdin == nil {
		p.stdin = strings.NewReader("")
	}
	err = run(context.Background(), p)
	return out.String(), log.String(), err
}

// settingsOf is the environment of a server that uses the stand-ins; more wins.
func settingsOf(s *standintest.Standin, more ...string) []string {
	return append([]string{
		prefix + "CLIENT_ID=" + s.IMS.ClientID(),
		prefix + "CLIENT_SECRET=" + s.IMS.ClientSecret(),
		prefix + "AUTH0_DOMAIN=" + s.Tenant.Domain(),
		prefix + "AUTH0_AUDIENCE=" + testAudience,
		prefix + "AUTHORITY=" + s.IMS.URL(),
		prefix + "HOST=127.0.0.1",
		prefix + "PORT=0",
	}, more...)
}

// fetch requests the text at the URL with a user token.
func fetch(t *testing.T, client *http.Client, url, token string) string {
	t.Helper()
	req := must(http.NewRequest(http.MethodGet, url, nil))
	req.Header.Set("Authorization", "Bearer "+token)
	req.Close = true
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return string(must(io.ReadAll(resp.Body)))
}

// golden compares with a file under testdata, or with -update writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// git may check it out with Windows line ends.
	if want := strings.ReplaceAll(string(text), "\r\n", "\n"); got != want {
		t.Errorf("%s: got\n%s\nwant\n%s\n(go test -update rewrites it)", path, got, want)
	}
}

func TestCommands(t *testing.T) {
	help := strings.ReplaceAll(usage, "PROGRAM", "go run .")
	versions := "itwin-token-server dev " + telemetry.Commit() + " " + runtime.Version() + "\n"
	for _, tt := range []struct{ args, stdout, err string }{
		{args: "help", stdout: help},
		{args: "-h", stdout: help},
		{args: "--help", stdout: help},
		{args: "demo -h", stdout: help},
		{args: "check --help", stdout: help},
		{args: "version", stdout: versions},
		{args: "hunter2", err: "want serve, demo, check, ready, version or help"},
		{args: "serve hunter2", err: "serve takes no arguments"},
		{args: "version hunter2", err: "version takes no arguments"},
		{args: "ready hunter2", err: "ready takes no arguments"},
		{args: "check a hunter2", err: "check takes one user token"},
		{args: "demo hunter2", err: "demo takes only -token-life"},
		{args: "demo -token-life hunter2", err: "demo takes only -token-life"},
		{args: "demo -token-life 2s", err: "whole seconds, at least 3s"},
		{args: "demo -token-life 3500ms", err: "whole seconds, at least 3s"},
	} {
		stdout, stderr, err := runOnce(program{args: strings.Fields(tt.args)})
		if stdout != tt.stdout || stderr != "" || errors.Is(err, errUsage) != (tt.err != "") {
			t.Errorf("%s: %q, %q, %v", tt.args, stdout, stderr, err)
		}
		text := fmt.Sprint(err)
		if !strings.Contains(text, tt.err) || strings.Contains(text, "hunter2") { // a secret?
			t.Errorf("%s: %v, want %s", tt.args, err, tt.err)
		}
	}
}

// The program as a user has it: what main adds to run is the name and the exit status.
func TestExitStatus(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "itwin-token-server.exe") // runs on Windows too
	build := exec.Command("go", "build", "-buildvcs=false", "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for _, tt := range []struct {
		command        string
		status         int
		stdout, stderr string // parts of what it prints; empty: it prints nothing
	}{
		{command: "version", stdout: "itwin-token-server dev "},
		{command: "help", stdout: "\nitwin-token-server check [TOKEN|-]\n"},
		{command: "start", status: 2, stderr: "itwin-token-server: usage: want serve, demo"},
		{command: "serve", status: 1, stderr: ".env.local line 1: "},
		{command: "check", status: 1, stdout: "ITM_TOKEN_SERVER_CLIENT_ID "},
		{command: "ready", status: 1, stderr: "itwin-token-server: not ready: "},
	} {
		var stdout, stderr bytes.Buffer
		cmd := exec.Command(binary, tt.command)
		cmd.Dir, cmd.Stdout, cmd.Stderr = folder(t, ".env.local", "A='"), &stdout, &stderr
		cmd.Env = slices.DeleteFunc(os.Environ(), func(entry string) bool {
			return strings.HasPrefix(entry, prefix)
		})
		cmd.Env = append(cmd.Env, prefix+"PORT=1") // nothing listens there
		err := cmd.Run()
		if _, failed := errors.AsType[*exec.ExitError](err); err != nil && !failed {
			t.Fatal(err)
		}
		wrong := !strings.Contains(stdout.String(), tt.stdout) ||
			!strings.Contains(stderr.String(), tt.stderr) ||
			(stdout.Len() == 0) != (tt.stdout == "") || (stderr.Len() == 0) != (tt.stderr == "")
		if status := cmd.ProcessState.ExitCode(); status != tt.status || wrong {
			t.Errorf("%s: status %d, %q, %q; want %d, %q, %q",
				tt.command, status, &stdout, &stderr, tt.status, tt.stdout, tt.stderr)
		}
	}
}

// The settings are from a file as a Windows editor writes it.
func TestServe(t *testing.T) {
	t.Parallel()
	s := standintest.New(t)
	s.IMS.SetClient("service-x", trickySecret)
	dir := folder(t, ".env.local", "\ufeff"+strings.Join([]string{
		"# settings",
		"export " + prefix + "CLIENT_ID=service-x",
		prefix + "CLIENT_SECRET='" + trickySecret + "'",
		prefix + "AUTH0_DOMAIN=https://" + strings.ToUpper(s.Tenant.Domain()) + "/",
		prefix + "AUTHORITY=" + s.IMS.URL(),
		prefix + "PORT=0",
		prefix + "COLOUR=red",
	}, "\r\n"))
	server := startProgram(t, program{dir: dir, transport: s.Transport()})
	base := server.wantBase(t)
	got := fetch(t, http.DefaultClient, base+"/getToken", s.Tenant.IDToken("any"))
	if got != "Bearer "+s.IMS.Issued()[0] {
		t.Errorf("GET /getToken = %q, want the token that IMS issued", got)
	}
	server.wantEnd(t)
	log := server.stderr.String()
	for _, want := range []string{
		"msg=listening addr=[::]:", "port_from=.env.local", "msg=getToken status=200 ",
		`from="the Android emulator" url=http://10.0.2.2:`, "level=WARN msg=\"plain http",
		"COLOUR", prefix + "AUTH0_AUDIENCE is not set", `msg="shutting down"`,
	} {
		if strings.Count(log, want) != 1 {
			t.Errorf("the log has not once %s:\n%s", want, log)
		}
	}
	for _, secret := range []string{
		strings.TrimSpace(trickySecret), s.IMS.Issued()[0], "Jane", "jane.doe",
	} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %s:\n%s", secret, log)
		}
	}
}

// Plain http is warned about, except on loopback.
func TestAnnounce(t *testing.T) {
	port := &settings.Setting{Name: prefix + "PORT", Source: "PORT"}
	for _, tt := range []struct {
		addr        string
		certificate *server.Certificate
		url         string
		warnings    int
	}{
		{"127.0.0.1:3001", nil, "http://127.0.0.1:3001/getToken", 0},
		{"[::1]:3001", nil, "http://[::1]:3001/getToken", 0},
		{"192.0.2.7:3001", nil, "http://192.0.2.7:3001/getToken", 1},
		{"0.0.0.0:3001", nil, "http://localhost:3001/getToken", 1},
		{"0.0.0.0:443", new(server.Certificate), "https://localhost:443/getToken", 0},
	} {
		addr, log := must(net.ResolveTCPAddr("tcp", tt.addr)), new(standintest.Log)
		s := &service{
			config: config{Certificate: tt.certificate},
			log:    telemetry.NewLog(log, "text", slog.LevelInfo),
		}
		s.announce(addr, &settings.Findings{Settings: []*settings.Setting{port}})
		text := log.String()
		for _, want := range []string{"url=" + tt.url + "\n", "addr=" + tt.addr + " port_from=PORT\n"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: the log lacks %q:\n%s", tt.addr, want, text)
			}
		}
		if got := strings.Count(text, "level=WARN"); got != tt.warnings {
			t.Errorf("%s: %d warnings, want %d", tt.addr, got, tt.warnings)
		}
	}
}

// It listens before it has fetched anything: it is healthy, and not ready.
func TestReady(t *testing.T) {
	t.Parallel()
	dir, web := tlsFiles(t)
	for _, tt := range []struct{ scheme, certFile, keyFile string }{
		{scheme: "http"},
		{scheme: "https", certFile: dir + "/cert", keyFile: dir + "/key"},
	} {
		s, answer := standintest.New(t), make(chan bool)
		s.Tenant.Misbehave(func(w http.ResponseWriter, r *http.Request, honest http.Handler) {
			<-answer
			honest.ServeHTTP(w, r)
		})
		environ := settingsOf(s,
			prefix+"TLS_CERT_FILE="+tt.certFile, prefix+"TLS_KEY_FILE="+tt.keyFile)
		server := startProgram(t, program{environ: environ, transport: s.Transport()})
		base := server.wantBase(t)
		if got := fetch(t, web.Client(), base+"/healthz", ""); got != "ok\n" {
			t.Errorf("GET %s/healthz = %q, want ok", base, got)
		}
		port := base[strings.LastIndexByte(base, ':')+1:]
		ready := program{ // the other settings do not matter
			args:    []string{"ready"},
			environ: append(environ, prefix+"PORT="+port, prefix+"CLIENT_ID="),
		}
		_, _, err := runOnce(ready)
		if text := fmt.Sprint(err); !strings.Contains(text, "no Auth0 keys yet") {
			t.Errorf("%s: ready = %v, want that there are no keys", tt.scheme, err)
		}
		close(answer)
		fetch(t, web.Client(), base+"/getToken", s.Tenant.AccessToken(testAudience)) // waits
		if _, _, err := runOnce(ready); err != nil {
			t.Errorf("%s: ready = %v, want nil", tt.scheme, err)
		}
		server.wantEnd(t)
		if _, _, err := runOnce(ready); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: ready after its end = %v, want a line with the reason", tt.scheme, err)
		}
	}
}

// A host may be a misplaced secret: it is not shown. One that is refused is not looked up.
func TestHostIsNotShown(t *testing.T) {
	for setting, want := range map[string]string{
		"PORT=0": "HOST, ", "PORT=70000": "HOST, ", "HOST=hunter22+/==": "HOST, ",
		"HOST=hunter22": "HOST, ", "HOST=hunter2.invalid": "no answer from :3001: ",
	} {
		environ := []string{prefix + "CLIENT_SECRET=hunter22", prefix + setting}
		_, _, err := runOnce(program{args: []string{"ready"}, environ: environ})
		if text := fmt.Sprint(err); !strings.Contains(text, want) || strings.Contains(text, "hunter2") {
			t.Errorf("%s: ready = %v, want %s", setting, err, want)
		}
	}
	environ := complete("HOST=127.0.0.1", "PORT=0", "METRICS_ADDR=hunter2.invalid:9090")
	_, _, err := runOnce(program{environ: environ})
	if text := fmt.Sprint(err); !strings.Contains(text, "listen on "+prefix+"METRICS_ADDR: ") {
		t.Errorf("serve = %v, want the setting's name instead of its host", err)
	}
}

// With a certificate it serves https, and its metrics have the certificate's expiry.
func TestServeTLS(t *testing.T) {
	t.Parallel()
	s := standintest.New(t)
	dir, web := tlsFiles(t)
	free := must(net.Listen("tcp", "127.0.0.1:0"))
	free.Close()
	environ := settingsOf(s, prefix+"TLS_CERT_FILE="+dir+"/cert", prefix+"TLS_KEY_FILE="+dir+"/key",
		prefix+"METRICS_ADDR="+free.Addr().String(),
		prefix+"LOG_FORMAT=json", prefix+"LOG_LEVEL=debug")
	server := startProgram(t, program{environ: environ, transport: s.Transport()})
	base := "https://127.0.0.1:" + server.stderr.Await(t, `"addr":"127\.0\.0\.1:(\d+)"`)
	got := fetch(t, web.Client(), base+"/getToken", s.Tenant.AccessToken(testAudience))
	if got != "Bearer "+s.IMS.Issued()[0] {
		t.Errorf("GET /getToken = %q, want the token that IMS issued", got)
	}
	metrics := fetch(t, http.DefaultClient, "http://"+free.Addr().String()+"/metrics", "")
	expiry := web.Certificate().NotAfter.Unix()
	for _, want := range []string{
		fmt.Sprintf("tls_certificate_expiry_timestamp_seconds %d\n", expiry),
		`reason="ok"} 1`, `build_info{version="dev",`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("the metrics lack %s:\n%s", want, metrics)
		}
	}
	server.wantEnd(t)
}

// A signal that comes while the demo shows its exchange ends it as one that comes later.
func TestDemoEndsDuringTheExchange(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	interrupt()
	err := run(ctx, program{
		args: []string{"demo"}, environ: []string{prefix + "PORT=0"},
		stdout: io.Discard, stderr: io.Discard,
	})
	if err != nil {
		t.Errorf("the demo ended with %v, want nil", err)
	}
}

// steady replaces what differs from run to run.
func steady(text string) string {
	text = regexp.MustCompile(`(localhost|127\.0\.0\.1):\d+`).ReplaceAllString(text, "$1:PORT")
	return regexp.MustCompile(`eyJ[\w-]+… \(\d+ bytes\)`).ReplaceAllString(text, "eyJ… (N bytes)")
}

func TestDemo(t *testing.T) {
	t.Parallel()
	demo := startProgram(t, program{
		args:    []string{"demo", "-token-life", "20s"},
		environ: []string{prefix + "PORT=0", prefix + "CLIENT_ID=not-the-demos", prefix + "PROT=1"},
		dir:     folder(t, ".env.local", prefix+"AUTH0_DOMAIN='"), // which the demo does not read
	})
	command := demo.stdout.Await(t, `\n(curl .*)\n`)
	golden(t, "demo", steady(demo.stdout.String()))
	for line := range strings.Lines(demo.stdout.String()) {
		if !strings.HasPrefix(line, "curl ") && len([]rune(line)) > 100 {
			t.Errorf("wider than 100 columns: %s", line)
		}
	}
	demo.stderr.Await(t, prefix+`PROT`)
	demo.stderr.Await(t, "msg=listening")
	if log := demo.stderr.String(); strings.Contains(log, "msg=getToken") {
		t.Errorf("log lines of the exchange, which is shown:\n%s", log)
	}
	if _, err := exec.LookPath("curl"); err == nil && runtime.GOOS != "windows" {
		out, err := exec.Command("sh", "-c", command).CombinedOutput()
		if err != nil || !regexp.MustCompile(`^Bearer eyJ[\w.-]+$`).Match(out) {
			t.Errorf("%s printed %q, %v; want Bearer … and nothing more", command, out, err)
		}
	}
	base := demo.stdout.Await(t, `token server +(http://localhost:\d+)/getToken`)
	user := fetch(t, http.DefaultClient, base+"/demo/userToken", "")
	token := fetch(t, http.DefaultClient, base+"/getToken", user)
	payload := strings.Split(token+"..", ".")[1] // no panic if it is no token
	claims, err := base64.RawURLEncoding.DecodeString(payload)
	var life struct{ Iat, Exp int64 }
	if json.Unmarshal(claims, &life) != nil || life.Exp-life.Iat != 20 || err != nil {
		t.Errorf("GET /getToken with the demo's user token = %q, want one that lives 20s", token)
	}
	demo.stderr.Await(t, "msg=getToken status=200")
	demo.wantEnd(t)
}
