package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// awkward holds what secrets have been broken by: URL and form syntax, shells'
// and .env files' syntax, and spaces at both ends.
const awkward = ` p+/=:%&$HOME#"q ü\nr `

// complete is an environment with nothing missing; more comes after it, and wins.
func complete(more ...string) []string {
	for i := range more {
		more[i] = prefix + more[i]
	}
	return append([]string{
		prefix + "CLIENT_ID=service-x", prefix + "CLIENT_SECRET=" + awkward,
		prefix + "AUTH0_DOMAIN=tenant.us.auth0.com", prefix + "AUTH0_AUDIENCE=" + testAudience,
	}, more...)
}

// folder is a new one with these files: name, text, name, text.
func folder(t testing.TB, files ...string) string {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		write(t, dir, files[i], files[i+1])
	}
	return dir
}

func write(t testing.TB, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestDefaults(t *testing.T) {
	c, f, err := loadConfig(complete(), folder(t))
	if err != nil || f.Warnings != nil {
		t.Fatal(err, f.Warnings)
	}
	want := config{
		ClientID: "service-x", Domain: "tenant.us.auth0.com", Audiences: []string{testAudience},
		Authority: "https://ims.bentley.com", Scope: "itwin-platform", Port: "3001", LogFormat: "text",
	}
	got := c.ClientSecret.reveal()
	c.ClientSecret = secret{}
	if fmt.Sprintf("%#v", c) != fmt.Sprintf("%#v", want) || got != awkward {
		t.Errorf("loadConfig = %+v, want %+v", c, want)
	}
	if got := c.issuer(); got != "https://tenant.us.auth0.com/" {
		t.Errorf("issuer() = %s, want it with a slash at the end", got)
	}
}

func TestGoodValues(t *testing.T) {
	tests := []struct {
		name, field string
		values      []string // what is set, what the config has, and so on
	}{
		{"CLIENT_ID", "ClientID", []string{"  service-x\t", "service-x"}},
		{"AUTH0_DOMAIN", "Domain", []string{
			"tenant.us.auth0.com", "tenant.us.auth0.com", "https://tenant.us.auth0.com", "tenant.us.auth0.com",
			" HTTPS://Tenant.US.Auth0.com/ ", "tenant.us.auth0.com", "login.example.com", "login.example.com",
			"my_tenant-1.eu.auth0.com", "my_tenant-1.eu.auth0.com", "tenant.us.auth0.com:8443", "tenant.us.auth0.com:8443",
			"https://127.0.0.1:43211/", "127.0.0.1:43211", "localhost:43211", "localhost:43211", "[::1]:43211", "[::1]:43211",
			"xn--tnant-wqa.example.com", "xn--tnant-wqa.example.com", "tenant.us.auth0.com:443", "tenant.us.auth0.com", "oidc:8443", "oidc:8443",
		}},
		{"AUTH0_AUDIENCE", "Audiences", []string{"a, b ,,c", "[a b c]"}},
		{"AUTH0_REQUIRED_SCOPE", "RequiredScopes", []string{" read:a  read:b ", "[read:a read:b]"}},
		{"AUTH0_ORGANIZATION", "Organizations", []string{" Acme ,org_aB1c,other-1", "[acme org_aB1c other-1]"}},
		{"AUTHORITY", "Authority", []string{
			"https://qa-ims.bentley.com/", "https://qa-ims.bentley.com", "HTTPS://ims.bentley.com", "https://ims.bentley.com",
			"https://127.0.0.1:8443/ims//", "https://127.0.0.1:8443/ims",
		}},
		{"SCOPE", "Scope", []string{"  imodels:read   itwinjs ", "imodels:read itwinjs"}},
		{"HOST", "Host", []string{"127.0.0.1", "127.0.0.1", "[::1]", "::1", "::", "::", "my-machine.local", "my-machine.local"}},
		{"PORT", "Port", []string{"0", "0", "65535", "65535", " 8080 ", "8080"}},
		{"CORS_ORIGINS", "Origins", []string{
			"*", "[]", "https://app.example.com,*", "[]", "https://app.example.com, http://localhost:3000", "[https://app.example.com http://localhost:3000]",
		}},
		{"LOG_LEVEL", "LogLevel", []string{"debug", "DEBUG", "WARN", "WARN", "error", "ERROR"}},
		{"LOG_FORMAT", "LogFormat", []string{"JSON", "json"}},
		{"METRICS_ADDR", "MetricsAddr", []string{"127.0.0.1:9090", "127.0.0.1:9090", ":0", ":0", "[::1]:9090", "[::1]:9090"}},
	}
	for _, test := range tests {
		for pair := range slices.Chunk(test.values, 2) {
			c, _, err := loadConfig(complete(test.name+"="+pair[0]), "")
			if got := fmt.Sprint(reflect.ValueOf(c).FieldByName(test.field)); err != nil || got != pair[1] {
				t.Errorf("%s=%q gives %s, %v; want %s", test.name, pair[0], got, err, pair[1])
			}
		}
	}
}

// A refused value is named with what is expected; what is shown of it, the
// dotenv package decides.
func TestRefusedValues(t *testing.T) {
	tests := map[string][]string{
		"AUTH0_DOMAIN": {
			"tenant", "acme-demo", "localhost", "http://tenant.us.auth0.com", "https://tenant.us.auth0.com/authorize", "https://tenant.us.auth0.com//",
			"https://https://tenant.us.auth0.com", "https://", "tenant.us.auth0.com/?x=1", "tenant.us.auth0.com#login", "my tenant.us.auth0.com",
			"tenant.us.auth0.com.", ".us.auth0.com", "tenant..auth0.com", "-tenant.us.auth0.com", "tenant.us.auth0.com:", "tenant.us.auth0.com:0",
			"tenant.us.auth0.com:https", "tenant.us.auth0.com:70000", "tenant:443", "::1", "jane:hunter2@tenant.us.auth0.com",
			"ten\u0430nt.us.auth0.com",             // Cyrillic a
			"\u212aeys.us.auth0.com",               // Kelvin sign, k in lower case
			"tenant\uff0eus\uff0eauth0.com",        // full-width dots
			"tenant.us.auth0.com\x1b[2J",           // a terminal's escape
			strings.Repeat("a", 64) + ".auth0.com", // longer than a label may be: a JWT, say
		},
		"AUTH0_AUDIENCE":       {",", " , "},
		"AUTH0_REQUIRED_SCOPE": {`read"`, "read\r\nx: y"}, // they would end the challenge's string
		"AUTH0_ORGANIZATION":   {",", "org_a b", "a;b", "org_\u0430"},
		"AUTHORITY": {
			"http://ims.bentley.com", // the secret would travel in the clear
			"ims.bentley.com", "https://", "https://:443", "https:ims.bentley.com", "https://ims.bentley.com?", "https://ims.bentley.com#a",
			"https://ims bentley.com", "https://ims.bentl\u0435y.com", "https://jane:hunter2@ims.bentley.com",
		},
		"SCOPE":        {`itwin"platform`, "itwin\tplatform"},
		"HOST":         {"localhost:3001", "http://localhost", "[", "[]", "a+b==", strings.Repeat("a", 66)},
		"PORT":         {"http", "-1", "65536", ":3001", "tcp://10.0.0.1:3001"},
		"CORS_ORIGINS": {"https://app.example.com/", "app.example.com", "null", "https://*.example.com", "https://App.example.com", "https://a.com https://b.com", "https://a.com,,https://b.com/x", "*,x", "https://jane@a.com", ","},
		"LOG_LEVEL":    {"loud", "warning"},
		"LOG_FORMAT":   {"xml"},
		"METRICS_ADDR": {"9090", "localhost:http", "a+b==:9090"},
	}
	for name, values := range tests {
		for _, value := range values {
			_, f, err := loadConfig(complete(name+"="+value), "")
			s := f.Setting(prefix + name)
			if want := s.Name + ": want " + s.Want + ", got " + s.Got; err == nil || err.Error() != want || s.Got == "" || f.Incomplete {
				t.Errorf("%s=%q gives\n%v, want\n%s", name, value, err, want)
			}
		}
	}
}

// These settings depend on each other, or on files. A file's name that cannot be
// used may be the secret itself.
func TestRefusedTogether(t *testing.T) {
	const empty, notOneLine = "an empty one", "more than a line of text in UTF-8"
	t.Chdir(folder(t, "pem", "-----BEGIN CERTIFICATE-----\n", "empty", "", "newline", "\r\n", "placeholder", "<YOUR_hunter2>",
		"lines", "hunter2\nmore", "utf16", "\xff\xfeh\x00u\x00n\x00", "newlines", "hunter2\n\n", "huge", strings.Repeat("hunter2 ", maxSecret/8)+"\n"))
	_, err := os.Open("no-such-file")
	notFound := errors.Unwrap(err).Error()
	tests := []struct{ name, environ, got string }{
		{"CLIENT_SECRET", "  ", "nothing"},
		{"CLIENT_SECRET", "hunter2|CLIENT_SECRET_FILE=pem", "both"},
		{"CLIENT_SECRET_FILE", "hunter2|CLIENT_SECRET=", notFound},
		{"CLIENT_SECRET_FILE", ".|CLIENT_SECRET=", "read "},
		{"CLIENT_SECRET_FILE", "empty|CLIENT_SECRET=", empty},
		{"CLIENT_SECRET_FILE", "newline|CLIENT_SECRET=", empty},
		{"CLIENT_SECRET_FILE", "placeholder|CLIENT_SECRET=", "a placeholder"},
		{"CLIENT_SECRET_FILE", "lines|CLIENT_SECRET=", notOneLine},
		{"CLIENT_SECRET_FILE", "newlines|CLIENT_SECRET=", notOneLine},
		{"CLIENT_SECRET_FILE", "utf16|CLIENT_SECRET=", notOneLine},
		{"CLIENT_SECRET_FILE", "huge|CLIENT_SECRET=", notOneLine},
		{"TLS_KEY_FILE", "|TLS_CERT_FILE=pem", "nothing"},
		{"TLS_CERT_FILE", "|TLS_KEY_FILE=pem", "nothing"},
		{"TLS_CERT_FILE", "hunter2|TLS_KEY_FILE=pem", notFound},
		{"TLS_KEY_FILE", "hunter2|TLS_CERT_FILE=pem", notFound},
		{"TLS_CERT_FILE", "pem|TLS_KEY_FILE=pem", "pem with pem: "},
	}
	for _, test := range tests {
		_, f, err := loadConfig(complete(strings.Split(test.name+"="+test.environ, "|")...), "")
		text, s := fmt.Sprint(err), f.Setting(prefix+test.name)
		if !strings.HasPrefix(text, s.Name+": want "+s.Want+", got "+test.got) || strings.Contains(text, "\n") || strings.Contains(fmt.Sprintf("%s %+v", text, f), "hunter2") {
			t.Errorf("%s=%q gives\n%s, want %s and %q, and no secret: %+v", test.name, test.environ, text, test.name, test.got, f)
		}
	}
}

// tlsFiles is a folder with the cert and the key of a server on 127.0.0.1.
func tlsFiles(t testing.TB) (dir string, s *httptest.Server) {
	t.Helper()
	s = httptest.NewTLSServer(nil)
	t.Cleanup(s.Close)
	key := must(x509.MarshalPKCS8PrivateKey(s.TLS.Certificates[0].PrivateKey))
	return folder(t, "key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})),
		"cert", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}))), s
}

