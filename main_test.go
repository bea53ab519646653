package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"flag"
	"io"
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
	"testing/synctest"
	"time"

	"itwin-token-server/internal/standin"
	"itwin-token-server/internal/upstream"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// A screen is what a program writes to, and what a test can wait on.
type screen struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
	more chan struct{}
}

func newScreen() *screen { return &screen{more: make(chan struct{}, 1)} }

func (s *screen) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case s.more <- struct{}{}:
	default:
	}
	return s.text.Write(b)
}

func (s *screen) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// await waits until the screen shows the pattern, and returns its first group.
func (s *screen) await(t *testing.T, pattern string) string {
	t.Helper()
	wanted := regexp.MustCompile(pattern)
	limit := time.After(30 * time.Second) // a hang, not slowness
	for {
		if match := wanted.FindStringSubmatch(s.String()); match != nil {
			return match[len(match)-1]
		}
		select {
		case <-s.more:
		case <-limit:
			t.Fatalf("no %s on the screen:\n%s", pattern, s)
		}
	}
}

// A launch is a program that runs until the test ends it.
type launch struct {
	stdout, stderr *screen
	stop           func() error // ends it as Ctrl-C does, and returns what run did
}

func start(t *testing.T, p program) *launch {
	t.Helper()
	l := &launch{stdout: newScreen(), stderr: newScreen()}
	p.stdout, p.stderr = l.stdout, l.stderr
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, p) }()
	l.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { l.stop() })
	return l
}

// runOnce runs a command that ends by itself.
func runOnce(p program) (stdout, stderr string, err error) {
	out, log := newScreen(), newScreen()
	p.stdout, p.stderr = out, log
	if p.stdin == nil {
		p.stdin = strings.NewReader("")
	}
	err = run(context.Background(), p)
	return out.String(), log.String(), err
}

// settingsOf is the environment of a server that uses the stand-ins; more wins.
func settingsOf(s *standin.Standin, more ...string) []string {
	return append([]string{
		prefix + "CLIENT_ID=" + s.IMS.ClientID(), prefix + "CLIENT_SECRET=" + s.IMS.ClientSecret(),
		prefix + "AUTH0_DOMAIN=" + s.Tenant.Domain(), prefix + "AUTH0_AUDIENCE=" + testAudience,
		prefix + "AUTHORITY=" + s.IMS.URL(), prefix + "HOST=127.0.0.1", prefix + "PORT=0",
	}, more...)
}

