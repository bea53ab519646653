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

// maxFile is the size of a .env file, in bytes: a larger file is something else.
const maxFile = 64 << 10

// readFile reads a .env file; a missing one is an empty one, and the values of one
// that cannot be read are nil. Each file is parsed by itself, since godotenv.Load
// lets a variable that is set to nothing win, and stops at a missing file. The
// errors name the line and never quote it: godotenv's own quote what follows it,
// secrets included.
func readFile(dir, name string, settings []Setting) (values map[string]string, errs []error) {
	text, err := os.ReadFile(filepath.Join(dir, name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return map[string]string{}, nil
	case err != nil:
		return nil, []error{fmt.Errorf("%s: want a readable file, got: %w", name, errors.Unwrap(err))}
	case len(text) > maxFile:
		return nil, []error{fmt.Errorf("%s: want at most %d KiB, got more", name, maxFile>>10)}
	case bytes.IndexByte(text, 0) >= 0, !utf8.Valid(text): // some shells of Windows write UTF-16
		return nil, []error{fmt.Errorf("%s: want text in UTF-8, got another encoding: save it as UTF-8", name)}
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // a byte order mark, as some editors write
	if values, err = godotenv.UnmarshalBytes(text); err != nil {
		return nil, []error{fmt.Errorf("%s line %d: want NAME=value with quotes closed, got something else (not shown: it may hold a secret)", name, invalidLine(text))}
	}
	for _, s := range settings {
		if err := checkQuotes(text, s, values[s.Name]); err != nil {
			errs = append(errs, fmt.Errorf("%s %w", name, err))
		}
	}
	return values, errs
}

// invalidLine is the line where text stops being a .env file: the one after the
// longest beginning that is one.
func invalidLine(text []byte) int {
	lines := bytes.SplitAfter(text, []byte("\n"))
	for n := len(lines) - 1; n > 0; n-- {
		if _, err := godotenv.UnmarshalBytes(bytes.Join(lines[:n], nil)); err == nil {
			return n + 1
		}
	}
	return 1
}

// checkQuotes finds a value that parses, but to something else than was meant: a
// quote that is closed by that of another line, or a secret that godotenv
// changes, since outside of single quotes it expands $, and ends at a # or
// unescapes a \.
func checkQuotes(text []byte, s Setting, value string) error {
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
	return slices.IndexFunc(bytes.Split(text, []byte("\n")), regexp.MustCompile(pattern).Match) + 1
}

// unknownNames warns of variables that look like settings and are none.
func unknownNames(settings []Setting, prefix string, sources []source) (warnings []string) {
	for _, source := range sources {
		for name := range source.values {
			if !strings.HasPrefix(name, prefix) || slices.ContainsFunc(settings, func(s Setting) bool { return s.Name == name }) {
				continue
			}
			nearest := slices.MaxFunc(settings, func(a, b Setting) int {
				return cmp.Compare(likeness(a.Name, name, len(prefix)-1), likeness(b.Name, name, len(prefix)-1))
			})
			warnings = append(warnings, fmt.Sprintf("%q in %s is not a setting; did you mean %s?", showName(name, settings), source.name, nearest.Name))
		}
	}
	slices.Sort(warnings)
	return warnings
}

// showName is what may be shown of a name. Where the = after it was forgotten,
// godotenv takes the value for a part of the name, and that may be a secret.
func showName(name string, settings []Setting) string {
	for _, s := range settings {
		if s.Secret && strings.HasPrefix(name, s.Name) {
			return s.Name + "…"
		}
	}
	if begin := regexp.MustCompile(`^[A-Z0-9_]*`).FindString(name); begin != name {
		return begin + "…"
	}
	return name
}

// likeness is the number of pairs of letters that two names share from start
// on, less the difference in length.
func likeness(a, b string, start int) (shared int) {
	for i := start; i+2 <= len(a); i++ {
		if strings.Contains(b[start:], a[i:i+2]) {
			shared++
		}
	}
	return shared - max(len(a)-len(b), len(b)-len(a))
}
