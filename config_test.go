package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// trickySecret holds what secrets have been broken by: URL and form syntax, shells'
// and .env files' syntax, and spaces at both ends.
const trickySecret = ` p+/=:%&$HOME#"q ü\nr `

// complete is an environment with nothing missing; more comes after it, and wins.
func complete(more ...string) []string {
	for i := range more {
		more[i] = prefix + more[i]
	}
	return append([]string{
		prefix + "CLIENT_ID=service-x", prefix + "CLIENT_SECRET=" + trickySecret,
		prefix + "AUTH0_DOMAIN=tenant.us.auth0.com", prefix + "AUTH0_AUDIENCE=" + testAudience,
	}, more...)
}

// folder is a new one with these files: name, text, name, text.
func folder(t testing.TB, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		path := filepath.Join(dir, files[i])
		if err := os.WriteFile(path, []byte(files[i+1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestDefaults(t *testing.T) {
	c, f, err := loadConfig(complete(), folder(t))
	want := config{
		ClientID: "service-x", ClientSecret: newSecret(trickySecret), Domain: "tenant.us.auth0.com",
		Audiences: []string{testAudience}, Authority: "https://ims.bentley.com",
		Scope: "itwin-platform", Port: "3001", LogFormat: "text",
	}
	if err != nil || f.Warnings != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("loadConfig = %+v, %q, %v; want %+v", c, f.Warnings, err, want)
	}
}

func TestGoodValues(t *testing.T) {
	for _, tt := range []struct{ name, value, field, want string }{
		{"CLIENT_ID", "  service-x\t", "ClientID", "service-x"},
		{"AUTH0_DOMAIN", " HTTPS://My-Tenant.US.Auth0.com:443/ ", "Domain", "my-tenant.us.auth0.com"},
		{"AUTH0_DOMAIN", "[::1]:43211", "Domain", "[::1]:43211"},
		{"AUTH0_AUDIENCE", " a, https://b/ü ,,c", "Audiences", "[a https://b/ü c]"},
		{"AUTH0_REQUIRED_SCOPE", " read:a  read:b ", "RequiredScopes", "[read:a read:b]"},
		{"AUTH0_ORGANIZATION", " Acme ,org_aB1c,other-1", "Organizations", "[acme org_aB1c other-1]"},
		{"AUTHORITY", "HTTPS://127.0.0.1:8443/ims//", "Authority", "https://127.0.0.1:8443/ims"},
		{"SCOPE", "  imodels:read   itwinjs ", "Scope", "imodels:read itwinjs"},
		{"HOST", "[::1]", "Host", "::1"},
		{"HOST", "my-machine.local", "Host", "my-machine.local"},
		{"PORT", " 65535 ", "Port", "65535"},
		{"CORS_ORIGINS", "https://a.b:80, http://[::1]:3", "Origins", "[https://a.b:80 http://[::1]:3]"},
		{"LOG_LEVEL", "debug", "LogLevel", "DEBUG"},
		{"LOG_FORMAT", "JSON", "LogFormat", "json"},
		{"METRICS_ADDR", ":0", "MetricsAddr", ":0"},
	} {
		c, _, err := loadConfig(complete(tt.name+"="+tt.value), "")
		got := fmt.Sprint(reflect.ValueOf(c).FieldByName(tt.field))
		if err != nil || got != tt.want {
			t.Errorf("%s=%q gives %s, %v; want %s", tt.name, tt.value, got, err, tt.want)
		}
	}
}

// The error names the setting and shows the right form.
func TestRefusedValues(t *testing.T) {
	for _, tt := range []struct {
		name, form string
		values     []string
	}{
		{"CLIENT_ID", "service-…", []string{"service-x\ny", "service-x\u200by", "\xe4"}},
		{"AUTH0_DOMAIN", "acme-demo.us.auth0.com", []string{
			"tenant", "http://tenant.us.auth0.com", "https://tenant.us.auth0.com/authorize",
			"https://", ":8443", "tenant.us.auth0.com/?x=1", "my tenant.us.auth0.com",
			"tenant.us.auth0.com.", "tenant..auth0.com", "-tenant.auth0.com", "tenant:443", "::1",
			"tenant.us.auth0.com:70000", "jane:hunter2@tenant.us.auth0.com", "t.auth0.com\x1b[2J",
			"ten\u0430nt.us.auth0.com", "\u212aeys.us.auth0.com", // Cyrillic a, Kelvin sign
			strings.Repeat("a", 64) + ".auth0.com", // longer than a label may be: a JWT, say
		}},
		{"AUTH0_AUDIENCE", "https://api.example.com,aB3dE5fG7hJ9", []string{
			" , ", "a b", "a, b c", "a\u00a0b", `["a","b"]`, "{a}", "a\u200b", "“a”", "‘a’", "a\nb",
		}},
		{"AUTH0_REQUIRED_SCOPE", "read:itwin write:itwin", []string{
			"read:a,read:b", "read:a, read:b", `["read"]`, "read\u200b", "“read”", "read\r\nx: y",
		}},
		{"AUTH0_ORGANIZATION", "org_aB3dE5fG,acme", []string{",", "org_a org_b", "a;b", "org_\u0430"}},
		{"AUTHORITY", "https://ims.bentley.com", []string{
			"http://ims.bentley.com", "ims.bentley.com", "https://:443", "https://ims bentley.com",
			"https://ims.bentley.com?", "https://ims.bentl\u0435y.com", "https://jane:x@ims.bentley.com",
		}},
		{"SCOPE", "separated by spaces", []string{`itwin"platform`, "itwin\tplatform", "itwin,platform"}},
		{"HOST", "without a port", []string{"localhost:3001", "http://localhost", "[]", "a+b=="}},
		{"PORT", "enableServiceLinks: false", []string{"http", "-1", "65536", "tcp://10.0.0.1:3001"}},
		{"CORS_ORIGINS", "https://app.example.com", []string{
			"https://app.example.com/", "app.example.com", "null", "https://*.example.com", "*,x",
			"https://App.example.com", "https://a.com,,https://b.com/x", "https://jane@a.com", ",",
			"https://a.com:443", "http://a.com,http://b.com:80", "https://a.b\u200b", "“https://a.b”",
		}},
		{"LOG_LEVEL", "debug, info, warn or error", []string{"loud"}},
		{"LOG_FORMAT", "text or json", []string{"xml"}},
		{"METRICS_ADDR", "127.0.0.1:9464", []string{"9090", "localhost:http", "a+b==:9090"}},
	} {
		for _, value := range tt.values {
			_, f, err := loadConfig(complete(tt.name+"="+value), "")
			s := f.Setting(prefix + tt.name)
			want := s.Name + ": want " + s.Want + ", got " + s.Shown + " (environment)"
			if fmt.Sprint(err) != want || !strings.Contains(want, tt.form) || f.Incomplete {
				t.Errorf("%s=%q gives\n%v, want\n%s, with %s", tt.name, value, err, want, tt.form)
			}
		}
	}
}

// These settings depend on each other, or on files.
func TestRefusedTogether(t *testing.T) {
	dir, _ := tlsFiles(t)
	t.Chdir(dir)
	in := fmt.Sprintf(" in %q (environment): ", dir)
	long := strings.Repeat("a-folder/", 9)
	for _, tt := range []struct {
		environ      []string
		setting, got string // what is refused, and how the error goes on
	}{
		{[]string{"CLIENT_SECRET=a\nb"}, "CLIENT_SECRET", "a value, not shown (environment)"},
		{[]string{"CLIENT_SECRET_FILE=secret"}, "CLIENT_SECRET_FILE",
			`"secret"` + in + prefix + "CLIENT_SECRET is set too"},
		{[]string{"CLIENT_SECRET=", "CLIENT_SECRET_FILE=secret", "CLIENT_ID=in-the-file"}, "CLIENT_ID",
			"11 characters, not shown (environment): the client secret is in it"},
		{[]string{"CLIENT_SECRET=", "CLIENT_SECRET_FILE=none"}, "CLIENT_SECRET_FILE", `"none"` + in},
		{[]string{"CLIENT_SECRET=", "CLIENT_SECRET_FILE=" + long + "+="}, "CLIENT_SECRET_FILE",
			"83 characters, not shown" + in}, // may be the secret itself
		{[]string{"TLS_CERT_FILE=" + long, "TLS_KEY_FILE=key"}, "TLS_CERT_FILE", `"` + long + `"` + in},
		{[]string{"TLS_KEY_FILE=key"}, "TLS_CERT_FILE", "nothing"},
		{[]string{"TLS_CERT_FILE=cert"}, "TLS_KEY_FILE", "nothing"},
		{[]string{"TLS_CERT_FILE=.", "TLS_KEY_FILE=key"}, "TLS_CERT_FILE", `"."` + in + "not a regular"},
		{[]string{"TLS_CERT_FILE=cert", "TLS_KEY_FILE=."}, "TLS_KEY_FILE", `"."` + in + "not a regular"},
		{[]string{"TLS_CERT_FILE=cert", "TLS_KEY_FILE=secret"}, "TLS_KEY_FILE", `"secret"` + in + "cert"},
	} {
		_, f, err := loadConfig(complete(tt.environ...), "")
		s := f.Setting(prefix + tt.setting)
		want := s.Name + ": want " + s.Want + ", got " + tt.got
		if text := fmt.Sprint(err); !strings.HasPrefix(text, want) || strings.Contains(text, "\n") {
			t.Errorf("%q: got\n%s, want\n%s", tt.environ, text, want)
		}
	}
}

func TestProxy(t *testing.T) {
	for proxy, want := range map[string]string{
		"": "<nil>", "http://jane:x@proxy:3128": "<nil>", "proxy:3128": "<nil>",
		"http://jane:hunter2%@proxy": "https_proxy: want a URL",
		"http://proxy:hunter2":       "https_proxy: want a URL",
		"http://":                    "https_proxy: want a URL",
	} {
		_, _, err := loadConfig(append(complete(), "https_proxy="+proxy), "")
		text := fmt.Sprint(err)
		if !strings.HasPrefix(text, want) || strings.Contains(text, "hunter2") {
			t.Errorf("https_proxy=%s: %v, want %s, not shown", proxy, err, want)
		}
	}
}

// tlsFiles is a folder with the cert and the key of a server on 127.0.0.1, and a secret.
func tlsFiles(t testing.TB) (dir string, s *httptest.Server) {
	t.Helper()
	s = httptest.NewTLSServer(nil)
	t.Cleanup(s.Close)
	der := must(x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey))
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return folder(t, "key", string(key), "cert", string(cert), "secret", "in-the-file"), s
}

func TestWarnings(t *testing.T) {
	dir, _ := tlsFiles(t)
	t.Chdir(dir)
	for want, environ := range map[string][]string{
		"AUTH0_AUDIENCE is not set: ":                  {"AUTH0_AUDIENCE="},
		"CLIENT_ID does not begin with service-":       {"CLIENT_ID=nS5CcqYHbPjM"},
		"TLS_CERT_FILE: this machine would not accept": {"TLS_CERT_FILE=cert", "TLS_KEY_FILE=key"},
	} {
		_, f, err := loadConfig(complete(environ...), "")
		if err != nil || len(f.Warnings) != 1 || !strings.HasPrefix(f.Warnings[0], prefix+want) {
			t.Errorf("%q: warnings %q, %v; want %s", environ, f.Warnings, err, want)
		}
	}
}

func TestAllErrorsAtOnce(t *testing.T) {
	dir := folder(t, ".env.local", prefix+"CLIENT_SECRET=x\n"+prefix+"CLIENT_ID='x")
	environ := []string{
		prefix + "AUTHORITY=http://x", "PORT=x", prefix + "LOG_FORMAT=x", "HTTPS_PROXY=//",
	}
	_, f, err := loadConfig(environ, dir)
	want := []string{
		".env.local line 2", prefix + "CLIENT_ID", prefix + "AUTH0_DOMAIN", prefix + "AUTHORITY",
		prefix + "PORT", prefix + "LOG_FORMAT", "HTTPS_PROXY",
	}
	got := strings.Split(fmt.Sprint(err), "\n")
	if !slices.EqualFunc(got, want, strings.HasPrefix) || !f.Incomplete {
		t.Errorf("loadConfig = %q, incomplete %v; want %q", got, f.Incomplete, want)
	}
}

func TestSettingsError(t *testing.T) {
	empty, local := t.TempDir(), folder(t, ".env.local", "")
	for dir, want := range map[string]string{
		empty: "no .env.local in " + empty + ": set the variables in the environment, or copy the " +
			"repository's .env to .env.local and fill it in",
		local: "read .env.local in " + local,
	} {
		_, f, err := loadConfig([]string{prefix + "PROT=1"}, dir)
		got := settingsError(f, err, program{name: "itwin-token-server", dir: dir}).Error()
		want = "\n" + want + "\nTo try the server without any settings: itwin-token-server demo"
		report, _, _ := runOnce(program{args: []string{"check"}, dir: dir})
		if !strings.Contains(got, "\n  warning: \""+prefix) || !strings.HasSuffix(got, want) ||
			!strings.Contains(report, dir) {
			t.Errorf("got\n%s\nwant at the end %s\ncheck reports\n%s", got, want, report)
		}
	}
}

// Whatever prints a config, nothing of the secret is in it.
func TestNothingPrintsTheSecret(t *testing.T) {
	c := config{ClientID: "service-x", ClientSecret: newSecret(trickySecret)}
	nested := struct {
		Pointer *config
		hidden  config // fmt calls no method of it
		Secrets []secret
		ByName  map[string]secret
	}{&c, c, []secret{c.ClientSecret}, map[string]secret{"a": c.ClientSecret}}
	var printed bytes.Buffer
	text := slog.New(slog.NewTextHandler(&printed, nil))
	json := slog.New(slog.NewJSONHandler(&printed, nil))
	for _, v := range []any{c.ClientSecret, &c.ClientSecret, c, &c, nested, &nested} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10.3s"} {
			fmt.Fprintf(&printed, "fmt "+verb+"\n", v)
		}
		text.Info("a", "b", v, slog.Group("c", "d", v))
		json.Info("a", "b", v, slog.Group("c", "d", v))
	}
	hex := fmt.Sprintf("%x", "HOME#")
	for _, form := range []string{"p+/=:", "HOME#", hex, strings.ToUpper(hex)} {
		if strings.Contains(printed.String(), form) {
			t.Errorf("the secret is shown as %s in\n%s", form, &printed)
		}
	}
}