func fetch(t *testing.T, url, token string) string {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

// golden compares with a file under testdata, or with -update writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
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

func TestHelp(t *testing.T) {
	for _, command := range []string{"help", "-h", "--help"} {
		stdout, stderr, err := runOnce(program{args: []string{command}})
		if stdout != usage || stderr != "" || err != nil {
			t.Errorf("%s: %q, %q, %v; want the usage on standard output", command, stdout, stderr, err)
		}
	}
	for _, command := range []string{"demo", "check", "version", "check TOKEN", "check -"} {
		if !strings.Contains(usage, command) {
			t.Errorf("the usage has no example of %s", command)
		}
	}
}

func TestVersion(t *testing.T) {
	stdout, _, err := runOnce(program{args: []string{"version"}})
	if want := "itwin-token-server dev " + commit() + " " + runtime.Version() + "\n"; stdout != want || err != nil {
		t.Errorf("version: %q, %v; want %q", stdout, err, want)
	}
}

func TestNotUnderstood(t *testing.T) {
	tests := []struct{ args, want string }{
		{"start", `usage: unknown command "start": want serve, demo, check, version or help`},
		{"serve --port 80", "usage: serve takes no arguments: its settings are variables"},
		{"check a b", "usage: check wants one token, or - to read it from standard input"},
		{"demo now", "usage: demo takes nothing but -token-life"},
		{"demo -token-life forever", "usage: demo takes nothing but -token-life"},
	}
	for _, test := range tests {
		_, _, err := runOnce(program{args: strings.Fields(test.args)})
		if !errors.Is(err, errUsage) || err.Error() != test.want {
			t.Errorf("%s: %v, want %s", test.args, err, test.want)
		}
	}
	if _, _, err := runOnce(program{args: []string{"demo", "-token-life", "10ms"}}); err == nil || err.Error() != "-token-life: want whole seconds, at least 3s, got 10ms" {
		t.Errorf("demo -token-life 10ms: %v, want a fault", err)
	}
	if _, stderr, err := runOnce(program{args: []string{"demo", "-h"}}); err != nil || !strings.Contains(stderr, "-token-life") {
		t.Errorf("demo -h: %q, %v; want its flag explained", stderr, err)
	}
}

// The program as a user has it: what main adds to run is exit codes.
func TestExitCodes(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "itwin-token-server.exe") // a name that runs on Windows too
	if out, err := exec.Command("go", "build", "-buildvcs=false", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	tests := []struct {
		command        string
		code           int
		stdout, stderr string // how they begin; empty: nothing
	}{
		{"version", 0, "itwin-token-server dev ", ""},
		{"start", 2, "", `usage: unknown command "start": want serve, demo, check, version or help` + "\n"},
		{"serve", 1, "", "itwin-token-server: the settings cannot be used:\n  ITM_TOKEN_SERVER_CLIENT_ID: want "},
		{"check", 1, "    ITM_TOKEN_SERVER_CLIENT_ID ", ""},
	}
	for _, test := range tests {
		var stdout, stderr bytes.Buffer
		cmd := exec.Command(binary, test.command)
		cmd.Dir, cmd.Stdout, cmd.Stderr = t.TempDir(), &stdout, &stderr
		cmd.Env = slices.DeleteFunc(os.Environ(), func(entry string) bool { return strings.HasPrefix(entry, prefix) })
		var failed *exec.ExitError
		if err := cmd.Run(); err != nil && !errors.As(err, &failed) {
			t.Fatal(err)
		}
		if code := cmd.ProcessState.ExitCode(); code != test.code || !begins(stdout.String(), test.stdout) || !begins(stderr.String(), test.stderr) {
			t.Errorf("%s: exit %d, %q, %q; want %d, %q…, %q…", test.command, code, &stdout, &stderr, test.code, test.stdout, test.stderr)
		}
	}
}

func begins(text, with string) bool {
	return strings.HasPrefix(text, with) && (text == "") == (with == "")
}

func TestServeWithNothingSet(t *testing.T) {
	_, _, err := runOnce(program{dir: t.TempDir()})
	const want = `the settings cannot be used:
  ITM_TOKEN_SERVER_CLIENT_ID: want the client ID of your iTwin service application (developer.bentley.com, My Apps), got nothing
  ITM_TOKEN_SERVER_CLIENT_SECRET: want the client secret of the iTwin service application, or ITM_TOKEN_SERVER_CLIENT_SECRET_FILE, got nothing
  ITM_TOKEN_SERVER_AUTH0_DOMAIN: want the domain of your Auth0 tenant, like tenant.us.auth0.com (manage.auth0.com, Applications), got nothing
Fill in .env.local (.env says how). To try it without any settings: go run . demo`
	if err == nil || err.Error() != want {
		t.Errorf("serve: %v, want %s", err, want)
	}
	sample, readErr := os.ReadFile(".env")
	if readErr != nil {
		t.Fatal(readErr)
	}
	_, _, err = runOnce(program{dir: folder(t, ".env", string(sample), ".env.local", string(sample))})
	if err == nil || err.Error() != want {
		t.Errorf("serve with the placeholders left in: %v, want %s", err, want)
	}
}

func TestServeWithAMisspeltName(t *testing.T) {
	const warning = `"ITM_TOKEN_SERVER_CLIENTID" in environment is not a setting; did you mean ITM_TOKEN_SERVER_CLIENT_ID?`
	_, _, err := runOnce(program{environ: complete("CLIENT_ID=", "CLIENTID=x"), dir: t.TempDir()})
	want := "the settings cannot be used:\n" +
		"  ITM_TOKEN_SERVER_CLIENT_ID: want the client ID of your iTwin service application (developer.bentley.com, My Apps), got nothing\n" +
		"  " + warning + "\nFill in .env.local (.env says how). To try it without any settings: go run . demo"
	if err == nil || err.Error() != want {
		t.Errorf("serve: %v, want %s", err, want)
	}
	_, _, err = runOnce(program{environ: complete("PORT=x"), dir: t.TempDir()})
	if err == nil || strings.Contains(err.Error(), "go run . demo") {
		t.Errorf("serve with a wrong port: %v, want no word of the demo: nothing is missing", err)
	}
}

func TestTakenPort(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	_, port, _ := net.SplitHostPort(taken.Addr().String())
	world := standins(t)
	for _, command := range []string{"serve", "demo"} {
		_, _, err := runOnce(program{args: []string{command}, environ: settingsOf(world, prefix+"PORT="+port), transport: world.Transport()})
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "want to listen on port "+port) || !strings.HasSuffix(err.Error(), "or set ITM_TOKEN_SERVER_PORT to another") {
			t.Errorf("%s on a taken port: %v, want one line that says what to do", command, err)
		}
	}
}