func TestCertificateThatExpiresSoon(t *testing.T) {
	dir, s := tlsFiles(t)
	t.Chdir(dir)
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(s.Certificate().NotAfter) - time.Hour)
		_, f, err := loadConfig(complete("TLS_CERT_FILE=cert", "TLS_KEY_FILE=key"), "")
		if err != nil || len(f.Warnings) != 1 || !strings.HasPrefix(f.Warnings[0], prefix+"TLS_CERT_FILE: the certificate expires at ") {
			t.Errorf("warnings %q, %v; want one, that the certificate expires", f.Warnings, err)
		}
		time.Sleep(2 * time.Hour)
		stdout, _, err := runOnce(program{args: []string{"check"}, environ: complete("TLS_CERT_FILE=cert", "TLS_KEY_FILE=key")})
		if err != errReported || !strings.Contains(stdout, "no  settings        "+prefix+"TLS_CERT_FILE: want a certificate that is valid") {
			t.Errorf("check ends with %v, want %v:\n%s", err, errReported, stdout)
		}
	})
}

func TestAllErrorsAtOnce(t *testing.T) {
	_, f, err := loadConfig([]string{prefix + "AUTHORITY=http://x", "PORT=x", prefix + "LOG_FORMAT=x"}, folder(t, ".env.local", prefix+"CLIENT_SECRET=a$b"))
	var got []string
	for line := range strings.SplitSeq(fmt.Sprint(err), "\n") {
		got = append(got, line[:strings.IndexAny(line, ": ")])
	}
	want := []string{".env.local", prefix + "CLIENT_ID", prefix + "AUTH0_DOMAIN", prefix + "AUTHORITY", "PORT", prefix + "LOG_FORMAT"}
	if !slices.Equal(got, want) || !f.Incomplete {
		t.Errorf("loadConfig names %q, incomplete %v; want %q", got, f.Incomplete, want)
	}
}

