package settings

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// secret has what secrets have been broken by: the syntax of URLs, forms, shells and .env
// files, and spaces at both ends.
const secret = ` p+/=:%&$HOME#"q ü\nr `

// files are texts by the names of their files.
type files map[string]string

// folder makes a new working directory with these files.
func folder(t testing.TB, files files) string {
	t.Helper()
	dir := t.TempDir()
	t.Chdir(dir)
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// load reads an app's settings from these variables, and from the files in dir. It also
// returns the values that the app stored, and the lines of the error.
func load(environ []string, dir string) (f *Findings, values map[string]string, errs []string) {
	values = make(map[string]string)
	table := []*Setting{
		{Name: "APP_ID", Required: func() bool { return true }, Want: "an ID"},
		{Name: "APP_SECRET", Secret: true, Want: "a secret"},
		{Name: "APP_SECRET_FILE", Read: ReadSecret, Want: "a file"},
		{Name: "APP_AUDIENCE", Want: "an audience"},
		{Name: "APP_PORT", Default: "3001", Fallback: "PORT", Want: "a port"},
	}
	for _, s := range table {
		s.Parse = func(text string) bool {
			values[s.Name] = text
			_, isPort := Port(text)
			return isPort || s.Name != "APP_PORT"
		}
	}
	f, err := Load(table, "APP_", environ, dir)
	if err != nil {
		errs = strings.Split(err.Error(), "\n")
	}
	return f, values, errs
}

// wantLines compares the beginnings of warnings, or of the lines of an error.
func wantLines(t *testing.T, name string, got []string, want ...string) {
	t.Helper()
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("%s: got\n%q, want\n%q", name, got, want)
	}
}

func TestTheFirstSourceWithAValueWins(t *testing.T) {
	tests := []struct{ name, environment, local, file, fallback, want, source string }{
		{"all", "1", "2", "3", "4", "1", "environment"},
		{"only files", "", "2", "3", "4", "2", ".env.local"},
		{"only .env", "", "", "3", "4", "3", ".env"},
		{"only PORT", "", "", "", " 4 ", "4", "PORT in the environment"},
		{"none", " \t", " ", "", " ", "3001", "default"},
		{"comments", "#none", "# none", "#no port", "#5", "3001", "default"},
		{"a placeholder", "<YOUR_PORT>", "2", "3", "", "2", ".env.local"},
	}
	for _, tt := range tests {
		environ := []string{"APP_ID=x", "PORT=" + tt.fallback, "APP_PORT=" + tt.environment, "=C:=C:\\"}
		f, values, errs := load(environ, folder(t, files{
			".env.local": "APP_PORT='" + tt.local + "'\nPORT=5\n",
			".env":       "APP_PORT='" + tt.file + "'\nPORT=6\n",
		}))
		port, source := values["APP_PORT"], f.Setting("APP_PORT").Source
		if errs != nil || port != tt.want || source != tt.source {
			t.Errorf("%s: %s from %s, %q; want %s from %s",
				tt.name, port, source, errs, tt.want, tt.source)
		}
	}
}

func TestPlaceholders(t *testing.T) {
	for _, text := range []string{
		"<YOUR_ITWIN_CLIENT_ID>", "https://<YOUR_TENANT>.us.auth0.com/", "{YOUR_API}",
		"https://<TENANT>.eu.auth0.com/userinfo", "TENANT.us.auth0.com", "q8Zk+0Vx/3nT…==",
	} {
		_, _, errs := load([]string{"APP_ID=" + text}, "")
		wantLines(t, text, errs, "APP_ID: want an ID, got nothing: the placeholder is still there (env")
	}
	for _, text := range []string{
		"tenant.us.auth0.com", "TENANT.US.AUTH0.COM", "your_api", "FOR_YOUR_EYES", "<tenant>", secret,
	} {
		_, _, errs := load([]string{"APP_ID=" + text}, "")
		wantLines(t, text, errs)
	}
	const file = "APP_ID=x\nAPP_SECRET='<YOUR_SECRET>'\nAPP_AUDIENCE=<YOUR_API>\n"
	f, _, _ := load([]string{"APP_AUDIENCE=…"}, folder(t, files{".env": file}))
	wantLines(t, "warnings", f.Warnings, "APP_AUDIENCE: the placeholder is still there (environment)")
}

