// Package settings finds a program's settings: in the environment, then in
// .env.local, then in .env; the first that has a value wins. It knows names and
// text, and how a host or a URL is written, not what any setting means.
package dotenv

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/joho/godotenv"
)

// maxFile bounds a .env file in bytes: what is larger is something else.
const maxFile = 64 << 10

// ErrUnread is in the error where a file could not be read: what seems not to be
// set may be in it.
var ErrUnread = errors.New("a file could not be read")

// unread is such a file's fault.
type unread struct{ error }

func (unread) Is(target error) bool { return target == ErrUnread }

func unreadf(format string, args ...any) error { return unread{fmt.Errorf(format, args...)} }

// A Setting is one variable: as it is declared, and then as it was found.
type Setting struct {
	Name   string
	Value  string // the default, until found
	Secret bool   // its value is never to be shown
	From   string // the source of the value: "environment", ".env.local", ".env", "default", or "" for none
}

// Find fills in the values of the declared settings, all of which begin with
// prefix. An empty variable, one of nothing but spaces, and one that holds "<YOUR_"
// (a placeholder left in) count as not set. The warnings tell of variables that begin with prefix and
// are not declared. The error joins one for each file that cannot be used; no
// text holds a value. With no dir it looks at no files.
func Find(declared []Setting, prefix string, environ []string, dir string) (found []Setting, warnings []string, err error) {
	sources := []source{environment(environ)}
	var faults []error
	for _, name := range []string{".env.local", ".env"} {
		if dir == "" {
			break
		}
		file, err := readFile(filepath.Join(dir, name), name, declared)
		faults = append(faults, err)
		sources = append(sources, file)
	}
	found = slices.Clone(declared)
	for i := range found {
		found[i].resolve(sources)
	}
	return found, misspelt(declared, prefix, sources), errors.Join(faults...)
}

// A source is where settings come from.
type source struct {
	name   string
	values map[string]string
}

// resolve takes the setting from the first source that has a value for it.
func (s *Setting) resolve(sources []source) {
	for _, source := range sources {
		if v := source.values[s.Name]; strings.TrimSpace(v) != "" && !strings.Contains(v, "<YOUR_") {
			s.Value, s.From = v, source.name
			return
		}
	}
	if s.Value != "" {
		s.From = "default"
	}
}

func environment(environ []string) source {
	s := source{"environment", map[string]string{}}
	for _, entry := range environ {
		if name, value, ok := strings.Cut(entry, "="); ok {
			s.values[name] = value
		}
	}
	return s
}

// readFile reads a .env file; a missing one is an empty one. Its errors name
// the line and never quote it: godotenv's own quote all that follows it.
func readFile(path, name string, declared []Setting) (source, error) {
	s := source{name: name}
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, nil
	case err != nil:
		return s, unreadf("%s: want a readable file, got: %w", name, errors.Unwrap(err))
	}
	switch {
	case len(text) > maxFile:
		return s, unreadf("%s: want at most %d KiB, got more", name, maxFile>>10)
	case bytes.IndexByte(text, 0) >= 0, !utf8.Valid(text): // some shells of Windows write UTF-16
		return s, unreadf("%s: want text in UTF-8, got another encoding: save it as UTF-8", name)
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // a byte order mark, as some editors write
	if s.values, err = godotenv.UnmarshalBytes(text); err != nil {
		return source{name: name}, unreadf("%s line %d: want NAME=value with quotes closed, got something else (not shown: it may hold a secret)", name, faultyLine(text))
	}
	var faults []error
	for _, setting := range declared {
		if fault := miswritten(text, setting, s.values[setting.Name]); fault != nil {
			faults = append(faults, fmt.Errorf("%s %w", name, fault))
		}
	}
	return s, errors.Join(faults...)
}

// faultyLine is the line where text stops being a .env file: the one after the
// longest beginning that is one.
func faultyLine(text []byte) int {
	lines := bytes.SplitAfter(text, []byte("\n"))
	for n := len(lines) - 1; n > 0; n-- {
		if _, err := godotenv.UnmarshalBytes(bytes.Join(lines[:n], nil)); err == nil {
			return n + 1
		}
	}
	return 1
}

// miswritten finds a value that parses, but to something else than was meant: a
// quote that is closed by that of another line, or a secret that godotenv
// changes, since outside of single quotes it expands $, and ends at a # or
// unescapes a \.
func miswritten(text []byte, s Setting, value string) error {
	begin := `^\s*(export\s+)?` + s.Name + `\s*[=:]\s*`
	if s.Secret {
		if line := lineOf(text, begin+`([$#\\]|[^'\s].*[$#\\])`); line > 0 {
			return fmt.Errorf(`line %d: want %s in single quotes, since it holds a $, # or \, got it without`, line, s.Name)
		}
	}
	if strings.ContainsAny(value, "\r\n") {
		return fmt.Errorf("line %d: want %s on one line, got a line break in it: close its quote", lineOf(text, begin), s.Name)
	}
	return nil
}

// lineOf is the number of the first line that matches, or 0.
func lineOf(text []byte, pattern string) int {
	wanted := regexp.MustCompile(pattern)
	return slices.IndexFunc(bytes.Split(text, []byte("\n")), wanted.Match) + 1
}

// misspelt warns of variables that look like settings and are none.
func misspelt(declared []Setting, prefix string, sources []source) (warnings []string) {
	for _, source := range sources {
		for name := range source.values {
			if !strings.HasPrefix(name, prefix) || slices.ContainsFunc(declared, func(s Setting) bool { return s.Name == name }) {
				continue
			}
			nearest := slices.MinFunc(declared, func(a, b Setting) int {
				return cmp.Compare(distance(a.Name, name), distance(b.Name, name))
			})
			warnings = append(warnings, fmt.Sprintf("%q in %s is not a setting; did you mean %s?", shown(name, declared), source.name, nearest.Name))
		}
	}
	slices.Sort(warnings)
	return warnings
}

// shown is what may be shown of a name. Where the = after it was forgotten,
// godotenv takes the value for a part of the name, and that may be a secret.
func shown(name string, declared []Setting) string {
	for _, s := range declared {
		if s.Secret && strings.HasPrefix(name, s.Name) {
			return s.Name + "…"
		}
	}
	if end := strings.IndexFunc(name, notOfName); end >= 0 {
		return name[:end] + "…"
	}
	return name
}

func notOfName(r rune) bool { return (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' }

// distance is the number of single-letter edits from a to b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			edit := diagonal
			if a[i] != b[j] {
				edit++
			}
			diagonal = row[j+1]
			row[j+1] = min(edit, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
