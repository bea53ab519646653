// Package settings finds a program's settings: in the environment, then in
// .env.local, then in .env; the first that has a value wins. It knows names and
// text, not what any of them means.
package settings

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

	"github.com/joho/godotenv"
)

// A Setting is one variable: as it is declared, and then as it was found.
type Setting struct {
	Name   string
	Value  string // the default, until found
	Secret bool   // its value is never to be shown
	From   string // the source of the value: "environment", ".env.local", ".env", "default", or "" for none
}

// Find fills in the values of the declared settings, all of which begin with
// prefix. An empty variable and one that holds "<YOUR_" (a placeholder left in)
// count as not set. The warnings tell of variables that begin with prefix and
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
		if v := source.values[s.Name]; v != "" && !strings.Contains(v, "<YOUR_") {
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
		return s, fmt.Errorf("%s: want a readable file, got: %w", name, errors.Unwrap(err))
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // a byte order mark, as some editors write
	if s.values, err = godotenv.UnmarshalBytes(text); err != nil {
		return source{name: name}, fmt.Errorf("%s line %d: want NAME=value with quotes closed, got something else (not shown: it may hold a secret)", name, faultyLine(text))
	}
	for _, setting := range declared {
		if line := mangledLine(text, setting.Name); setting.Secret && line > 0 {
			return s, fmt.Errorf(`%s line %d: want %s in single quotes, since it holds a $, # or \, got it without`, name, line, setting.Name)
		}
	}
	return s, nil
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

// mangledLine is the line of a value that godotenv would change, or 0: outside
// of single quotes it expands $, and ends at a # or unescapes a \.
func mangledLine(text []byte, name string) int {
	changed := regexp.MustCompile(`^\s*(export\s+)?` + name + `\s*[=:]\s*[^'\s].*[$#\\]`)
	for i, line := range bytes.Split(text, []byte("\n")) {
		if changed.Match(line) {
			return i + 1
		}
	}
	return 0
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
			warnings = append(warnings, fmt.Sprintf("%q in %s is not a setting; did you mean %s?", name, source.name, nearest.Name))
		}
	}
	slices.Sort(warnings)
	return warnings
}

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
