package dotenv

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// awkward is what secrets have been broken by: URL and form syntax, shells' and
// .env files' syntax, and spaces at both ends.
const awkward = ` p+/=:%&$HOME#"q ü\nr `

// load reads a few settings, with these files in the directory: name, text, name,
// text. The map has what the settings' parsers got.
func load(t testing.TB, environ []string, files ...string) (*Findings, map[string]string, error) {
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

func loadFrom(dir string, environ []string) (*Findings, map[string]string, error) {
	got := map[string]string{}
	settings := []Setting{
		{Name: "APP_ID", Required: true, Want: "an ID"},
		{Name: "APP_SECRET", Secret: true, Want: "a secret"},
		{Name: "APP_AUDIENCE", Want: "an audience"},
		{Name: "APP_FILE", File: true, Want: "a file"},
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
	for want, texts := range map[bool][]string{
		true: {
			"<YOUR_ITWIN_CLIENT_ID>", "https://<YOUR_TENANT>.us.auth0.com/", "x,<YOUR_hunter2>", "<TENANT>", "https://<TENANT>.eu.auth0.com/userinfo",
			"TENANT.us.auth0.com", "https://TENANT.us.auth0.com/", "TENANT.auth0.com:443", "a,TENANT.eu.auth0.com", "YOUR_AUTH0_CLIENT_ID", "https://YOUR_DOMAIN/", "{YOUR_API}",
		},
		false: {
			"", "acme-demo.us.auth0.com", "tenant.us.auth0.com", "Tenant.us.auth0.com", "TENANT.US.AUTH0.COM", "MYTENANT.us.auth0.com", "TENANT", "a/TENANT.pem",
			"your_api", "https://your_api.example.com", "FOR_YOUR_EYES", "OUR_API", "YOUR_", "YOUR_x", "yourYOUR_APP", "<tenant>", "A<B>C", "YOURS", awkward,
		},
	} {
		for _, text := range texts {
			if got := Placeholder(text); got != want {
				t.Errorf("Placeholder(%q) = %v, want %v", text, got, want)
			}
		}
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
		{"AUDIENCE", "a, " + jwt, "120 characters, not shown"},
		{"AUDIENCE", "/home/jane/projects/itwin-token-server/certificates/key", `"/home/jane/projects/itwin-token-server/certificates/key"`},
		{"AUDIENCE", "the-real-secret", "15 characters, not shown"},
		{"AUDIENCE", `"the-real-secret"`, "17 characters, not shown"},
		{"AUDIENCE", "https://a.example.com/?x=the-real-secret", "40 characters, not shown"},
		{"AUDIENCE", "the-other-secret", "16 characters, not shown"},
		{"AUDIENCE", "short", "5 characters, not shown"},
		{"AUDIENCE", "a short one", `"a short one"`},
		{"AUDIENCE", "https://jane:hunter2@a.example.com", "34 characters, not shown"},
		{"AUDIENCE", "a\nAPP_KEY=hunter2", "17 characters, not shown"}, // a quote that isn't closed
		{"AUDIENCE", "a\x1b[2J\u202e", `"a\x1b[2J\u202e"`},
		{"AUDIENCE", strings.Repeat("a,", 100), `"` + strings.Repeat("a,", 50) + `"`},
		{"PORT", "https", `"https"`},
		{"PORT", secret, "66 characters, not shown"},
		{"PORT", "/" + client + "x", "34 characters, not shown"},
		{"PORT", jwt, "117 characters, not shown"},
		{"PORT", client, "32 characters, not shown"},
		{"PORT", "correct horse batter", `"correct horse batter"`},
		{"PORT", "correct horse battery", "21 characters, not shown"},
		{"PORT", "?" + client, "33 characters, not shown"},
		{"PORT", "https://a.example.com?secret=" + client, "61 characters, not shown"},
		{"PORT", "the-real-secret", "15 characters, not shown"},
		{"PORT", "tcp://10.0.0.1:3001/path/of/it", `"tcp://10.0.0.1:3001/path/of/it"`},
		{"PORT", "https://https://acme.us.auth0.com/authorize", `"https://https://acme.us.auth0.com/authorize"`},
		{"PORT", "ten\u0430nt.us.auth0.com:3001", `"ten\u0430nt.us.auth0.com:3001"`}, // Cyrillic a
		{"PORT", "/etc/letsencrypt/live/a.example.com/privkey.pem", `"/etc/letsencrypt/live/a.example.com/privkey.pem"`},
		{"PORT", `C:\Users\jane\Documents\port.txt`, `"C:\\Users\\jane\\Documents\\port.txt"`},
		{"SECRET", "short", "set, not shown"},
		{"FILE", "hunter2", "set, not shown"},
		{"FILE", "/run/secrets/none.txt", `"/run/secrets/none.txt"`},
		{"FILE", ".", `"."`},
	}
	for _, test := range tests {
		environ := []string{"APP_ID=x", "APP_SECRET= \"the-real-secret\" ", "APP_" + test.name + "=" + test.value}
		f, _, err := load(t, environ, ".env.local", "APP_SECRET='the-other-secret'\n", ".env", "APP_SECRET='short'\n")
		s := f.Setting("APP_" + test.name)
		if s.Shown != test.want {
			t.Errorf("%s=%q is shown as %s, want %s", test.name, test.value, s.Shown, test.want)
		}
		if test.name == "PORT" && (err == nil || err.Error() != "APP_PORT: want a port, got "+test.want) {
			t.Errorf("%s=%q gives %v, want what may be shown", test.name, test.value, err)
		}
		text := fmt.Sprintf("%+v %#v %v", f, f, err)
		for _, secret := range []string{"the-real-secret", "the-other-secret", "hunter2"} {
			if strings.Contains(text, secret) {
				t.Errorf("%s=%q: the findings show a secret: %s", test.name, test.value, text)
			}
		}
	}
}

func TestErrorsAndWarnings(t *testing.T) {
	const (
		broken, quotes = ": want NAME=value", ": want APP_SECRET in single quotes"
		open           = ", got a line break, or an open quote (.env.local)"
		quoted         = "APP_SECRET begins and ends with a quote"
		noID           = "APP_ID: want an ID, got nothing"
		unknown        = " in .env.local is not a setting; did you mean APP_SECRET?"
	)
	tests := []struct{ name, environ, file, err, warning string }{
		{"unterminated quote", "", "A=1\n\nAPP_SECRET='hunter2\nB=2\n", ".env.local line 3" + broken, ""},
		{"unterminated quote at the end", "", "A=1\nAPP_SECRET=\"hunter2", ".env.local line 2" + broken, ""},
		{"Windows line ends", "", "A=1\r\nB=2\r\nAPP_SECRET='hunter2\r\n", ".env.local line 3" + broken, ""},
		{"byte order mark", "", "\ufeffAPP_SECRET='hunter2", ".env.local line 1" + broken, ""},
		{"export", "", "export A=1\nexport APP_SECRET='hunter2\n", ".env.local line 2" + broken, ""},
		{"no =", "", "A=1\nhunter2+/x\n", ".env.local line 2" + broken, ""},
		{"UTF-16", "", "\xff\xfeh\x00u\x00n\x00t\x00e\x00r\x002\x00", ".env.local line 1" + broken, ""},
		{"Latin-1", "", "A=1\nAPP_SECRET='hunter2\xe4'\n", ".env.local line 2" + broken, ""},
		{"too large", "", strings.Repeat("# hunter2\n", 7000), ".env.local line 6554" + broken, ""},
		{"closed by another line's quote", "APP_ID=x", "APP_SECRET='hunter2\n# the users'\nB=2\n", "APP_SECRET: want a secret" + open, ""},
		{"another's quote", "", "APP_ID=\"a.b\n# \"\nAPP_SECRET='hunter2'\n", "APP_ID: want an ID" + open, ""},
		{"$ without quotes", "APP_ID=x", "A=1\nAPP_SECRET=hunter2$WORD\n", ".env.local line 2" + quotes, ""},
		{"$ at the beginning", "APP_ID=x", "APP_SECRET=$WORDhunter2\n", ".env.local line 1" + quotes, ""},
		{"a comment behind a secret", "APP_ID=x", "APP_SECRET=hunter2 # of the application\n", "", ""},
		{"a comment behind nothing", "APP_ID=x", "APP_PORT=   # none\n", "", ""},
		{"set twice, the last with a $", "APP_ID=x", "APP_SECRET='x'\nAPP_SECRET=hunter2$WORD\n", ".env.local line 2" + quotes, "APP_SECRET is set more than once"},
		{"set twice", "APP_ID=x", "APP_SECRET=hunter2\nAPP_SECRET=\n", "", "APP_SECRET is set more than once in .env.local: the last one counts"},
		{"Windows's entries", "=C:=C:\\dir", "APP_ID=x", "", ""},
		{"a secret in another value", "APP_SECRET=hunter2hunter2", "APP_ID=x,hunter2hunter2", "APP_ID: want an ID, got a value with a secret in it", ""},
		{"$ in double quotes", "APP_ID=x", "APP_SECRET=\"hunter2$WORD\"\n", ".env.local line 1" + quotes, ""},
		{"\\ in double quotes", "APP_ID=x", "APP_SECRET=\"hunter2\\q\"\n", ".env.local line 1" + quotes, ""},
		{"export, spaces and a colon", "APP_ID=x", "  export  APP_SECRET : hunter2$WORD\n", ".env.local line 1" + quotes, ""},

		{"placeholder", "", "APP_ID=<YOUR_hunter2>\nAPP_SECRET='<YOUR_SECRET>'\n", noID + ": the placeholder is still there (.env.local)", ""},
		{"placeholder for the default", "APP_ID=x", "APP_PORT=YOUR_PORT\n", "", "APP_PORT counts as not set: the placeholder is still there (.env.local)"},
		{"placeholder, and a value", "APP_ID=x", "APP_ID=<YOUR_ID>\n", "", ""},

		{"double quotes in the environment", `APP_SECRET="x"`, "APP_ID=x", "", quoted},
		{"an ID", `APP_ID="x"`, "", "", "APP_ID begins and ends with a quote"},
		{"single quotes", "APP_SECRET='x'", "APP_ID=x", "", quoted},
		{"two quotes", `APP_SECRET=""`, "APP_ID=x", "", quoted},
		{"one quote", `APP_SECRET="`, "APP_ID=x", "", ""},
		{"two different quotes", `APP_SECRET="x'`, "APP_ID=x", "", ""},
		{"quotes in a file", "", `APP_ID='"x"'`, "", ""},

		{"a secret behind the name", "", "APP_ID=x\nAPP_SECRETHUNTER2=\n", "", `"APP_SECRET…"` + unknown},
		{"unknown name", "APP_PROT=hunter2", "APP_ID=x", "", `"APP_PROT" in the environment is not a setting; did you mean APP_PORT?`},
		{"unknown name in a file", "APP_ID=x", "APP_SECRTE=hunter2", "", `"APP_SECRTE"` + unknown},
		{"no = after the name", "APP_ID=x", "APP_SECRET hunter2==", "", `"APP_SECRET…"` + unknown}, // the value is a part of the name
		{"no = and no space", "APP_ID=x", "APP_SECREThunter2=", "", `"APP_SECRET…"` + unknown},
		{"a long name", "APP_ID=x", "APP_SECRTE" + strings.Repeat("X", 99) + "=", "", `"APP_SECRTE` + strings.Repeat("X", 30) + `…"` + unknown},
	}
	for _, test := range tests {
		f, _, err := load(t, []string{test.environ}, ".env.local", test.file)
		text, warnings := "", strings.Join(f.Warnings, "\n")
		if err != nil {
			text = err.Error()
		}
		if !begins(text, test.err) || !begins(warnings, test.warning) || strings.Contains(text+warnings, "hunter2") {
			t.Errorf("%s: %q, warnings %q; want %q, %q", test.name, text, warnings, test.err, test.warning)
		}
		if strings.HasPrefix(test.err, noID) != f.Incomplete || strings.HasSuffix(test.err, broken) != f.Unread {
			t.Errorf("%s: incomplete %v, unread %v", test.name, f.Incomplete, f.Unread)
		}
	}
	if f, _, _ := load(t, []string{"APP_ID=x"}, ".env", "APP_PROT=1"); !begins(strings.Join(f.Warnings, "\n"), `"APP_PROT" in .env is not a setting`) {
		t.Errorf("an unknown name in .env: warnings %q", f.Warnings)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, ".env"), 0o700); err != nil {
		t.Fatal(err)
	}
	if f, _, err := loadFrom(dir, nil); !begins(fmt.Sprint(err), ".env: want a readable file, got: ") || !f.Unread {
		t.Errorf("a folder named .env: %v, unread %v; want it named, and nothing said to be missing", err, f.Unread)
	}
}

// begins reports whether text is one line that begins so, or empty if that is.
func begins(text, with string) bool {
	return strings.HasPrefix(text, with) && (text == "") == (with == "") && !strings.Contains(text, "\n")
}

// fixed matches every error and warning about a .env file: they quote nothing of it
// but names of settings and a port that is not the secret.
var fixed = regexp.MustCompile(`^(\.env\.local line \d+: want (` +
	`NAME=value with quotes closed, in UTF-8 and at most 64 KiB, got something else \(not shown: it may hold a secret\)|` +
	`APP_SECRET in single quotes, since it holds a \$ or \\, got it without)|` +
	`"APP_[A-Z0-9_]{0,36}…?" in \.env\.local is not a setting; did you mean APP_[A-Z]+\?|` +
	`APP_[A-Z]+: want an? [A-Za-z]+, got a value with a secret in it|` +
	`APP_[A-Z]+ is set more than once in \.env\.local: the last one counts|` +
	`APP_(ID: want an ID, got nothing|[A-Z]+ counts as not set)(: the placeholder is still there \(\.env\.local\))?|` +
	`APP_[A-Z]+: want an? [A-Za-z]+, got a line break, or an open quote \(\.env\.local\)|` +
	`APP_FILE: want a file, got [A-Za-z ,.]{0,70}|` +
	`APP_PORT: want a port, got (\d+ characters, not shown|".{0,400}"))$`)

// FuzzSettings gives text as a .env.local, and value as the secret in one.
func FuzzSettings(f *testing.F) {
	for _, text := range []string{
		"", "A=1\n# b\nexport C=\"d\"\n", "APP_SECRET='hunter2'\n", "APP_SECRET='hunter2\n", "APP_SECRET=hunter2$X", "APP_SECRET=\"a\\\"b\"",
		"\ufeffA=1\r\nB='2'\r\n", "APP_SECRET hunter2==\n", "APP_PORT: 1\nAPP_PROT=2\n", "hunter2", "A='\nB='", "\xff\xfeA\x00",
		"APP_SECRET=hunter2hunter2\nAPP_PORT=xhunter2hunter2\n", "APP_ID=<YOUR_ID>\nAPP_PORT=TENANT.us.auth0.com", "APP_FILE=hunter2",
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
		odd := func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar || r == '\'' }
		if strings.Trim(value, " ") == "" || strings.ContainsFunc(value, odd) || strings.HasSuffix(value, `\`) || Placeholder(value) {
			return // not a secret that quotes could hold
		}
		for _, quote := range []string{"'", `"`, ""} {
			write(t, path, "\ufeffexport APP_SECRET="+quote+value+quote+"\r\nAPP_ID=x\r\n")
			_, got, err := loadFrom(dir, nil)
			secret := got["APP_SECRET"]
			if quote != "'" && (err != nil || strings.ContainsAny(value, `"#`)) {
				continue
			}
			if err != nil || secret != value && (quote != "" || secret != strings.Trim(value, " ")) {
				t.Errorf("%s%s%[1]s is read as %q, %v", quote, value, secret, err)
			}
		}
	})
}