// That it is read again for each grant, token_test.go shows.
func TestCurrentSecret(t *testing.T) {
	dir := t.TempDir()
	c := config{SecretFile: filepath.Join(dir, "secret")}
	if got, err := c.currentSecret(); got.reveal() != "" || err == nil || !strings.HasPrefix(err.Error(), prefix+"CLIENT_SECRET_FILE: want ") {
		t.Errorf("without the file the secret is %q, %v; want an error that names the setting", got.reveal(), err)
	}
	for _, end := range []string{"", "\n", "\r\n"} {
		write(t, dir, "secret", "\ufeff"+awkward+end) // as some editors begin a file
		if got, err := c.currentSecret(); got.reveal() != awkward || err != nil {
			t.Errorf("with %q at its end, the secret is %q, %v; want %q", end, got.reveal(), err, awkward)
		}
	}
}

func TestASecretInTheWrongVariableIsNotShown(t *testing.T) {
	const known, unknown = "hunter2+kVHJ/w==", "hunter2+kVHJ1yXNxUpvbSvR5RyCKvBuKtjrIoBJNvrCKd4gwFo7k6CNUjHMfDNp=="
	file := filepath.Join(folder(t, "secret", known), "secret")
	for _, name := range names() {
		name = strings.TrimPrefix(name, prefix)
		for how, environ := range map[string][]string{
			"of its own variable": complete("CLIENT_SECRET="+known, name+"="+known),
			"of the file":         complete("CLIENT_SECRET=", "CLIENT_SECRET_FILE="+file, name+"="+known),
			"that is nowhere":     complete(name + "=" + unknown),
		} {
			_, f, err := loadConfig(environ, "")
			if text := fmt.Sprintf("%v %+v", err, f); strings.Contains(text, "hunter2") {
				t.Errorf("the secret %s, in %s, is shown: %s", how, name, text)
			}
		}
	}
	for value, want := range map[string]string{"service-aB3x": `"service-aB3x"`, "service-hunter2+/": "set, not shown", "hunter2": "set, not shown", `"service-x"`: "set, not shown"} {
		_, f, err := loadConfig(complete("CLIENT_ID="+value), "")
		if shown := f.Setting(prefix + "CLIENT_ID").Shown; err != nil || shown != want {
			t.Errorf("the client ID %s is shown as %s, %v; want %s", value, shown, err, want)
		}
	}
}

