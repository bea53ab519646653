package demo

import (
	"io"
	"net/http/httptest"
	"strings"
	"testing"
)

func start(t *testing.T) *Demo {
	t.Helper()
	d, err := Start(MinTokenLife)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

// The user's settings that would change what the demo connects to are replaced. The
// others are kept.
func TestSettings(t *testing.T) {
	d := start(t)
	for name, want := range map[string]string{
		"P_CLIENT_ID":            d.IMS.ClientID(),
		"P_CLIENT_SECRET":        d.IMS.ClientSecret(),
		"P_CLIENT_SECRET_FILE":   "",
		"P_AUTH0_DOMAIN":         d.Tenant.Domain(),
		"P_AUTH0_AUDIENCE":       audience,
		"P_AUTH0_REQUIRED_SCOPE": "",
		"P_AUTH0_ORGANIZATION":   "",
		"P_AUTHORITY":            d.IMS.URL(),
		"P_SCOPE":                "",
		"P_TLS_CERT_FILE":        "",
		"P_TLS_KEY_FILE":         "",
		"P_PORT":                 "the user's",
		"P_HOST":                 "the user's",
		"P_METRICS_ADDR":         "the user's",
		"CLIENT_ID":              "the user's",
	} {
		got := ""
		for _, entry := range d.Settings("P_", []string{name + "=the user's"}) {
			if value, found := strings.CutPrefix(entry, name+"="); found {
				got = value // the last one counts
			}
		}
		if got != want {
			t.Errorf("%s = %q, want %q", name, got, want)
		}
	}
}

// The exchange itself is shown by the transcript of the whole program, testdata/demo.golden.
func TestRunWithoutAServer(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	if err := start(t).Run(t.Context(), io.Discard, server.URL); err == nil {
		t.Error("Run without a server = nil, want an error")
	}
}