func TestServeFromEnvLocal(t *testing.T) {
	t.Parallel()
	world := standins(t)
	world.IMS.SetClient("service-x", awkward)
	dir := folder(t, ".env.local", "\ufeff"+strings.Join([]string{
		"# settings", "export " + prefix + "CLIENT_ID=service-x", prefix + "CLIENT_SECRET='" + awkward + "'",
		prefix + "AUTH0_DOMAIN=https://" + strings.ToUpper(world.Tenant.Domain()) + "/", prefix + "AUTHORITY=" + world.IMS.URL(),
		prefix + "HOST=127.0.0.1", prefix + "PORT=0", prefix + "COLOUR=red",
	}, "\r\n"))
	server := start(t, program{dir: dir, transport: world.Transport()})
	addr := server.stderr.await(t, `msg=listening addr=(127\.0\.0\.1:\d+)`)
	if got := fetch(t, "http://"+addr+"/getToken", world.Tenant.IDToken("any")); got != "Bearer "+world.IMS.Issued()[0] {
		t.Errorf("GET /getToken = %q, want the token that IMS issued", got)
	}
	server.stderr.await(t, "msg=getToken status=200")
	begun := time.Now()
	if err := server.stop(); err != nil || time.Since(begun) > 10*time.Second {
		t.Errorf("it ended with %v after %v, want nil within 10s", err, time.Since(begun))
	}
	_, port, _ := net.SplitHostPort(addr)
	log := server.stderr.String()
	for _, want := range []string{
		"level=INFO msg=reachable from=\"this machine\" url=http://localhost:" + port + "/getToken\n",
		"level=INFO msg=reachable from=\"the Android emulator\" url=http://10.0.2.2:" + port + "/getToken\n",
		`level=WARN msg="\"ITM_TOKEN_SERVER_COLOUR\" in .env.local is not a setting; did you mean `,
		`level=WARN msg="ITM_TOKEN_SERVER_AUTH0_AUDIENCE is not set: `,
		"level=INFO msg=\"shutting down\"\n",
	} {
		if strings.Count(log, want) != 1 {
			t.Errorf("the log has not once %s:\n%s", want, log)
		}
	}
	for _, unwanted := range []string{"plain http", "the network", strings.TrimSpace(awkward), world.IMS.Issued()[0], "Jane", "jane.doe"} {
		if strings.Contains(log, unwanted) {
			t.Errorf("the log has %s:\n%s", unwanted, log)
		}
	}
}

func TestServeOnEveryInterface(t *testing.T) {
	t.Parallel()
	world := standins(t)
	server := start(t, program{environ: settingsOf(world, prefix+"HOST="), transport: world.Transport()})
	port := server.stderr.await(t, `msg=listening addr=\S*:(\d+)`)
	server.stderr.await(t, "plain http")
	if err := server.stop(); err != nil {
		t.Errorf("it ended with %v, want nil", err)
	}
	log := server.stderr.String()
	want := []string{"localhost", "10.0.2.2"}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, addr := range addrs {
		if ip := addr.(*net.IPNet).IP; ip.To4() != nil && ip.IsGlobalUnicast() {
			want = append(want, ip.String())
		}
	}
	for _, host := range want {
		if strings.Count(log, "url=http://"+host+":"+port+"/getToken\n") != 1 {
			t.Errorf("the log has not once that it can be reached at %s:\n%s", host, log)
		}
	}
	if strings.Count(log, "plain http") != 1 || strings.Contains(log, "AUTH0_AUDIENCE") {
		t.Errorf("the log has not just the one warning, of plain http:\n%s", log)
	}
}

