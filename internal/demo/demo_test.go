package demo

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/MicahParks/keyfunc/v3"
	"github.com/golang-jwt/jwt/v5"

	"itwin-token-server/internal/standin"
)

const prefix = "ITM_TOKEN_SERVER_"

func start(t *testing.T) *Demo {
	t.Helper()
	d, err := Start(time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// Every setting of the user's that would change what the demo talks to is replaced,
// whatever it is set to; every other one is kept.
func TestSettings(t *testing.T) {
	d := start(t)
	want := map[string]string{
		"CLIENT_ID": d.standin.IMS.ClientID(), "CLIENT_SECRET": d.standin.IMS.ClientSecret(),
		"AUTH0_DOMAIN": d.standin.Tenant.Domain(), "AUTH0_AUDIENCE": audience, "AUTHORITY": d.standin.IMS.URL(),
		"CLIENT_SECRET_FILE": "", "AUTH0_REQUIRED_SCOPE": "", "AUTH0_ORGANIZATION": "", "SCOPE": "",
		"TLS_CERT_FILE": "", "TLS_KEY_FILE": "",
	}
	kept := []string{
		"PORT=8080", prefix + "PORT=1", prefix + "HOST=::1", prefix + "LOG_LEVEL=debug", prefix + "LOG_FORMAT=json",
		prefix + "METRICS_ADDR=:2", prefix + "CORS_ORIGINS=https://a.example", prefix + "PROT=3", "CLIENT_ID=x", "SCOPE",
	}
	for name := range want {
		environ := append([]string{prefix + name + "=the user's", prefix + name + "="}, kept...)
		got := d.Settings(prefix, environ)
		for name, value := range want {
			var values []string
			for _, entry := range got {
				if v, found := strings.CutPrefix(entry, prefix+name+"="); found {
					values = append(values, v)
				}
			}
			if value == "" && len(values) > 0 || value != "" && !slices.Equal(values, []string{value}) {
				t.Errorf("%s is %q, want only %q", name, values, value)
			}
		}
		if !slices.Equal(got[:len(kept)], kept) {
			t.Errorf("with %s: got %q, want %q kept", name, got, kept)
		}
	}
}

func TestTokenLife(t *testing.T) {
	for _, life := range []time.Duration{-time.Minute, 0, time.Second, MinTokenLife - 1, MinTokenLife + 1, 4500 * time.Millisecond} {
		if _, err := Start(life); err == nil || !strings.Contains(err.Error(), "whole seconds") || !strings.Contains(err.Error(), MinTokenLife.String()) {
			t.Errorf("Start(%v) = %v, want an error with the least life, in whole seconds", life, err)
		}
	}
	d, err := Start(MinTokenLife)
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
}

func TestRun(t *testing.T) {
	d := start(t)
	keys, err := keyfunc.NewJWKSetJSON(d.standin.Tenant.JWKS())
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /demo/userToken", d.UserToken)
	mux.HandleFunc("GET /getToken", func(w http.ResponseWriter, r *http.Request) {
		userToken, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		if _, err := jwt.Parse(userToken, keys.Keyfunc, jwt.WithAudience(audience)); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		io.WriteString(w, "Bearer iTwin")
	})
	server := httptest.NewServer(mux)
	defer server.Close()

	out := new(standin.Log)
	if err := d.Run(t.Context(), out, server.URL); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"Not for production", d.standin.Tenant.Issuer(), d.standin.IMS.URL(), server.URL + "/getToken",
		"that token +200  Bearer iTwin\n", "forged token +401  .*signature is invalid", "without a token +401  ",
	} {
		if !regexp.MustCompile(want).MatchString(out.String()) {
			t.Errorf("no %s in:\n%s", want, out)
		}
	}
	command := out.Await(t, `\n(curl .*)\n$`)
	if _, err := exec.LookPath("curl"); err == nil && runtime.GOOS != "windows" {
		if got, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil || string(got) != "Bearer iTwin" {
			t.Errorf("%s printed %q, %v; want Bearer iTwin", command, got, err)
		}
	}
	server.Close()
	if err := d.Run(t.Context(), out, server.URL); err == nil {
		t.Error("Run without a server = nil, want an error")
	}
}
