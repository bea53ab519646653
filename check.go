package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"itwin-token-server/internal/check"
	"itwin-token-server/internal/problem"
)

// runReady asks the server that these settings describe: only those of its address matter.
// A host that is refused is not even looked up: it may be a misplaced secret.
func runReady(ctx context.Context, p program) error {
	c, found, _ := loadConfig(p.environ, p.dir)
	refused := found.Setting(prefix+"HOST").Refused || found.Setting(prefix+"PORT").Refused
	if refused || c.Port == "0" {
		return fmt.Errorf("not ready: %[1]sHOST, %[1]sPORT: want where the server listens: "+
			"%[2]s check shows what they are", prefix, p.name)
	}
	return check.Ready(ctx, c.Host, c.Port, c.CertFile != "")
}

// runCheck checks a set-up. If ctx ends it returns at once, whatever the check waits for.
func runCheck(ctx context.Context, p program) error {
	ended := make(chan error, 1)
	go func() { ended <- checkAll(p) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return errInterrupted
	}
}

// checkAll checks the settings, Auth0's keys, a grant and perhaps a user token.
func checkAll(p program) error {
	given, err := check.ReadToken(p.args, p.stdin, p.stderr)
	if err != nil {
		return err
	}
	c, found, err := loadConfig(p.environ, p.dir)
	if c.Certificate != nil && time.Now().After(c.Certificate.Expiry()) {
		err = errors.Join(err, fmt.Errorf("%sTLS_CERT_FILE: want a certificate that is valid, "+
			"got one that has expired", prefix))
	}
	report := check.Report{W: p.stdout, Program: p.name, Issuer: c.issuer(), Authority: c.Authority}
	report.Settings(found, err, adviceIfIncomplete(found, p))
	if err == nil {
		checkUpstream(c, p.transport, &report, given)
	}
	if report.Failed {
		return errReported
	}
	return nil
}

// checkUpstream checks what the server would do: fetch keys, make a grant, verify the token.
// Its context is not the command's: a fetch that Ctrl-C interrupted would be reported as a
// failure.
func checkUpstream(c config, transport http.RoundTripper, report *check.Report, given string) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	users := newVerifier(c, transport, nil)
	go users.keys.Run(ctx)
	_, err := users.keys.Get(ctx) // waits for the fetch, and returns its error
	report.Keys(err)
	_, lifetime, err := grant(ctx, c, transport)
	report.Grant(lifetime, err)
	report.Token(given, func(header string) *problem.Problem {
		if _, err := users.authorize(ctx, []string{header}); err != nil {
			return problemOf(err)
		}
		return nil
	})
}
