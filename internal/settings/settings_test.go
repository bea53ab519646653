package settings

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// secret has what secrets have been broken by: the syntax of URLs, forms, shells and .env
// files, and spaces at both ends.
const secret = ` p+/=:%&$HOME#"q ü\nr `

// load reads an app's settings from these variables, and from files whose texts are given
// by name. It also returns the values that the app stored.
func load(t testing.TB, environ []string, files map[string]string) (
	f *Findings, values map[string]string, err error,
) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		write(t, filepath.Join(dir, name), text)
	}
	return loadDir(environ, dir)
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func loadDir(environ []string, dir string) (f *Findings, values map[string]string, err error) {
	values = make(map[string]string)
	table := []Setting{
		{Name: "APP_ID", Required: func() bool { return true }, Want: "an ID"},
		{Name: "APP_SECRET", Secret: true, Want: "a secret"},
		{Name: "APP_SECRET_FILE", Read: ReadSecret, Want: "a file"},
		{Name: "APP_AUDIENCE", Want: "an audience"},
		{Name: "APP_PORT", Default: "3001", Fallback: "PORT", Want: "a port"},
	}
	for i, s := range table {
		table[i].Parse = func(text string) bool {
			values[s.Name] = text
			_, isPort := Port(text)
			return isPort || s.Name != "APP_PORT"
		}
	}
	f, err = Load(table, "APP_", environ, dir)
	return f, values, err
}

func TestTheFirstSourceWithAValueWins(t *testing.T) {
	tests := []struct{ name, environment, local, file, fallback, want, source string }{
		{"all", "1", "2", "3", "4", "1", "environment"},
		{"not in the environment", "", "2", "3", "4", "2", ".env.local"},
		{"only .env", "", "", "3", "4", "3", ".env"},
		{"only PORT", "", "", "", " 4 ", "4", "PORT in the environment"},
		{"none", "", "", "", "", "3001", "default"},
		{"spaces", " \t", " ", "", " ", "3001", "default"},
		{"comments", " # none", "# none", "#no port", "# 5", "3001", "default"},
		{"a placeholder", "<YOUR_PORT>", "2", "3", "", "2", ".env.local"},
		{"only placeholders", "<YOUR_PORT>", "a…", "YOUR_PORT", "<TENANT>", "3001", "default"},
	}
	for _, tt := range tests {
		environ := []string{"APP_ID=x", "PORT=" + tt.fallback, "APP_PORT=" + tt.environment, "=C:=C:\\"}
		f, values, err := load(t, environ, map[string]string{
			".env.local": "APP_PORT='" + tt.local + "'\nPORT=5\n",
			".env":       "APP_PORT='" + tt.file + "'\nPORT=6\n",
		})
		port := f.Setting("APP_PORT")
		if err != nil || values["APP_PORT"] != tt.want || port.Source != tt.source {
			t.Errorf("%s: %q from %s, %v; want %s from %s",
				tt.name, values["APP_PORT"], port.Source, err, tt.want, tt.source)
		}
	}
}

func TestSecretInTheEnvironment(t *testing.T) {
	for value, want := range map[string]string{secret: secret, "#a": "#a", " # paste it here": ""} {
		_, values, err := load(t, []string{"APP_ID=x", "APP_SECRET=" + value}, nil)
		if values["APP_SECRET"] != want || err != nil {
			t.Errorf("APP_SECRET=%s is %q, %v; want %q", value, values["APP_SECRET"], err, want)
		}
	}
}

func TestPlaceholders(t *testing.T) {
	for _, text := range []string{
		"<YOUR_ITWIN_CLIENT_ID>", "https://<YOUR_TENANT>.us.auth0.com/", "<YOUR_id>", "{YOUR_API}",
		"https://<TENANT>.eu.auth0.com/userinfo", "TENANT.us.auth0.com", "https://TENANT.auth0.com:443",
		"q8Zk+0Vx/3nT…==",
	} {
		f, _, err := load(t, []string{"APP_ID=" + text}, nil)
		wantLines(t, text, lines(err), "APP_ID: want an ID, got nothing: the placeholder is still there")
		wantLines(t, text, f.Warnings)
	}
	for _, text := range []string{
		"tenant.us.auth0.com", "Tenant.us.auth0.com", "MYTENANT.us.auth0.com", "TENANT", "your_api",
		"FOR_YOUR_EYES", "OUR_API", "YOUR_", "yourYOUR_APP", "<tenant>", "YOURS", secret,
	} {
		_, _, err := load(t, []string{"APP_ID=" + text}, nil)
		wantLines(t, text, lines(err))
	}
	const file = "APP_ID=x\nAPP_SECRET='<YOUR_SECRET>'\nAPP_AUDIENCE=<YOUR_API>\n"
	f, _, _ := load(t, []string{"APP_AUDIENCE=…"}, map[string]string{".env": file})
	wantLines(t, "warnings", f.Warnings, "APP_AUDIENCE: the placeholder is still there (environment)")
}