// Whatever prints a config, nothing of the secret is in it.
func TestNothingPrintsTheSecret(t *testing.T) {
	c, _, err := loadConfig(complete(), "")
	if err != nil {
		t.Fatal(err)
	}
	type nested struct {
		Config  config
		Pointer *config
		hidden  config // fmt asks no method about it
		Secrets []secret
		ByName  map[string]secret
	}
	around := nested{c, &c, c, []secret{c.ClientSecret}, map[string]secret{"a": c.ClientSecret}}
	var printed bytes.Buffer
	text, structured := slog.New(slog.NewTextHandler(&printed, nil)), slog.New(slog.NewJSONHandler(&printed, nil))
	for _, v := range []any{c.ClientSecret, &c.ClientSecret, c, &c, around, &around} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%10.3s"} {
			fmt.Fprintf(&printed, "fmt "+verb+"\n", v)
		}
		if err := json.NewEncoder(&printed).Encode(v); err != nil {
			t.Fatal(err)
		}
		text.Info("a", "b", v, slog.Group("c", "d", v))
		structured.Info("a", "b", v, slog.Group("c", "d", v))
	}
	inner := strings.TrimSpace(awkward)
	for _, form := range []string{inner, fmt.Sprintf("%x", inner), fmt.Sprintf("%X", inner), "p+/=:", "HOME#"} {
		if strings.Contains(printed.String(), form) {
			t.Errorf("the secret is shown as %s in\n%s", form, &printed)
		}
	}
	if text, _ := json.Marshal(c.ClientSecret); string(text) != `"[redacted]"` {
		t.Errorf("json of the secret = %s, want [redacted]", text)
	}
}