func TestTakenMetricsAddress(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	world := standins(t)
	_, _, err = runOnce(program{environ: settingsOf(world, prefix+"METRICS_ADDR="+taken.Addr().String()), transport: world.Transport()})
	if err == nil || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), prefix+"METRICS_ADDR: want a free address, got: ") {
		t.Errorf("serve with a taken metrics address: %v, want one line that names the setting", err)
	}
}

// steady replaces what differs from run to run.
func steady(text string) string {
	text = regexp.MustCompile(`(localhost|127\.0\.0\.1):\d+`).ReplaceAllString(text, "$1:PORT")
	return regexp.MustCompile(`eyJ[\w-]+… \(\d+ bytes\)`).ReplaceAllString(text, "eyJ… (N bytes)")
}

func TestDemo(t *testing.T) {
	t.Parallel()
	demo := start(t, program{args: []string{"demo"}, environ: []string{prefix + "PORT=0", prefix + "CLIENT_ID=not-the-demos"}})
	command := demo.stdout.await(t, `\n(curl .*)\n`)
	golden(t, "demo", steady(demo.stdout.String()))
	if log := demo.stderr.String(); log != "" {
		t.Errorf("the log spoke amid the story:\n%s", log)
	}
	for line := range strings.Lines(demo.stdout.String()) {
		if !strings.HasPrefix(line, "curl ") && len([]rune(line)) > 100 {
			t.Errorf("wider than 100 columns: %s", line)
		}
	}
	if _, err := exec.LookPath("curl"); err == nil && runtime.GOOS != "windows" {
		out, err := exec.Command("sh", "-c", command).CombinedOutput()
		if err != nil || !regexp.MustCompile(`^Bearer eyJ[\w.-]+$`).Match(out) {
			t.Errorf("%s printed %q, %v; want Bearer … and nothing more", command, out, err)
		}
	}
	base := demo.stdout.await(t, `token server +(http://localhost:\d+)/getToken`)
	user := fetch(t, base+"/demo/userToken", "")
	if got := fetch(t, base+"/getToken", user); !strings.HasPrefix(got, "Bearer eyJ") {
		t.Errorf("GET /getToken with the demo's user token = %q, want Bearer …", got)
	}
	begun := time.Now()
	if err := demo.stop(); err != nil || time.Since(begun) > 10*time.Second {
		t.Errorf("the demo ended with %v after %v, want nil within 10s", err, time.Since(begun))
	}
}

