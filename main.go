// Command itwin-token-server gives apps an access token of the iTwin Platform in
// exchange for their user's Auth0 token, so that no app holds the client secret.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"syscall"
	"time"

	"itwin-token-server/internal/check"
	"itwin-token-server/internal/demo"
	"itwin-token-server/internal/dotenv"
	"itwin-token-server/internal/problem"
	"itwin-token-server/internal/server"
	"itwin-token-server/internal/telemetry"
	"itwin-token-server/internal/upstream"
)

// version is set by release builds.
var version = "dev"

const usage = `itwin-token-server gives apps an iTwin token for their user's Auth0 token.

  go run . demo            see it work, with nothing configured
  go run .                 serve, with the settings of the environment, .env.local and .env
  go run . check           try the settings, Auth0's keys and a grant at IMS
  go run . check -         and say whether the user token in the standard input would be
                           accepted, and if not, why; or: check TOKEN
  go run . demo -token-life 20s
  go run . version

The settings are in .env, each with a comment; copy it to .env.local and fill it in.
`

var (
	errUsage    = errors.New("usage")                 // the command line is wrong
	errReported = errors.New("check found a problem") // the output has described it
)

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400) // the live heap is 4 MB: by default it would be collected hundreds of times a second
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		// Above this, garbage is collected more often. Unfinished headers can hold 300 MiB:
		// with a lower limit the collector would work in vain, and slow down honest callers.
		debug.SetMemoryLimit(320 << 20)
	}
	log.SetOutput(io.Discard) // net/http would write upstream's text to it
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	err := run(ctx, program{
		args: os.Args[1:], environ: os.Environ(), dir: ".",
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		transport: upstream.Transport(nil),
	})
	if err == nil {
		return
	}
	if !errors.Is(err, errReported) {
		fmt.Fprintln(os.Stderr, "itwin-token-server:", err)
	}
	if errors.Is(err, errUsage) {
		os.Exit(2)
	}
	os.Exit(1)
}

// A program is what a command runs with.
type program struct {
	args      []string
	environ   []string // NAME=value
	dir       string   // of .env.local and .env; empty: none are read
	stdin     io.Reader
	stdout    io.Writer
	stderr    io.Writer         // the log
	transport http.RoundTripper // to Auth0 and IMS
}

// run runs the command that the arguments name, until it is done or ctx ends.
func run(ctx context.Context, p program) error {
	command, args := "serve", p.args
	if len(args) > 0 {
		command, args = args[0], args[1:]
	}
	if len(args) > 0 && slices.Contains([]string{"-h", "-help", "--help"}, args[0]) {
		command = "help"
	}
	switch command {
	case "serve":
		if len(args) > 0 {
			return fmt.Errorf("%w: serve takes no arguments: its settings are variables", errUsage)
		}
		return runServe(ctx, p)
	case "demo":
		return runDemo(ctx, p, args)
	case "check":
		return runCheck(ctx, p, args)
	case "version":
		fmt.Fprintln(p.stdout, "itwin-token-server", version, telemetry.Commit(), runtime.Version())
		return nil
	case "help", "-h", "--help":
		_, err := io.WriteString(p.stdout, usage)
		return err
	}
	// Not the word itself: it may be a secret in the wrong place.
	return fmt.Errorf("%w: unknown command: want serve, demo, check, version or help", errUsage)
}

// runServe serves with the user's settings.
func runServe(ctx context.Context, p program) error {
	c, found, listener, err := setUp(p.environ, p.dir)
	if err != nil {
		return err
	}
	s := newService(c, p.transport, telemetry.NewLog(p.stderr, c.LogFormat, c.LogLevel))
	announce(s.log, listener.Addr(), c.Certificate != nil, found.Setting(prefix+"PORT").Source)
	for _, warning := range found.Warnings {
		s.log.Warn(warning)
	}
	return s.run(ctx, listener, s.routes(nil))
}

// announce logs where the server can be reached and which setting chose its port, and
// warns about plain http beyond this machine.
func announce(log *slog.Logger, addr net.Addr, tls bool, portSource string) {
	log.Info("listening", "addr", addr.String(), "port_from", portSource)
	scheme := "http"
	if tls {
		scheme = "https"
	}
	for _, a := range server.Addresses(addr) {
		log.Info("reachable", "from", a.From, "url", scheme+"://"+a.HostPort+"/getToken")
	}
	if !tls && !addr.(*net.TCPAddr).IP.IsLoopback() {
		log.Warn("plain http: anyone on the same network can read the tokens; set " + prefix +
			"TLS_CERT_FILE and _TLS_KEY_FILE, or make this port reachable for a TLS proxy only")
	}
}