func TestLines(t *testing.T) {
	tests := []struct {
		name, line, want string
		err              error
	}{
		{"a secret in single quotes", "NAME='" + secret + "'", secret, nil},
		{"double quotes", `NAME="a 'b' #c"`, "a 'b' #c", nil},
		{"export", "export NAME=a", "a", nil},
		{"spaces", " \tNAME\t = \t a b \t", "a b", nil},
		{"# within", "NAME=a#b", "a#b", nil},
		{"comment after nothing", "NAME=   # paste it here", "", nil},
		{"comment", "NAME=a # see #12: costs $5 or \\5", "a", nil},
		{"comment after quotes", "NAME='a' # it's $5", "a", nil},
		{"backslash without quotes", `NAME=C:\key.pem`, `C:\key.pem`, nil},
		{"$ in double quotes", `NAME="pa$WORD"`, "pa$WORD", errChanged},
		{"backslash in double quotes", `NAME="C:\certs\key.pem"`, `C:\certs\key.pem`, errChanged},
		{"escaped quote at the end", `NAME="a\"" # b`, `a\"`, errChanged},
		{"no space before a comment", `NAME="a"#c`, "", errBroken},
		{"open quote", "NAME='a", "", errBroken},
		{"two variables", "NAME='a' B='c'", "", errBroken},
		{"$", "NAME=https://x/$A/y # b", "https://x/$A/y", errChanged},
		{"no =", "NAME a", "", errBroken},
		{"Windows's set", "set NAME=a", "", errBroken},
	}
	for _, tt := range tests {
		name, value, err := parseLine(tt.line)
		if !errors.Is(err, tt.err) || (name == "NAME") == (tt.err == errBroken) || value != tt.want {
			t.Errorf("%s: %q is %q=%q, %v; want NAME=%q, %v",
				tt.name, tt.line, name, value, err, tt.want, tt.err)
		}
	}
}

func TestEveryBrokenLineIsReported(t *testing.T) {
	const file = "\ufeff# APP_ID='\r\n\r\nAPP_ID='x'\r\nAPP_SECRET='hunter2\r\nAPP_PORT=$A\r\nhunter2"
	f, _, errs := load(nil, folder(t, files{".env.local": file, ".env": "APP_PORT=1\nhunter2"}))
	wantLines(t, "errors", errs,
		".env.local line 4: want NAME=value", `.env.local line 5: "APP_PORT": want the value in`,
		".env.local line 6: want NAME=value", ".env line 2: want NAME=value", "APP_PORT: want a")
	if text := fmt.Sprint(errs, f.Warnings); strings.Contains(text, "hunter2") {
		t.Errorf("a line is shown: %s", text)
	}
}

func TestOnlyRegularFilesAreRead(t *testing.T) {
	large := make([]byte, maxFile+1)
	for kind, create := range map[string]func(path string) error{
		"a FIFO":      func(path string) error { return exec.Command("mkfifo", path).Run() },
		"a device":    func(path string) error { return os.Symlink("/dev/zero", path) },
		"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"too large":   func(path string) error { return os.WriteFile(path, large, 0o600) },
	} {
		dir := folder(t, nil)
		for _, name := range []string{".env.local", ".env", "secret"} {
			if err := create(name); err != nil {
				t.Fatal(err)
			}
		}
		_, _, errs := load([]string{"APP_ID=x", "APP_SECRET_FILE=secret"}, dir)
		const not = ": not a regular file of at most 64 KiB"
		wantLines(t, kind, errs, ".env.local cannot be read"+not, ".env cannot be read"+not,
			fmt.Sprintf(`APP_SECRET_FILE: want a file, got "secret" in %q (environment)`, dir)+not)
	}
}

func TestReadSecret(t *testing.T) {
	for _, tt := range []struct{ name, text, want, err string }{
		{"newline", secret + "\n", secret, ""},
		{"Windows newline", secret + "\r\n", secret, ""},
		{"byte order mark", "\ufeff" + secret, secret, ""},
		{"Base64", "KVHJ==", "KVHJ==", ""},
		{"spaces", "  \n", "", "empty"},
		{"two lines", "hunter2\nmore", "", "one line"},
		{"placeholder", "<YOUR_hunter2>", "", "placeholder"},
		{"single quotes", "'hunter2'\n", "", "quotes"},
		{"double quotes", `"hunter2"`, "", "quotes"},
		{"a line of .env", "APP_SECRET=hunter2\n", "", "NAME="},
	} {
		folder(t, files{"a-file": tt.text})
		got, err := ReadSecret("a-file")
		text := fmt.Sprint(err)
		if got != tt.want || (err == nil) != (tt.err == "") || !strings.Contains(text, tt.err) {
			t.Errorf("%s: %q, %v; want %q, an error with %q", tt.name, got, err, tt.want, tt.err)
		}
		if strings.Contains(text, "hunter2") || strings.Contains(text, "a-file") {
			t.Errorf("%s: the error has the secret, or the path, which may be one: %v", tt.name, err)
		}
	}
}