func TestDemoTakesNothingFromEnvLocal(t *testing.T) {
	t.Parallel()
	dir := folder(t, ".env.local", prefix+"AUTH0_DOMAIN='")
	demo := start(t, program{args: []string{"demo", "-token-life", "20s"}, environ: []string{prefix + "PORT=0", prefix + "HOST=127.0.0.1", prefix + "PROT=1"}, dir: dir})
	base := demo.stdout.await(t, `token server +(http://localhost:\d+)/getToken`)
	demo.stdout.await(t, "curl ")
	demo.stderr.await(t, `level=WARN msg="\\"ITM_TOKEN_SERVER_PROT\\" in environment is not a setting; did you mean ITM_TOKEN_SERVER_PORT\?"`)
	req, err := http.NewRequest(http.MethodGet, base+"/getToken", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+fetch(t, base+"/demo/userToken", ""))
	req.Header.Set("Accept", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || !regexp.MustCompile(`"expires_in":(1\d|20)}$`).Match(body) {
		t.Errorf("-token-life 20s gives %s, %v; want at most 20 seconds", body, err)
	}
}

// A doctored is one run of check: what is wrong, and what it printed of that.
type doctored struct {
	name    string
	spoil   func(w *standin.Standin)
	environ []string                               // more than what is complete
	token   func(w *standin.Standin) string        // nil: none is given
	typed   func(token string) (arg, stdin string) // nil: the token is the argument
	well    bool
	whole   bool // show the settings as well, not only what was found
}

// examine runs check on each, and compares all that was printed to a golden file.
func examine(t *testing.T, file string, cases []doctored) {
	t.Helper()
	var prints []string            // in the order of the cases
	names := map[string][]string{} // of those that printed the same
	for _, c := range cases {
		world := standins(t)
		world.IMS.SetClient("service-x", awkward)
		synctest.Test(t, func(t *testing.T) {
			if c.spoil != nil {
				c.spoil(world)
			}
			print := consult(t, world, world.Transport(), c)
			if names[print] == nil {
				prints = append(prints, print)
			}
			names[print] = append(names[print], c.name)
		})
	}
	var all []string
	for _, print := range prints {
		all = append(all, "== "+strings.Join(names[print], "\n== ")+"\n"+print)
	}
	golden(t, "check/"+file, strings.Join(all, "\n"))
}

// consult runs check once, and holds what it printed to the rules of all output.
func consult(t *testing.T, world *standin.Standin, transport http.RoundTripper, c doctored) string {
	t.Helper()
	p := program{args: []string{"check"}, environ: settingsOf(world, c.environ...), dir: t.TempDir(), transport: transport}
	token := ""
	if c.token != nil {
		token = c.token(world)
		argument, stdin := token, ""
		if c.typed != nil {
			argument, stdin = c.typed(token)
		}
		p.args, p.stdin = append(p.args, argument), strings.NewReader(stdin)
	}
	stdout, stderr, err := runOnce(p)
	if (err == nil) != c.well || err != nil && !errors.Is(err, errReported) || stderr != "" {
		t.Errorf("%s: %v, log %q; want well: %v", c.name, err, stderr, c.well)
	}
	secrets := append([]string{strings.TrimSpace(awkward), standin.Canary, "hunter2", "Jane Doe", "jane.doe"}, world.IMS.Issued()...)
	for part := range strings.SplitSeq(token, ".") {
		if len(part) > 20 {
			secrets = append(secrets, part)
		}
	}
	for _, secret := range secrets {
		if strings.Contains(stdout, secret) {
			t.Errorf("%s: check printed %q:\n%s", c.name, secret, stdout)
		}
	}
	for line := range strings.Lines(stdout) {
		if len([]rune(line)) > 101 {
			t.Errorf("%s: wider than 100 columns: %s", c.name, line)
		}
	}
	if _, findings, ok := strings.Cut(stdout, "\n\n"); ok && !c.whole {
		stdout = findings
	}
	return steady(stdout)
}

func TestCheckSettings(t *testing.T) {
	unset := func(names ...string) (environ []string) {
		for _, name := range names {
			environ = append(environ, prefix+name+"=")
		}
		return environ
	}
	examine(t, "settings", []doctored{
		{name: "all well", well: true, whole: true},
		{name: "nothing set", environ: unset("CLIENT_ID", "CLIENT_SECRET", "AUTH0_DOMAIN", "AUTH0_AUDIENCE", "AUTHORITY", "HOST", "PORT"), whole: true},
		{name: "no audience", environ: unset("AUTH0_AUDIENCE"), well: true},
		{name: "misspelt", environ: []string{prefix + "AUTO0_DOMAIN=x"}, well: true},
		{name: "passwords in URLs", environ: []string{prefix + "AUTHORITY=https://jane:hunter2@ims.bentley.com", prefix + "AUTH0_DOMAIN=hunter2@b.c"}, whole: true},
		{name: "values that are not what they should be", environ: []string{prefix + "AUTH0_DOMAIN=tenant", prefix + "PORT=http", prefix + "LOG_LEVEL=loud"}, token: goodToken},
		{name: "secret file missing", environ: []string{prefix + "CLIENT_SECRET=", prefix + "CLIENT_SECRET_FILE=hunter2+/="}, whole: true},
	})
}

func goodToken(w *standin.Standin) string { return w.Tenant.AccessToken(testAudience) }

func TestCheckAuth0(t *testing.T) {
	tenant := func(fault standin.Fault) func(*standin.Standin) {
		return func(w *standin.Standin) { w.Tenant.Misbehave(fault) }
	}
	cases := []doctored{
		{name: "hang", spoil: tenant(standin.Hang())},
		{name: "hangs up", spoil: tenant(standin.HangUp())},
		{name: "slow, but there", spoil: tenant(standin.Delay(9 * time.Second)), well: true},
		{name: "refused connection", spoil: func(w *standin.Standin) { w.Tenant.Stop() }},
		{name: "404, as of a mistyped domain", spoil: tenant(standin.Status(404))},
		{name: "503", spoil: tenant(standin.Status(503))},
		{name: "no such host", environ: []string{prefix + "AUTH0_DOMAIN=tennant.auth0.test"}},
		{name: "no such host, and the token tells the right one", environ: []string{prefix + "AUTH0_DOMAIN=tennant.auth0.test"}, token: goodToken},
		{name: "down, and a token", spoil: func(w *standin.Standin) { w.Tenant.Stop() }, token: goodToken},
	}
	for _, nonsense := range standin.Nonsense() {
		cases = append(cases, doctored{name: nonsense.Name, spoil: tenant(nonsense.Fault)})
	}
	examine(t, "auth0", cases)
}

func TestCheckIMS(t *testing.T) {
	ims := func(fault standin.Fault) func(*standin.Standin) {
		return func(w *standin.Standin) { w.IMS.Misbehave(fault) }
	}
	cases := []doctored{
		{name: "secret refused", environ: []string{prefix + "CLIENT_SECRET=hunter2"}},
		{name: "scope refused", environ: []string{prefix + "SCOPE=itwinjs imodels:read"}},
		{name: "not a service application", spoil: ims(standin.Answer(400, "application/json", `{"error":"unauthorized_client","error_description":"`+standin.Canary+`"}`))},
		{name: "an error code nobody knows", spoil: ims(standin.Answer(400, "application/json", `{"error":"`+standin.Canary+`"}`))},
		{name: "down", spoil: func(w *standin.Standin) { w.IMS.Stop() }},
		{name: "hang", spoil: ims(standin.Hang())},
		{name: "503", spoil: ims(standin.Status(503))},
		{name: "no such host", environ: []string{prefix + "AUTHORITY=https://ims.bently.test"}},
		{name: "expires_in missing", spoil: func(w *standin.Standin) { w.IMS.SetExpiresIn(nil) }, well: true},
	}
	for _, nonsense := range standin.Nonsense() {
		cases = append(cases, doctored{name: nonsense.Name, spoil: ims(nonsense.Fault)})
	}
	examine(t, "ims", cases)
}

func TestCheckTokens(t *testing.T) {
	audience := func(a string) []string { return []string{prefix + "AUTH0_AUDIENCE=" + a} }
	required := []string{prefix + "AUTH0_REQUIRED_SCOPE=read:itwin"}
	changed := func(change standin.Claims) func(*standin.Standin) string {
		return func(w *standin.Standin) string { return w.Tenant.AccessToken(testAudience, change) }
	}
	headed := func(change standin.Claims) func(*standin.Standin) string {
		return func(w *standin.Standin) string { return w.Tenant.Sign(change, w.Tenant.Claims(testAudience)) }
	}
	in := func(d time.Duration) int64 { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).Add(d).Unix() } // a bubble's now
	id := func(w *standin.Standin) string { return w.Tenant.IDToken("app-of-ios") }
	examine(t, "tokens", []doctored{
		{name: "accepted", token: goodToken, well: true, whole: true},
		{name: "accepted, an ID token", token: id, environ: audience("other,app-of-ios"), well: true},
		{name: "opaque", token: func(w *standin.Standin) string { return w.Tenant.OpaqueToken() }},
		{name: "opaque, and any audience would do", token: func(w *standin.Standin) string { return w.Tenant.OpaqueToken() }, environ: audience("")},
		{name: "ID token where an access token is wanted", token: id},
		{name: "access token where an ID token is wanted", token: changed(standin.Claims{"azp": "app-of-ios"}), environ: audience("app-of-ios")},
		{name: "access token for another API", token: changed(standin.Claims{"aud": "https://other.example.com"})},
		{name: "at+jwt for another API", token: func(w *standin.Standin) string { return w.Tenant.ATJWT("https://other.example.com") }},
		{name: "no audience in it", token: changed(standin.Claims{"aud": nil})},
		{name: "another tenant", token: changed(standin.Claims{"iss": "https://other.us.auth0.com/"})},
		{name: "custom domain", token: changed(standin.Claims{"iss": "https://login.example.com/"})},
		{name: "another issuer altogether", token: changed(standin.Claims{"iss": "urn:example\x1b[2J"})},
		{name: "no issuer", token: changed(standin.Claims{"iss": nil})},
		{name: "expired", token: changed(standin.Claims{"exp": in(-2 * time.Hour)})},
		{name: "no expiry", token: changed(standin.Claims{"exp": nil})},
		{name: "not yet valid", token: changed(standin.Claims{"nbf": in(time.Hour)})},
		{name: "missing scope", token: goodToken, environ: required},
		{name: "missing permission", token: changed(standin.Claims{"scope": nil, "permissions": []string{"read:other"}}), environ: required},
		{name: "no scope at all", token: changed(standin.Claims{"scope": nil}), environ: required},
		{name: "permission instead of scope", token: changed(standin.Claims{"permissions": []string{"read:itwin"}}), environ: required, well: true},
		{name: "unknown key", token: headed(standin.Claims{"kid": "stranger"})},
		{name: "no key named", token: headed(standin.Claims{"kid": nil})},
		{name: "HS256", token: headed(standin.Claims{"alg": "HS256"})},
		{name: "bad signature", token: func(w *standin.Standin) string {
			return w.Tenant.SignWith(w.Tenant.NextKey(), standin.Claims{"kid": w.Tenant.Key().ID}, w.Tenant.Claims(testAudience))
		}},
		{name: "cut", token: func(w *standin.Standin) string { return goodToken(w)[:400] }},
		{name: "malformed", token: func(w *standin.Standin) string { return goodToken(w) + "!" }},
		{name: "a claim of the wrong type", token: changed(standin.Claims{"exp": "tomorrow"})},
		{name: "something else", token: func(*standin.Standin) string { return "a-password-perhaps" }},
	})
}

