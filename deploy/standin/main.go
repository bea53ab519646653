// Command standin runs the stand-in Auth0 tenant and the stand-in IMS by themselves, to test a
// deployment of the real server with them. NOT FOR PRODUCTION: it gives a user token to its caller.
//
//	standin DIR
//
// It writes into DIR what a server and its client need: env (the settings, without the secret),
// client-secret, ca.pem (for SSL_CERT_FILE or the system's CA file) and user-token (valid for a
// day). Then it prints "ready" and serves until SIGTERM.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"itwin-token-server/internal/standin"
)

const audience = "https://tokens.example.com"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "standin:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one argument, the folder to write to, got %q", args)
	}
	s, err := standin.New()
	if err != nil {
		return err
	}
	if err := s.Start(); err != nil {
		return err
	}
	defer s.Close()

	env := fmt.Sprintf("ITM_TOKEN_SERVER_AUTH0_DOMAIN=%s\nITM_TOKEN_SERVER_AUTH0_AUDIENCE=%s\n"+
		"ITM_TOKEN_SERVER_AUTHORITY=%s\nITM_TOKEN_SERVER_CLIENT_ID=%s\n",
		s.Tenant.Domain(), audience, s.IMS.URL(), s.IMS.ClientID())
	for name, content := range map[string]string{
		"env":           env,
		"client-secret": s.IMS.ClientSecret(),
		"ca.pem":        string(s.CACert()),
		"user-token":    s.Tenant.AccessToken(audience),
	} {
		if err := os.WriteFile(filepath.Join(args[0], name), []byte(content), 0o600); err != nil {
			return err
		}
	}
	fmt.Println("ready")

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	<-ctx.Done()
	return nil
}