// wantLines compares the beginnings of warnings, or of an error's lines.
func wantLines(t *testing.T, name string, got []string, want ...string) {
	t.Helper()
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("%s: got\n%q, want\n%q", name, got, want)
	}
}

func lines(err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}

func TestLines(t *testing.T) {
	tests := []struct {
		name, line, want string
		err              error
	}{
		{"plain", "NAME=a b", "a b", nil},
		{"a secret in single quotes", "NAME='" + secret + "'", secret, nil},
		{"double quotes", `NAME="a 'b' #c"`, "a 'b' #c", nil},
		{"export", "export NAME=a", "a", nil},
		{"spaces", " \tNAME\t = \t a \t", "a", nil},
		{"Windows line end", "NAME='a'\r", "a", nil},
		{"a colon", "NAME: a=b", "a=b", nil},
		{"# within", "NAME=a#b", "a#b", nil},
		{"quoted #", "NAME='#a'", "#a", nil},
		{"empty quotes", "NAME='' # not yet", "", nil},
		{"comment after nothing", "NAME=   # paste it here", "", nil},
		{"comment", "NAME=a # costs $5 or \\5", "a", nil},
		{"comment with a #", "NAME=a # see #12 # too", "a", nil},
		{"comment after a tab", "NAME=a\t# b", "a", nil},
		{"comment after quotes", "NAME='a' # it's $5", "a", nil},
		{"backslash without quotes", `NAME=C:\key.pem`, `C:\key.pem`, nil},
		{"$ before no name", "NAME=a$b", "a$b", nil},
		{"$ at the end of the value", "NAME=pa$WORD", "", errChanged},
		{"$ within", "NAME=https://x/$A/y", "", errChanged},
		{"only $", "NAME=$WORD", "", errChanged},
		{"$ in double quotes", `NAME="pa$WORD"`, "", errChanged},
		{"backslash in double quotes", `NAME="C:\certs\key.pem"`, "", errChanged},
		{"escaped quote", `NAME="a\"b"`, "", errChanged},
		{"escaped single quote", `NAME='a\'` + `b'`, "", errChanged},
		{"open quote", "NAME='a", "", errBroken},
		{"two variables", "NAME='a' B='c'", "", errBroken},
		{"old Mac line end", "NAME=a\rB=c", "", errBroken},
		{"no =", "NAME a", "", errBroken},
		{"Windows's set", "set NAME=a", "", errBroken},
		{"no name", "=a", "", errBroken},
		{"a value alone", "kVHJ1yXN/Upv==", "", errBroken},
		{"UTF-16", "\x00N\x00A\x00M\x00E\x00=\x00a", "", errBroken},
	}
	for _, tt := range tests {
		name, value, err := parseLine(tt.line)
		if err != tt.err || err == nil && (name != "NAME" || value != tt.want) {
			t.Errorf("%s: %q is %q=%q, %v; want NAME=%q, %v",
				tt.name, tt.line, name, value, err, tt.want, tt.err)
		}
	}
	for _, line := range []string{"", " \t\r", "# NAME=a", "  # it's 'a"} {
		if name, value, err := parseLine(line); name != "" || value != "" || err != nil {
			t.Errorf("%q sets %q to %q, %v; want nothing", line, name, value, err)
		}
	}
}

func TestEveryBrokenLineIsReported(t *testing.T) {
	const file = "\ufeffAPP_ID='x'\r\n\r\nAPP_SECRET='hunter2\r\n# it's\r\nAPP_PORT=$A\r\nhunter2"
	f, _, err := load(t, nil, map[string]string{".env.local": file, ".env": "APP_PORT=1\nhunter2"})
	wantLines(t, "errors", lines(err),
		".env.local line 3: want NAME=value", ".env.local line 5: want the value in single quotes",
		".env.local line 6: want NAME=value", ".env line 2: want NAME=value")
	if text := fmt.Sprint(f, err); strings.Contains(text, "hunter2") {
		t.Errorf("a line is shown: %s", text)
	}
	broken := strings.Repeat("'\n", maxFile/2)
	_, _, err = load(t, []string{"APP_ID=x"}, map[string]string{".env": broken})
	if n := strings.Count(fmt.Sprint(err), ".env line "); n != maxFile/2 {
		t.Errorf("%d errors, want one for each of %d lines", n, maxFile/2)
	}
}