func TestCheckTakesATokenAsPeoplePasteIt(t *testing.T) {
	stdin := func(before, after string) func(string) (string, string) {
		return func(token string) (string, string) { return "-", before + token + after }
	}
	argument := func(before, after string) func(string) (string, string) {
		return func(token string) (string, string) { return before + token + after, "" }
	}
	for name, typed := range map[string]func(string) (string, string){
		"standard input":               stdin("", ""),
		"with a newline":               stdin("", "\n"),
		"with a Windows line end":      stdin("\r\n  Bearer ", "\r\n"),
		"in quotes":                    stdin(`"`, `"`+"\n"),
		"with the scheme":              argument("Bearer ", ""),
		"with the scheme, in capitals": argument("BEARER  ", " "),
		"with the scheme, in quotes":   argument(`"Bearer `, `"`),
		"as the whole header":          argument("Authorization: Bearer ", ""),
		"in single quotes":             argument("'", "'"),
	} {
		world := standins(t)
		world.IMS.SetClient("service-x", awkward)
		synctest.Test(t, func(t *testing.T) {
			got := consult(t, world, world.Transport(), doctored{name: name, token: goodToken, typed: typed, well: true})
			if !strings.HasSuffix(got, "ok  a user's token  would be accepted\n") {
				t.Errorf("%s: %s", name, got)
			}
		})
	}
	for _, args := range [][]string{{"check", ""}, {"check", "-"}, {"check", "Bearer "}} {
		stdout, _, err := runOnce(program{args: args, dir: t.TempDir()})
		if err == nil || err.Error() != "check: want a token, got an empty one" || stdout != "" {
			t.Errorf("%q: %q, %v; want a fault: nothing was looked at", args, stdout, err)
		}
	}
}

// Over sockets, since there is no TLS without them.
func TestCheckUnknownAuthority(t *testing.T) {
	t.Parallel()
	world := standins(t)
	world.IMS.SetClient("service-x", awkward)
	if err := world.Start(); err != nil {
		t.Fatal(err)
	}
	defer world.Close()
	untrusting := consult(t, world, upstream.Transport(x509.NewCertPool()), doctored{name: "unknown authority"})
	trusting := consult(t, world, upstream.Transport(world.Pool()), doctored{name: "known authority", token: goodToken, well: true})
	golden(t, "check/tls", "== unknown authority\n"+untrusting+"\n== known authority\n"+trusting)
}
