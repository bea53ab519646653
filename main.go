// Command itwin-token-server gives apps an access token of the iTwin Platform for
// their user's Auth0 token, so that no app holds the client secret.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"itwin-token-server/internal/check"
	"itwin-token-server/internal/demo"
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
  go run . check TOKEN     and whether a user's token would be accepted, and if not, why
  pbpaste | go run . check -
  go run . demo -token-life 20s
  go run . version

The settings are in .env, each with a comment; copy it to .env.local and fill it in.
`

// errUsage is a command line that cannot be understood.
var errUsage = errors.New("usage")

// errReported is a failure of which all has been said on the output.
var errReported = errors.New("not all is well")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	err := run(ctx, program{
		args: os.Args[1:], environ: os.Environ(), dir: ".",
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr,
		transport: upstream.Transport(nil),
	})
	switch {
	case errors.Is(err, errUsage):
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	case errors.Is(err, errReported):
		os.Exit(1)
	case err != nil:
		fmt.Fprintln(os.Stderr, "itwin-token-server:", err)
		os.Exit(1)
	}
}

// A program is what a command is run with.
type program struct {
	args    []string
	environ []string // NAME=value
	dir     string   // where .env.local and .env are; empty: nowhere
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer // the log

	transport http.RoundTripper // to Auth0 and IMS
}

// run does what the arguments say, until it is done or ctx ends.
func run(ctx context.Context, p program) error {
	command, args := "serve", p.args
	if len(args) > 0 {
		command, args = args[0], args[1:]
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
		fmt.Fprintln(p.stdout, buildText())
		return nil
	case "help", "-h", "--help":
		_, err := io.WriteString(p.stdout, usage)
		return err
	}
	return fmt.Errorf("%w: unknown command %q: want serve, demo, check, version or help", errUsage, command)
}

// buildText names the build: version, commit, Go version.
func buildText() string {
	return "itwin-token-server " + version + " " + commit() + " " + runtime.Version()
}

// commit is the one that the program was built from, as far as Go knows it.
func commit() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}

// runServe is the server as it is deployed.
func runServe(ctx context.Context, p program) error {
	c, err := loadConfig(p.environ, p.dir)
	if err != nil {
		return settingsFault(c, err)
	}
	listener, err := server.Listen(c.Host, c.Port)
	if err != nil {
		return err
	}
	s := newService(c, p.transport, telemetry.NewLog(p.stderr, c.LogFormat, c.LogLevel))
	server.Announce(s.log, listener.Addr(), c.CertFile != "")
	for _, warning := range append(c.misspelt, c.warnings...) {
		s.log.Warn(warning)
	}
	return s.run(ctx, listener, s.routes())
}

// settingsFault says all that is wrong with the settings, on one screen.
func settingsFault(c config, err error) error {
	lines := append([]string{"the settings cannot be used:", err.Error()}, c.misspelt...)
	text := strings.ReplaceAll(strings.Join(lines, "\n"), "\n", "\n  ")
	if c.incomplete {
		text += "\nFill in .env.local (.env says how). To try it without any settings: go run . demo"
	}
	return errors.New(text)
}

// runDemo is the server with stand-ins for Auth0 and IMS. It tells its story, and
// stays up.
func runDemo(ctx context.Context, p program, args []string) error {
	flags := flag.NewFlagSet("demo", flag.ContinueOnError)
	flags.SetOutput(p.stderr)
	life := flags.Duration("token-life", time.Hour, "how long an iTwin token lives")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp): // printed by now
		return nil
	case err != nil || flags.NArg() > 0:
		return fmt.Errorf("%w: demo takes nothing but -token-life", errUsage)
	}
	d, err := demo.Start(*life)
	if err != nil {
		return err
	}
	defer d.Close()
	c, err := loadConfig(d.Settings(prefix, p.environ), "")
	if err != nil {
		return settingsFault(c, err)
	}
	listener, err := server.Listen(c.Host, c.Port)
	if err != nil {
		return err
	}
	level := new(slog.LevelVar) // the story is told without the log between its lines
	level.Set(max(c.LogLevel, slog.LevelWarn))
	s := newService(c, upstream.Transport(d.Roots()), telemetry.NewLog(p.stderr, c.LogFormat, level))
	ended := make(chan error, 1)
	go func() {
		ended <- s.run(ctx, listener, s.routes(route{"GET /demo/userToken", d.UserToken}))
	}()
	if err := d.Run(ctx, p.stdout, "http://"+server.Reachable(listener.Addr())[0].Address); err != nil && ctx.Err() == nil {
		return err
	}
	level.Set(c.LogLevel)
	for _, warning := range c.misspelt {
		s.log.Warn(warning)
	}
	return <-ended
}

// newService makes all that serves; nothing runs yet.
func newService(c config, transport http.RoundTripper, log *slog.Logger) *service {
	o := telemetry.New(log, outcomes())
	s := &service{
		config:   c,
		users:    newVerifier(c, transport, o.Fetches("Auth0 keys", "key_fetches_total", "key_fetch_duration_seconds")),
		tokens:   newTokens(c, transport, o.Fetches("iTwin token", "grants_total", "grant_duration_seconds")),
		log:      log,
		observer: o,
	}
	o.Gauges(version, commit(), s.tokenExpires, s.users.keys.Begun)
	return s
}

// run serves the handler until ctx ends and requests in flight are answered.
func (s *service) run(ctx context.Context, listener net.Listener, handler http.Handler) error {
	owners, stop := context.WithCancel(context.WithoutCancel(ctx)) // requests in flight still need them
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { s.users.keys.Run(owners) })
	running.Go(func() { s.tokens.Run(owners) })
	srv := server.Server{Listener: listener, Handler: handler, Log: s.log, Stopping: func() {
		s.draining.Store(true)
		s.log.Info("shutting down")
	}}
	if s.config.CertFile != "" {
		srv.Certificate = server.Certificate(s.config.CertFile, s.config.KeyFile, s.observer.Certificate)
		s.observer.CertificateExpiry(func() time.Time { return server.Ends(srv.Certificate) })
		running.Go(func() { srv.Certificate.Run(owners) })
	}
	if s.config.MetricsAddr != "" {
		aside, err := net.Listen("tcp", s.config.MetricsAddr)
		if err != nil {
			return fmt.Errorf("%sMETRICS_ADDR: want a free address, got: %w", prefix, err)
		}
		running.Go(func() { server.Aside(owners, aside, &s.observer.Metrics, s.log) })
	}
	return server.Run(ctx, srv)
}

// runCheck tries the settings, and says of a user's token whether it would do.
func runCheck(ctx context.Context, p program, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("%w: check wants one token, or - to read it from standard input", errUsage)
	}
	token, err := check.Token(args, p.stdin)
	if err != nil {
		return err
	}
	c, err := loadConfig(p.environ, p.dir)
	users := newVerifier(c, p.transport, nil)
	owner, stop := context.WithCancel(ctx)
	defer stop()
	patient := check.Patient{
		Settings: c.found, Faults: err, Warnings: append(c.misspelt, c.warnings...),
		Wanted: check.Wanted{Issuer: c.issuer(), Audiences: c.Audiences, Scopes: c.RequiredScopes},
		Keys: func(ctx context.Context) (int, error) {
			go users.keys.Run(owner)
			keys, err := users.keys.Get(ctx, time.Now().Add(2*patience)) // to the fetch's own end, which tells why
			if err != nil {
				return 0, err
			}
			return len(keys.keys), nil
		},
		Grant: func(ctx context.Context) (time.Duration, error) {
			_, life, err := grant(ctx, c, p.transport)
			return life, err
		},
		Verify: func(ctx context.Context, token string) (string, error) {
			token, err := bearerToken(http.Header{"Authorization": {"Bearer " + token}})
			if err == nil {
				_, err = users.verify(ctx, token, time.Now().Add(patience))
			}
			var refused refusal
			errors.As(err, &refused)
			return refused.reason, err
		},
	}
	if !check.Check(ctx, p.stdout, patient, token) {
		return errReported
	}
	return nil
}