func TestMisspeltNames(t *testing.T) {
	for typo, name := range map[string]string{
		"AUDIENCE": "AUTH0_AUDIENCE", "AUTH0_DOMAN": "AUTH0_DOMAIN", "ID": "CLIENT_ID",
		"AUTH0_SCOPE": "AUTH0_REQUIRED_SCOPE", "SECRET": "CLIENT_SECRET", "CORS": "CORS_ORIGINS",
		"SECRET_FILE": "CLIENT_SECRET_FILE", "PROT": "PORT", "TLS_CERTIFICATE": "TLS_CERT_FILE",
	} {
		_, f, err := loadConfig(complete(typo+"=x"), "")
		want := fmt.Sprintf("%q (environment) is not a setting; did you mean %s?",
			prefix+typo, prefix+name)
		if err != nil || !slices.Equal(f.Warnings, []string{want}) {
			t.Errorf("warnings %q, %v; want %q", f.Warnings, err, want)
		}
	}
}

// names are those of all settings.
func names() (names []string) {
	for _, s := range new(config).settings() {
		names = append(names, s.Name)
	}
	return names
}

// The sample .env, the table and the README's table name the same settings, in
// the same order, with the same defaults.
func TestSampleEnvMatchesSettings(t *testing.T) {
	sample := string(must(os.ReadFile(".env")))
	variable := regexp.MustCompile(`(?m)^ITM_TOKEN_SERVER_\w+`)
	if got := variable.FindAllString(sample, -1); !slices.Equal(got, names()) {
		t.Errorf(".env has %q, want %q", got, names())
	}
	c, f, err := loadConfig([]string{"PORT=8080"}, folder(t, ".env", sample))
	placeholders := strings.Count(fmt.Sprint(err), "the placeholder is still there (.env)")
	if lines := strings.Count(fmt.Sprint(err), "\n") + 1; lines != 3 || placeholders != 3 {
		t.Errorf("the sample .env as it is: %v, want the placeholders of three settings", err)
	}
	for _, s := range f.Settings {
		if s.Source == ".env" && s.Shown != fmt.Sprintf("%q", s.Default) {
			t.Errorf(".env has %s=%s, want the default %s", s.Name, s.Shown, s.Default)
		}
	}
	if c.Port != "8080" || !strings.Contains(sample, prefix+"CLIENT_SECRET='") {
		t.Errorf("port %s, want PORT=8080, and the secret in single quotes in\n%s", c.Port, sample)
	}
}