func TestShown(t *testing.T) {
	const (
		base64 = "kVHJ1yXN/UpvbSvR5Ry+vBuKtjrIoBJNvrCKd4gwF"
		client = "nS5CcqYHbPjMEEDSTgVxkU1Ex1JLBHXd" // an Auth0 client ID
		long   = "https://api.example.com/a-long-name-of-an-api"
	)
	tests := []struct{ value, want string }{
		{client + ", " + long, `"` + client + ", " + long + `"`},
		{base64[:40], `"` + base64[:40] + `"`},
		{base64[:41], "41 characters, not shown"},
		{"a, " + base64 + ", ü", "47 characters, not shown"},
		{"https://jane:pw@a.example.com", "29 characters, not shown"},
		{"the-secret", "10 characters, not shown"},
		{"https://a.example.com/?x=the-secret", "35 characters, not shown"},
		{"in-the-file", "11 characters, not shown"},
		{"a\x1b[2J\u202e\u0430", `"a\x1b[2J\u202e\u0430"`}, // an escape, right to left, Cyrillic a
	}
	environ := []string{"APP_ID=x", "APP_SECRET= \"the-secret\" ", "APP_SECRET_FILE=file"}
	folder(t, files{"file": "in-the-file\n"})
	for _, tt := range tests {
		for _, name := range []string{"APP_AUDIENCE", "APP_PORT"} { // accepted, refused
			f, _, errs := load(append(environ, name+"="+tt.value), "")
			if got := f.Setting(name).Shown; got != tt.want {
				t.Errorf("%s=%q is shown as %s, want %s", name, tt.value, got, tt.want)
			}
			text := fmt.Sprint(errs, f.Warnings)
			for _, s := range f.Settings {
				text += fmt.Sprintf("%v %+v %#v", s, s, *s)
			}
			if strings.Contains(text, "the-secret") || strings.Contains(text, "in-the-file") {
				t.Errorf("%s=%q: a secret is shown: %s", name, tt.value, text)
			}
		}
	}
}

func TestSecretInAnotherValue(t *testing.T) {
	for _, tt := range []struct{ secret, id, want string }{
		{"12345678", "service-12345678", "16 characters, not shown"},
		{"id", "id", "2 characters, not shown"},
	} {
		_, _, errs := load([]string{"APP_SECRET=" + tt.secret, "APP_ID=" + tt.id}, "")
		wantLines(t, tt.id, errs, "APP_ID: want an ID, got "+tt.want+" (environment): the")
	}
	// The secret is known even if its own line is refused.
	const file = "APP_ID=x\nAPP_SECRET=\"pa$WORDabcdefgh\"\nAPP_AUDIENCE='pa$WORDabcdefgh'"
	_, _, errs := load(nil, folder(t, files{".env.local": file}))
	wantLines(t, "a refused line", errs, `.env.local line 2: "APP_SECRET": want the value in`,
		"APP_AUDIENCE: want an audience, got 15 characters, not shown")
	_, _, errs = load([]string{"APP_SECRET=vice", "APP_ID=service-x"}, "")
	wantLines(t, "a short secret, by chance", errs)
}

func TestWarnings(t *testing.T) {
	const didYouMean = " (.env) is not a setting; did you mean "
	tests := []struct {
		variable, file string
		want           []string // how they begin
	}{
		{`APP_SECRET="x'`, "APP_PORT=1\nOTHER=y", nil},
		{`APP_SECRET="x"`, "", []string{"APP_SECRET begins and ends with a quote"}},
		{"APP_AUDIENCE='x'", "", []string{"APP_AUDIENCE begins and ends with a quote"}},
		{"", "APP_SECRET=x", []string{"APP_SECRET is in .env, which git tracks"}},
		{"APP_PROT=x", "APP_SECRE=y", []string{
			`"APP_PROT" (environment) is not a setting; did you mean APP_PORT?`,
			`"APP_SECRE"` + didYouMean + "APP_SECRET?",
		}},
		{"APP_SECRET=hunter22", "APP_AUDIENCEhunter22=", []string{ // the = forgotten
			"20 characters, not shown" + didYouMean + "APP_AUDIENCE?"}},
	}
	for _, tt := range tests {
		f, _, errs := load([]string{"APP_ID=x1", tt.variable}, folder(t, files{".env": tt.file}))
		wantLines(t, tt.variable+tt.file, append(errs, f.Warnings...), tt.want...)
	}
}

// FuzzLine gives line to a .env.local, alone and between others, and checks that nothing
// of a secret is in an error, and that a secret in quotes is read (or refused) unchanged.
func FuzzLine(f *testing.F) {
	f.Add("APP_SECRET='hunter22")
	f.Add("A=hunter2$X # b")
	f.Add(`APP_SECRET="a\"b"`)
	f.Add("\xffA\x00")
	f.Fuzz(func(t *testing.T, line string) {
		file := "APP_ID='service-x'\n" + line + "\nAPP_AUDIENCE="
		found, values, errs := load(nil, folder(t, files{".env.local": file}))
		text := fmt.Sprint(errs, found.Warnings)
		if value := values["APP_SECRET"]; len(value) > 30 && strings.Contains(text, value) {
			t.Errorf("%q shows the secret: %s", line, text)
		}
		_, inDouble, err := parseLine(`NAME="` + line + `"`)
		if !strings.ContainsAny(line, "'\"\r\n") && !errors.Is(err, errBroken) && inDouble != line {
			t.Errorf("%q in double quotes is %q, %v, want it as it is", line, inDouble, err)
		}
		name, value, err := parseLine("NAME='" + line + "'")
		if strings.ContainsAny(line, `'\`+"\r\n") {
			return // not a secret that fits into single quotes
		}
		if err != nil || name != "NAME" || value != line {
			t.Errorf("%q in single quotes is %q=%q, %v", line, name, value, err)
		}
	})
}