// Opening a FIFO waits for a writer, and a device has no end.
func TestOnlyRegularFilesAreRead(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := exec.Command("mkfifo", "fifo").Run(); err != nil {
		t.Skip("no FIFOs on this system")
	}
	os.Mkdir("directory", 0o700)
	os.Symlink("/dev/zero", "device")
	for _, file := range []string{"fifo", "device", "directory"} {
		for _, name := range []string{".env.local", ".env"} {
			empty := t.TempDir()
			if err := os.Symlink(filepath.Join(dir, file), filepath.Join(empty, name)); err != nil {
				t.Fatal(err)
			}
			_, _, err := loadDir([]string{"APP_ID=x"}, empty)
			wantLines(t, file, lines(err), name+" cannot be read: not a regular file")
		}
		_, _, err := loadDir([]string{"APP_ID=x", "APP_SECRET_FILE=" + file}, "")
		wantLines(t, file, lines(err), fmt.Sprintf(
			"APP_SECRET_FILE: want a file, got %q in %q (environment): not a regular file", file, dir))
	}
}

func TestFilesThatAreNoText(t *testing.T) {
	for text, want := range map[string]string{
		"\xff\xfeA\x00=\x00x\x00":           "not text in UTF-8", // UTF-16
		"APP_SECRET='hunter2\xe4'\n":        "not text in UTF-8", // Latin-1
		strings.Repeat("# hunter2\n", 7000): "a file larger than 64 KiB",
	} {
		_, _, err := load(t, []string{"APP_ID=x"}, map[string]string{".env": text})
		wantLines(t, want, lines(err), ".env cannot be read: "+want)
	}
}