// A row may group settings: | `ITM_TOKEN_SERVER_LOG_LEVEL`, `_LOG_FORMAT` | `info`, `text` | … |
func TestReadmeTableMatchesSettings(t *testing.T) {
	readme := must(os.ReadFile("README.md"))
	for _, s := range new(config).settings() {
		name := strings.TrimPrefix(s.Name, "ITM_TOKEN_SERVER")
		row := "(?m)^\\| [^|]*`(ITM_TOKEN_SERVER)?" + name + "`[^|]*\\| [^|]*`?" +
			regexp.QuoteMeta(s.Default) + "`?[^|]*\\|"
		if !regexp.MustCompile(row).Match(readme) {
			t.Errorf("README's table has no %s with the default %q", s.Name, s.Default)
		}
	}
}

// Every variable that code, documents and deployment files mention is a setting.
func TestMentionedNamesAreSettings(t *testing.T) {
	mention := regexp.MustCompile(`(?:ITM_TOKEN_SERVER_|prefix ?\+ ?")([A-Z][A-Z0-9_]*[A-Z0-9])`)
	for _, pattern := range []string{
		"*.go", "*.md", "docs/*.md", "internal/*/*.go", "deploy/*.*", "examples/*.md", "examples/*/*.md",
	} {
		for _, path := range must(filepath.Glob(pattern)) {
			if strings.HasSuffix(path, "_test.go") {
				continue
			}
			for _, name := range mention.FindAllStringSubmatch(string(must(os.ReadFile(path))), -1) {
				if !slices.Contains(names(), prefix+name[1]) {
					t.Errorf("%s mentions %s, which is not a setting", path, name[0])
				}
			}
		}
	}
}