func TestMisspeltNames(t *testing.T) {
	typos := map[string][]string{
		"AUTH0_AUDIENCE": {"AUDIENCE"}, "AUTH0_ORGANIZATION": {"AUTH0_ORGANISATION", "ORGANIZATION"}, "TLS_CERT_FILE": {"TLS_CERTIFICATE", "CERT"}, "LOG_LEVEL": {"LEVEL"},
		"CLIENT_SECRET": {"SECRET"}, "CLIENT_SECRET_FILE": {"SECRET_FILE"}, "TLS_KEY_FILE": {"KEY", "KEY_FILE"}, "CORS_ORIGINS": {"CORS"},
		"AUTH0_REQUIRED_SCOPE": {"AUTH0_SCOPE"}, "METRICS_ADDR": {"METRICS"}, "CLIENT_ID": {"ID"}, "AUTH0_DOMAIN": {"DOMAIN"},
	}
	for _, full := range names() {
		name := strings.TrimPrefix(full, prefix)
		for i := range len(name) - 1 { // one letter left out, two swapped
			typos[name] = append(typos[name], name[:i]+name[i+1:], name[:i]+name[i+1:i+2]+name[i:i+1]+name[i+2:])
		}
		for _, typo := range slices.DeleteFunc(typos[name], func(typo string) bool { return typo == name }) {
			_, f, err := loadConfig(complete(typo+"=hunter2"), "")
			if want := " in the environment is not a setting; did you mean " + full + "?"; err != nil || len(f.Warnings) != 1 || !strings.HasSuffix(f.Warnings[0], want) {
				t.Errorf("%s: %q, %v; want %q", typo, f.Warnings, err, want)
			}
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

func TestWarningWithoutAnAudience(t *testing.T) {
	_, f, err := loadConfig(complete("AUTH0_AUDIENCE="), "")
	if err != nil || len(f.Warnings) != 1 || !strings.HasPrefix(f.Warnings[0], prefix+"AUTH0_AUDIENCE is not set: ") {
		t.Errorf("warnings %q, %v; want one that names the setting", f.Warnings, err)
	}
	if _, f, _ := loadConfig(complete("AUTH0_AUDIENCE="), folder(t, ".env", "A='")); f.Warnings != nil {
		t.Errorf("with a file that cannot be read: %q, want no warning: the audience may be in it", f.Warnings)
	}
}

// The sample .env, the table and the README's table name the same settings, in
// the same order, with the same defaults.
func TestSampleEnvMatchesSettings(t *testing.T) {
	sample, err := os.ReadFile(".env")
	if err != nil {
		t.Fatal(err)
	}
	if got := regexp.MustCompile(`(?m)^ITM_TOKEN_SERVER_\w+`).FindAllString(string(sample), -1); !slices.Equal(got, names()) {
		t.Errorf(".env has %q, want %q", got, names())
	}
	c, f, err := loadConfig([]string{"PORT=8080"}, folder(t, ".env", string(sample)))
	if n := strings.Count(fmt.Sprint(err), "the placeholder is still there (.env)"); n != 3 || strings.Count(err.Error(), "\n") != 2 || !f.Incomplete {
		t.Errorf("the sample .env as it is: %v, want the three required settings missing, and nothing else", err)
	}
	for _, s := range f.Settings {
		if s.Source == ".env" && s.Shown != fmt.Sprintf("%q", s.Default) {
			t.Errorf(".env has %s=%s, want the default %s", s.Name, s.Shown, s.Default)
		}
	}
	if source := f.Setting(prefix + "PORT").Source; c.Port != "8080" || source != "PORT in the environment" {
		t.Errorf("PORT=8080 with the sample .env gives port %s from %s", c.Port, source)
	}
	if !strings.Contains(string(sample), prefix+"CLIENT_SECRET='") {
		t.Error("the secret is not in single quotes in .env")
	}
}

// A row may group settings: | `ITM_TOKEN_SERVER_LOG_LEVEL`, `_LOG_FORMAT` | `info`, `text` | … |
func TestReadmeTableMatchesSettings(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	defaults := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`ITM_TOKEN_SERVER_[^|]*)\\|([^|]*)\\|").FindAllStringSubmatch(string(readme), -1) {
		for _, name := range regexp.MustCompile("`(?:ITM_TOKEN_SERVER)?_([A-Z0-9_]+)`").FindAllStringSubmatch(row[1], -1) {
			got = append(got, prefix+name[1])
			defaults[prefix+name[1]] = row[2]
		}
	}
	if !slices.Equal(got, names()) {
		t.Errorf("README's table has %q, want %q", got, names())
	}
	for _, s := range new(config).settings() {
		if s.Default != "" && !strings.Contains(defaults[s.Name], "`"+s.Default+"`") {
			t.Errorf("README's default of %s is %q, want `%s` in it", s.Name, defaults[s.Name], s.Default)
		}
	}
}

// Every variable that the code, the documents and the deployment files mention is
// a setting.
func TestMentionedNamesAreSettings(t *testing.T) {
	mention := regexp.MustCompile(`(?:ITM_TOKEN_SERVER_|prefix ?\+ ?")([A-Z][A-Z0-9_]*[A-Z0-9])`)
	err := filepath.WalkDir(".", func(path string, entry fs.DirEntry, err error) error {
		if entry.IsDir() && (path == ".git" || entry.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if err != nil || !slices.Contains([]string{".go", ".md", ".yaml", ".service", ".env"}, filepath.Ext(path)) || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, name := range mention.FindAllStringSubmatch(string(text), -1) {
			if !slices.Contains(names(), prefix+name[1]) {
				t.Errorf("%s mentions %s, which is not a setting", path, name[0])
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