func TestReadSecret(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secret")
	tests := []struct{ name, text, want, err string }{
		{"newline", secret + "\n", secret, ""},
		{"Windows newline", secret + "\r\n", secret, ""},
		{"byte order mark", "\ufeff" + secret, secret, ""},
		{"Base64", "KVHJ==", "KVHJ==", ""},
		{"empty", "", "", "empty"},
		{"spaces", "  \n", "", "empty"},
		{"two lines", "hunter2\nmore", "", "one line"},
		{"empty line at the end", "hunter2\n\n", "", "one line"},
		{"UTF-16 without a mark", "h\x00u\x00n\x00", "", "one line"},
		{"too large", strings.Repeat("a", maxFile+1), "", "larger"},
		{"placeholder", "<YOUR_hunter2>", "", "placeholder"},
		{"single quotes", "'hunter2'\n", "", "quotes"},
		{"double quotes", `"hunter2"`, "", "quotes"},
		{"a line of .env", "APP_SECRET=hunter2\n", "", "NAME="},
		{"export", "export APP_SECRET='hunter2'", "", "NAME="},
	}
	for _, tt := range tests {
		write(t, path, tt.text)
		got, err := ReadSecret(path)
		text := fmt.Sprint(err)
		if got != tt.want || (err == nil) != (tt.err == "") || !strings.Contains(text, tt.err) {
			t.Errorf("%s: %q, %v; want %q, an error with %q", tt.name, got, err, tt.want, tt.err)
		}
		if strings.Contains(text, "hunter2") || strings.Contains(text, path) {
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
		{`"the-secret"`, "12 characters, not shown"},
		{"https://a.example.com/?x=the-secret", "35 characters, not shown"},
		{"in-the-file", "11 characters, not shown"},
		{"x-in-the-file", "13 characters, not shown"},
		{"the", `"the"`},
		{"a\x1b[2J\u202e\u0430", `"a\x1b[2J\u202e\u0430"`}, // an escape, right to left, Cyrillic a
		{strings.Repeat("a,", 99), `"` + strings.Repeat("a,", 50) + `"`},
	}
	for _, tt := range tests {
		for _, name := range []string{"APP_AUDIENCE", "APP_PORT"} { // accepted, refused
			environ := []string{"APP_ID=x", "APP_SECRET= \"the-secret\" ", "APP_SECRET_FILE=file"}
			t.Chdir(t.TempDir())
			write(t, "file", "in-the-file\n")
			f, _, err := loadDir(append(environ, name+"="+tt.value), "")
			if got := f.Setting(name).Shown; got != tt.want {
				t.Errorf("%s=%q is shown as %s, want %s", name, tt.value, got, tt.want)
			}
			text := fmt.Sprintf("%v %+v %#v", err, f, f)
			if strings.Contains(text, "the-secret") || strings.Contains(text, "in-the-file") {
				t.Errorf("%s=%q: a secret is shown: %s", name, tt.value, text)
			}
			if name == "APP_PORT" && !strings.Contains(text, ", got "+tt.want+" (environment)") {
				t.Errorf("%s=%q: %v, want what may be shown", name, tt.value, err)
			}
		}
	}
}

func TestErrors(t *testing.T) {
	tests := []struct {
		environ []string
		want    string // how the only error begins; "" for none
	}{
		{nil, "APP_ID: want an ID, got nothing"},
		{[]string{"APP_ID=x", "PORT=x"}, `APP_PORT: want a port, got "x" (PORT in the environment)`},
		{[]string{"APP_ID=x", "APP_SECRET_FILE=/none"}, `APP_SECRET_FILE: want a file, got "/none" (env`},
		{[]string{"APP_ID=x", "APP_SECRET=x"},
			"APP_ID: want an ID, got 1 characters, not shown (environment): the client secret is in it"},
		{[]string{"APP_ID=x", "APP_SECRET=12345678", "APP_AUDIENCE=a12345678"},
			"APP_AUDIENCE: want an audience, got 9 characters, not shown"},
		{[]string{"APP_ID=x1234567", "APP_SECRET=1234567"}, ""}, // short, so by chance
	}
	for _, tt := range tests {
		_, _, err := load(t, tt.environ, nil)
		if text := fmt.Sprint(err); tt.want == "" && err != nil || !strings.HasPrefix(text, tt.want) {
			t.Errorf("%q: got %v, want %s", tt.environ, err, tt.want)
		}
	}
}

func TestWarnings(t *testing.T) {
	const didYouMean = " in .env is not a setting; did you mean "
	tests := []struct {
		name, variable, file string
		want                 []string // how they begin
	}{
		{"none", `APP_SECRET="x'`, "APP_PORT=1\nOTHER=y", nil},
		{"double quotes", `APP_SECRET="x"`, "", []string{"APP_SECRET begins and ends with a quote"}},
		{"single quotes", "APP_AUDIENCE='x'", "", []string{"APP_AUDIENCE begins and ends with a quote"}},
		{"the secret in .env", "", "APP_SECRET=x", []string{"APP_SECRET is in .env, which git tracks"}},
		{"misspelt", "APP_PROT=x", "APP_SECRE=x\nAPP_SECRT_FILE=y", []string{
			`"APP_PROT" in the environment is not a setting; did you mean APP_PORT?`,
			`"APP_SECRE"` + didYouMean + "APP_SECRET?",
			`"APP_SECRT_FILE"` + didYouMean + "APP_SECRET_FILE?",
		}},
		{"the secret after a name", "APP_SECRET=hunter22", "APP_AUDIENCEhunter22=", []string{
			"20 characters, not shown" + didYouMean + "APP_AUDIENCE?"}},
		{"a long name", "", "APP_SECRET" + strings.Repeat("x", 31) + "=", []string{
			"41 characters, not shown" + didYouMean + "APP_SECRET?"}},
	}
	for _, tt := range tests {
		f, _, err := load(t, []string{"APP_ID=x1", tt.variable}, map[string]string{".env": tt.file})
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		wantLines(t, tt.name, f.Warnings, tt.want...)
	}
}

// FuzzLine gives line to a .env.local, alone and between others, and checks that nothing
// of a secret is in an error, and that a secret in single quotes is read unchanged.
func FuzzLine(f *testing.F) {
	for _, line := range []string{
		"", "# b", `export C="d"`, "APP_SECRET='hunter22'", "APP_SECRET='hunter22", "A=hunter2$X",
		`APP_SECRET="a\"b"`, "APP_SECRET hunter22==", "APP_PORT: hunter22", "\xffA\x00", "A='x' B=",
	} {
		f.Add(line)
	}
	path := filepath.Join(f.TempDir(), ".env.local")
	f.Fuzz(func(t *testing.T, line string) {
		write(t, path, "APP_ID='service-x'\n"+line+"\nAPP_AUDIENCE=")
		found, values, err := loadDir(nil, filepath.Dir(path))
		text := fmt.Sprintf("%v %+v", err, found)
		if value := values["APP_SECRET"]; len(value) > 30 && strings.Contains(text, value) {
			t.Errorf("%q shows the secret: %s", line, text)
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