// setUp reads the settings and opens the port.
func setUp(environ []string, dir string) (config, *dotenv.Findings, net.Listener, error) {
	c, found, err := loadConfig(environ, dir)
	if err != nil {
		return c, found, nil, settingsError(found, err)
	}
	listener, err := server.Listen(net.JoinHostPort(c.Host, c.Port))
	if err != nil {
		err = fmt.Errorf("cannot listen on port %[2]s: %[3]w: set %[1]sPORT to a free port of 1024 or higher, and %[1]sHOST to an address of this machine or to nothing", prefix, c.Port, err)
	}
	return c, found, listener, err
}

// runDemo serves with stand-ins for Auth0 and IMS.
func runDemo(ctx context.Context, p program, args []string) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // errors quote the argument, which may be a misplaced secret
	lifetime := flags.Duration("token-life", time.Hour, "how long an iTwin token lives")
	if err := flags.Parse(args); err != nil || flags.NArg() > 0 {
		return fmt.Errorf("%w: demo takes only -token-life, with a unit: -token-life 20s", errUsage)
	}
	d, err := demo.Start(*lifetime)
	if err != nil {
		return err
	}
	defer d.Close()
	c, found, listener, err := setUp(d.Settings(prefix, p.environ), "")
	if err != nil {
		return err
	}
	level := new(slog.LevelVar) // the exchange is shown without log lines between
	level.Set(max(c.LogLevel, slog.LevelWarn))
	s := newService(c, upstream.Transport(d.Pool()), telemetry.NewLog(p.stderr, c.LogFormat, level))
	ended := make(chan error, 1)
	go func() { ended <- s.run(ctx, listener, s.routes(d.UserToken)) }()
	if err := d.Run(ctx, p.stdout, "http://"+server.Addresses(listener.Addr())[0].HostPort); err != nil && ctx.Err() == nil {
		return err
	}
	level.Set(c.LogLevel)
	for _, warning := range found.Warnings {
		s.log.Warn(warning)
	}
	return <-ended
}

// newService returns a service; no fetch runs yet.
func newService(c config, transport http.RoundTripper, log *slog.Logger) *service {
	statuses := map[string]int{"ok": http.StatusOK}
	for _, p := range problem.All() {
		statuses[p.Reason] = p.Status
	}
	o := telemetry.New(log, statuses)
	s := &service{
		config:   c,
		users:    newVerifier(c, transport, o.Fetches("Auth0 keys", "key_fetches_total", "key_fetch_duration_seconds")),
		tokens:   newTokens(c, transport, o.Fetches("iTwin token", "grants_total", "grant_duration_seconds")),
		log:      log,
		observer: o,
	}
	o.Version, o.KeysFetched = version, s.users.keys.Begun
	o.TokenExpiry = func() time.Time { return cmp.Or(s.tokens.Last(), new(itwinToken)).expiry }
	if c.Certificate != nil {
		o.CertificateExpiry = c.Certificate.Expiry
	}
	return s
}

// run serves the handler until ctx ends and the requests in flight are answered.
func (s *service) run(ctx context.Context, listener net.Listener, handler http.Handler) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx)) // requests in flight still need it
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { s.users.keys.Run(background) })
	running.Go(func() { s.tokens.Run(background) })
	srv := server.Server{
		Listener: listener, Handler: handler, Certificate: s.config.Certificate, Log: s.log,
		Stopping: func() {
			s.draining.Store(true)
			s.log.Info("shutting down")
		},
	}
	if s.config.MetricsAddr != "" {
		metrics, err := server.Listen(s.config.MetricsAddr)
		if err != nil {
			return fmt.Errorf("%sMETRICS_ADDR: cannot listen: %w", prefix, err)
		}
		running.Go(func() { server.ServeMetrics(background, metrics, s.observer, s.log) })
	}
	return server.Run(ctx, srv)
}

// runCheck checks the settings, Auth0's keys, a grant and perhaps a user token.
func runCheck(ctx context.Context, p program, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("%w: check takes one user token, or - to read it from standard input", errUsage)
	}
	token, err := check.UserToken(args, p.stdin)
	if err != nil {
		return err
	}
	c, found, err := loadConfig(p.environ, p.dir)
	if c.Certificate != nil && time.Now().After(c.Certificate.Expiry()) {
		err = errors.Join(err, fmt.Errorf("%sTLS_CERT_FILE: want a certificate that is valid, got one that has expired", prefix))
	}
	report := check.Report{W: p.stdout, Program: "go run ."}
	if report.Settings(found, err); err != nil {
		return errReported
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	users := newVerifier(c, p.transport, nil)
	go users.keys.Run(ctx)
	_, err = users.keys.Get(ctx) // waits for the fetch, and returns its error
	report.Keys(c.issuer(), err)
	_, lifetime, err := grant(ctx, c, p.transport)
	report.Grant(lifetime, err)
	raw, err := bearerToken(http.Header{"Authorization": {"Bearer " + token}})
	if err == nil {
		_, err = users.verify(ctx, raw)
	}
	var refused *problem.Problem
	if err != nil {
		refused = problemOf(err)
	}
	report.Token(token, refused)
	if report.Failed {
		return errReported
	}
	return nil
}
