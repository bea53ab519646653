package dotenv

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

// awkward is what secrets have been broken by: URL and form syntax, shells' and
// .env files' syntax, and spaces at both ends.
const awkward = ` p+/=:%&$HOME#"q ü\nr `

// values are what the parsers of a test have stored.
type values map[string]string

// load reads a few settings that begin with APP_, all lists of any text but the
// port, with these files in the directory: name, text, name, text.
func load(t testing.TB, environ []string, files ...string) (*Findings, values, error) {
	t.Helper()
	dir := t.TempDir()
	for i := 0; i < len(files); i += 2 {
		write(t, filepath.Join(dir, files[i]), files[i+1])
	}
	return loadFrom(dir, environ)
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func loadFrom(dir string, environ []string) (*Findings, values, error) {
	got := values{}
	settings := []Setting{
		{Name: "APP_ID", Required: true, Want: "an ID"},
		{Name: "APP_SECRET", Secret: true},
		{Name: "APP_AUDIENCE"},
		{Name: "APP_PORT", Default: "3001", Fallback: "PORT", Want: "a port"},
	}
	for i, s := range settings {
		settings[i].Parse = func(text string) bool {
			got[s.Name] = text
			_, isPort := Port(text)
			return s.Name != "APP_PORT" || isPort
		}
	}
	f := Load(settings, "APP_", environ, dir)
	return f, got, f.Finish()
}

func TestTheFirstSourceWithAValueWins(t *testing.T) {
	const fallback = "PORT in the environment"
	tests := []struct{ name, environment, local, file, fallback, want, source string }{
		{"all", "1", "2", "3", "4", "1", "environment"},
		{"no environment", "", "2", "3", "4", "2", ".env.local"},
		{"only .env", "", "", "3", "4", "3", ".env"},
		{"only PORT", "", "", "", " 4 ", "4", fallback},
		{"none", "", "", "", "", "3001", "default"},
		{"spaces", " \t", " ", "", " ", "3001", "default"},
		{"a placeholder in the environment", "<YOUR_PORT>", "2", "3", "", "2", ".env.local"},
		{"placeholders everywhere", "<YOUR_PORT>", "a<YOUR_PORT>b", "YOUR_PORT", "<TENANT>", "3001", "default"},
	}
	for _, test := range tests {
		f, got, err := load(t, []string{"APP_ID=x", "PORT=" + test.fallback, "APP_PORT=" + test.environment},
			".env.local", "APP_PORT='"+test.local+"'\nPORT=5\n", ".env", "APP_PORT='"+test.file+"'\nPORT=6\n")
		port := f.Setting("APP_PORT")
		if err != nil || got["APP_PORT"] != test.want || port.Source != test.source || port.Shown != `"`+test.want+`"` {
			t.Errorf("%s: %q from %s, shown %s, %v; want %s from %s", test.name, got["APP_PORT"], port.Source, port.Shown, err, test.want, test.source)
		}
	}
}

func TestPlaceholders(t *testing.T) {
	placeholders := map[string][]string{
		"<YOUR_…>": {"<YOUR_ITWIN_CLIENT_ID>", "https://<YOUR_TENANT>.us.auth0.com/", "x,<YOUR_hunter2>"},
		"<TENANT>": {"<TENANT>", "<TENANT>.us.auth0.com", "https://<TENANT>.eu.auth0.com/userinfo"},
		"TENANT":   {"TENANT.us.auth0.com", "https://TENANT.us.auth0.com/", "TENANT.auth0.com:443", "a,TENANT.eu.auth0.com", "https://TENANT.us.auth0.com/userinfo"},
		"YOUR_…":   {"YOUR_AUTH0_CLIENT_ID", "https://YOUR_DOMAIN/", "a, YOUR_API", "{YOUR_API}"},
		"": {
			"", "acme-demo.us.auth0.com", "tenant.us.auth0.com", "Tenant.us.auth0.com", "TENANT.US.AUTH0.COM", "MYTENANT.us.auth0.com", "TENANT", "a/TENANT.pem",
			"your_api", "https://your_api.example.com", "FOR_YOUR_EYES", "OUR_API", "YOUR_", "YOUR_x", "yourYOUR_APP", "<tenant>", "A<B>C", "YOURS", awkward,
		},
	}
	for want, texts := range placeholders {
		for _, text := range texts {
			if got := Placeholder(text); got != want {
				t.Errorf("Placeholder(%q) = %q, want %q", text, got, want)
			}
		}
	}
}

func TestAPlaceholderIsNamedWithItsSource(t *testing.T) {
	f, _, err := load(t, nil, ".env.local", "APP_ID=<YOUR_hunter2>\nAPP_PORT=YOUR_PORT\nAPP_SECRET='<YOUR_SECRET>'\n", ".env", "APP_ID=<TENANT>\n")
	if want := "APP_ID: want an ID, got nothing: the placeholder <YOUR_…> is still there (.env.local)"; err == nil || err.Error() != want || !f.Incomplete {
		t.Errorf("a required setting: %v, incomplete %v; want %s", err, f.Incomplete, want)
	}
	if want := []string{"APP_PORT counts as not set: the placeholder YOUR_… is still there (.env.local)"}; !slices.Equal(f.Warnings, want) {
		t.Errorf("another: %q, want %q", f.Warnings, want)
	}
	f, _, err = load(t, []string{"APP_ID=x"}, ".env.local", "APP_ID=<YOUR_ID>\n")
	if err != nil || f.Warnings != nil || f.Incomplete {
		t.Errorf("with a value elsewhere: %v, %q; want nothing said", err, f.Warnings)
	}
}

// What is in a file that cannot be read is not known to be missing.
func TestOneErrorForABrokenFile(t *testing.T) {
	f, _, err := load(t, nil, ".env.local", "A='\n")
	if err == nil || !strings.HasPrefix(err.Error(), ".env.local line 1: ") || strings.Contains(err.Error(), "\n") || f.Incomplete || !f.Unread {
		t.Errorf("%v, incomplete %v, unread %v; want one line, and nothing missing", err, f.Incomplete, f.Unread)
	}
}

func TestWhatMayBeShown(t *testing.T) {
	const (
		secret = "kVHJ1yXN/UpvbSvR5Ry+vBuKtjrIoBJNvrCKd4gwFo7k6CNUjHMfDNpUFVx5BFzQ=="
		jwt    = "eyJhbGciOiJSUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL3RlbmFudC51cy5hdXRoMC5jb20vIiwiYXVkIjoiYXBpIn0.c2lnbmF0dXJl"
		client = "nS5CcqYHbPjMEEDSTgVxkU1Ex1JLBHXd" // an Auth0 client ID
	)
	tests := []struct{ name, value, want string }{
		{"AUDIENCE", client, `"` + client + `"`},
		{"AUDIENCE", client + ", " + "https://api.example.com/a-long-name-of-an-api", `"` + client + `, https://api.example.com/a-long-name-of-an-api"`},
		{"AUDIENCE", secret, "66 characters, not shown"},
		{"AUDIENCE", jwt, "117 characters, not shown"},
		{"AUDIENCE", "the-real-secret", "the secret, not shown"},
		{"AUDIENCE", `"the-real-secret"`, "the secret, not shown"},
		{"AUDIENCE", "https://a.example.com/?x=the-real-secret", "the secret, not shown"},
		{"AUDIENCE", "the-other-secret", "the secret, not shown"},
		{"AUDIENCE", "https://jane:hunter2@a.example.com", "34 characters, not shown"},
		{"AUDIENCE", "a\nAPP_KEY=hunter2", "17 characters, not shown"}, // a quote that isn't closed
		{"AUDIENCE", "a\x1b[2J\u202e", `"a\x1b[2J\u202e"`},
		{"AUDIENCE", strings.Repeat("a,", 100), `"` + strings.Repeat("a,", 50) + `"`},
		{"PORT", "https", `"https"`},
		{"PORT", secret, "66 characters, not shown"},
		{"PORT", "/" + secret[:40], "41 characters, not shown"},
		{"PORT", jwt, "117 characters, not shown"},
		{"PORT", client, "32 characters, not shown"},
		{"PORT", "correct horse battery staple", "28 characters, not shown"},
		{"PORT", "?" + client, "33 characters, not shown"},
		{"PORT", "https://a.example.com?secret=" + client, "61 characters, not shown"},
		{"PORT", "the-real-secret", "the secret, not shown"},
		{"PORT", "tcp://10.0.0.1:3001/path/of/it", `"tcp://10.0.0.1:3001/path/of/it"`},
		{"PORT", "https://https://acme.us.auth0.com/authorize", `"https://https://acme.us.auth0.com/authorize"`},
		{"PORT", "ten\u0430nt.us.auth0.com:3001", `"ten\u0430nt.us.auth0.com:3001"`}, // Cyrillic a
		{"PORT", "/etc/letsencrypt/live/a.example.com/privkey.pem", `"/etc/letsencrypt/live/a.example.com/privkey.pem"`},
		{"PORT", `C:\Users\jane\Documents\port.txt`, `"C:\\Users\\jane\\Documents\\port.txt"`},
		{"SECRET", "short", "set, not shown"},
	}
	for _, test := range tests {
		environ := []string{"APP_ID=x", "APP_SECRET= the-real-secret ", "APP_" + test.name + "=" + test.value}
		f, _, err := load(t, environ, ".env.local", "APP_SECRET='the-other-secret'\n")
		s := f.Setting("APP_" + test.name)
		if s.Shown != test.want {
			t.Errorf("%s=%q is shown as %s, want %s", test.name, test.value, s.Shown, test.want)
		}
		if test.name == "PORT" && (err == nil || err.Error() != "APP_PORT: want a port, got "+test.want) {
			t.Errorf("%s=%q gives %v, want what may be shown", test.name, test.value, err)
		}
		warned := slices.ContainsFunc(f.Warnings, func(w string) bool { return strings.HasPrefix(w, s.Name+" contains the secret") })
		if warned != (s.Shown == "the secret, not shown" && err == nil) {
			t.Errorf("%s=%q warns %q", test.name, test.value, f.Warnings)
		}
		if text := fmt.Sprintf("%+v %#v", f, f); strings.Contains(text, "the-real-secret") || strings.Contains(text, "the-other-secret") {
			t.Errorf("the findings show the secret: %s", text)
		}
	}
}

func TestQuotesInTheEnvironment(t *testing.T) {
	for value, warns := range map[string]bool{`"x"`: true, `'x'`: true, `""`: true, `"`: false, `"x'`: false, `x"`: false, "x": false} {
		f, got, err := load(t, []string{"APP_ID=y", "APP_SECRET=" + value})
		warned := len(f.Warnings) == 1 && strings.HasPrefix(f.Warnings[0], "APP_SECRET begins and ends with a quote") && strings.Contains(f.Warnings[0], "docker run --env-file")
		if warned != warns || err != nil || got["APP_SECRET"] != value {
			t.Errorf("%s: warnings %q, value %q, %v; want a warning: %v, and the value as it is", value, f.Warnings, got["APP_SECRET"], err, warns)
		}
	}
	if f, _, _ := load(t, nil, ".env", `APP_ID='"x"'`); f.Warnings != nil {
		t.Errorf("quotes in a file: %q, want no warning: single quotes there keep them on purpose", f.Warnings)
	}
}

func TestBrokenFiles(t *testing.T) {
	const broken, quotes = ": want NAME=value", ": want APP_SECRET in single quotes"
	tests := []struct{ name, text, want string }{
		{"unterminated quote", "A=1\n\nAPP_SECRET='hunter2\nB=2\n", " line 3" + broken},
		{"unterminated quote at the end", "A=1\nAPP_SECRET=\"hunter2", " line 2" + broken},
		{"Windows line ends", "A=1\r\nB=2\r\nAPP_SECRET='hunter2\r\n", " line 3" + broken},
		{"byte order mark", "\ufeffAPP_SECRET='hunter2", " line 1" + broken},
		{"export", "export A=1\nexport APP_SECRET='hunter2\n", " line 2" + broken},
		{"no =", "A=1\nhunter2+/x\n", " line 2" + broken},
		{"closed by another line's quote", "APP_SECRET='hunter2\n# the users'\nB=2\n", ": want APP_SECRET on one line"},
		{"another's quote", "APP_ID=\"a.b\n# \"\nAPP_SECRET='hunter2'\n", ": want APP_ID on one line"},
		{"$ without quotes", "A=1\nAPP_SECRET=hunter2$WORD\n", " line 2" + quotes},
		{"$ at the beginning", "APP_SECRET=$WORDhunter2\n", " line 1" + quotes},
		{"# without quotes", "APP_SECRET=hunter2 #x\n", " line 1" + quotes},
		{"$ in double quotes", "APP_SECRET=\"hunter2$WORD\"\n", " line 1" + quotes},
		{"\\ in double quotes", "APP_SECRET=\"hunter2\\n\"\n", " line 1" + quotes},
		{"export, spaces and a colon", "  export  APP_SECRET : hunter2$WORD\n", " line 1" + quotes},
		{"UTF-16", "\xff\xfeh\x00u\x00n\x00t\x00e\x00r\x002\x00", " line 1" + broken},
		{"Latin-1", "A=1\nAPP_SECRET='hunter2\xe4'\n", " line 2" + broken},
		{"too large", strings.Repeat("# hunter2\n", 7000), " line 6554" + broken},
	}
	for _, test := range tests {
		_, _, err := load(t, []string{"APP_ID=x"}, ".env.local", test.text)
		if err == nil || !strings.HasPrefix(err.Error(), ".env.local"+test.want) || strings.Contains(err.Error(), "\n") || !fixed.MatchString(err.Error()) {
			t.Errorf("%s: %v, want .env.local%s in one line, with nothing of the file", test.name, err, test.want)
		}
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, ".env"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, _, err := loadFrom(dir, nil); err == nil || !strings.HasPrefix(err.Error(), ".env: want a readable file, got: ") {
		t.Errorf("a folder named .env: %v, want it named", err)
	}
}

// Where a = is forgotten, the value is a part of the name.
func TestAnUnknownNameShowsNoSecret(t *testing.T) {
	for _, line := range []string{"SECRET hunter2==", "SECREThunter2=", "SECRETHUNTER2=", "SECRT hunter2="} {
		f, _, _ := load(t, nil, ".env.local", "APP_"+line+"\n")
		if len(f.Warnings) != 1 || strings.Contains(strings.ToLower(f.Warnings[0]), "hunter2") {
			t.Errorf("%s: %q, want one warning, without the value", line, f.Warnings)
		}
	}
}

// fixed matches every error and warning about a .env file: they quote nothing of it
// but names of settings and a port that is not the secret.
var fixed = regexp.MustCompile(`^(\.env\.local( line \d+)?: want (` +
	`NAME=value with quotes closed, in UTF-8 and at most 64 KiB, got something else \(not shown: it may hold a secret\)|` +
	`APP_[A-Z]+ on one line, got a line break in it: close its quote|` +
	`APP_SECRET in single quotes, since it holds a \$, # or \\, got it without)|` +
	`"APP_[A-Z0-9_]*…?" in \.env\.local is not a setting; did you mean APP_[A-Z]+\?|` +
	`APP_(ID: want an ID, got nothing|[A-Z]+ counts as not set)(: the placeholder \S+ is still there \(\.env\.local\))?|` +
	`APP_[A-Z]+ contains the secret: set it to a value of its own|` +
	`APP_PORT: want a port, got (the secret, not shown|\d+ characters, not shown|".{0,400}"))$`)

// FuzzSettings gives text as a .env.local, and value as the secret in one.
func FuzzSettings(f *testing.F) {
	for _, text := range []string{
		"", "A=1\n# b\nexport C=\"d\"\n", "APP_SECRET='hunter2'\n", "APP_SECRET='hunter2\n", "APP_SECRET=hunter2$X", "APP_SECRET=\"a\\\"b\"",
		"\ufeffA=1\r\nB='2'\r\n", "APP_SECRET hunter2==\n", "APP_PORT: 1\nAPP_PROT=2\n", "hunter2", "A='\nB='", "\xff\xfeA\x00",
		"APP_SECRET=hunter2hunter2\nAPP_PORT=xhunter2hunter2\n", "APP_ID=<YOUR_ID>\nAPP_PORT=TENANT.us.auth0.com",
	} {
		f.Add(text, awkward)
		f.Add(text, text)
	}
	dir := f.TempDir()
	path := filepath.Join(dir, ".env.local")
	f.Fuzz(func(t *testing.T, text, value string) {
		write(t, path, text)
		f, got, err := loadFrom(dir, nil)
		lines := f.Warnings
		if err != nil {
			lines = append(lines, strings.Split(err.Error(), "\n")...)
		}
		for _, line := range lines {
			if secret := strings.Trim(got["APP_SECRET"], ` "'`); !fixed.MatchString(line) || len(secret) >= 8 && strings.Contains(line, ", got \"") && strings.Contains(line, secret) {
				t.Errorf("error or warning %q, want a fixed text", line)
			}
		}
		for _, s := range f.Settings {
			if got[s.Name] == "" != (s.Source == "") || strings.ContainsAny(got[s.Name], "\r\n") && err == nil {
				t.Errorf("%s is %q from %q, and no error", s.Name, got[s.Name], s.Source)
			}
		}
		if isQuotable(value) {
			checkArrival(t, path, "'"+value+"'", value, false)
			checkArrival(t, path, value, strings.Trim(value, " "), true)
			if !strings.Contains(value, `"`) {
				checkArrival(t, path, `"`+value+`"`, value, true)
			}
		}
	})
}

// isQuotable reports whether single quotes can hold the secret: one line, with no
// single quote in it and no \ before the one at its end.
func isQuotable(value string) bool {
	odd := func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }
	return strings.Trim(value, " ") != "" && !strings.ContainsFunc(value, odd) && Placeholder(value) == "" &&
		!strings.Contains(value, "'") && !strings.HasSuffix(value, `\`) && strings.TrimLeft(value, " ")[0] != '"' && len(value) < 60<<10
}

// checkArrival writes a secret to a file and wants it back, or where it may fail,
// an error. A secret must never be changed without one.
func checkArrival(t *testing.T, path, written, want string, mayFail bool) {
	write(t, path, "APP_SECRET="+written+"\n")
	_, got, err := loadFrom(filepath.Dir(path), []string{"APP_ID=x"})
	switch {
	case err != nil && mayFail && fixed.MatchString(err.Error()):
	case err != nil:
		t.Errorf("%s: %v, want the secret", written, err)
	case got["APP_SECRET"] != want:
		t.Errorf("%s is read as %q", written, got["APP_SECRET"])
	}
}
