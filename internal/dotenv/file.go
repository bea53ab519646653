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
func readFile(dir, name string, settings []Setting) (map[string]string, error) {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]string{}, nil
	} else if err != nil {
		return nil, fmt.Errorf("%s: want a readable file, got: %w", name, errors.Unwrap(err))
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // a byte order mark, as some editors write
	values, err := parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s line %d: want NAME=value with quotes closed, in UTF-8 and at most %d KiB, got something else (not shown: it may hold a secret)",
			name, invalidLine(text), maxFile>>10)
	}
	for _, s := range settings {
		// Outside of single quotes godotenv expands $, ends at a #, and unescapes \.
		changed := regexp.MustCompile(`(?m)^[^\S\n]*(export[^\S\n]+)?` + s.Name + `[^\S\n]*[=:][^\S\n]*([$#\\]|[^'\s].*[$#\\])`)
		switch at := changed.FindIndex(text); {
		case s.Secret && at != nil:
			line := 1 + bytes.Count(text[:at[1]], []byte("\n"))
			err = errors.Join(err, fmt.Errorf(`%s line %d: want %s in single quotes, since it holds a $, # or \, got it without`, name, line, s.Name))
		case strings.ContainsAny(values[s.Name], "\r\n"): // another setting's quote closes it
			err = errors.Join(err, fmt.Errorf("%s: want %s on one line, got a line break in it: close its quote", name, s.Name))
		}
	}
	return values, err
}

func parse(text []byte) (map[string]string, error) {
	if len(text) > maxFile || !utf8.Valid(text) { // some shells of Windows write UTF-16
		return nil, errors.New("not a text file")
	}
	return godotenv.UnmarshalBytes(text)
}

// invalidLine is the line where text stops being a .env file: the one after the
// longest beginning that is one.
func invalidLine(text []byte) int {
	for {
		text = text[:bytes.LastIndexByte(bytes.TrimSuffix(text, []byte("\n")), '\n')+1]
		if _, err := parse(text); err == nil {
			return 1 + bytes.Count(text, []byte("\n"))
		}
	}
}

// unknownNames warns of variables that look like settings and are none.
func unknownNames(settings []Setting, prefix string, sources []source) (warnings []string) {
	start := len(prefix) - 1 // of the names' own letters, with the _ before them
	for _, source := range sources {
		place := strings.Replace(source.name, "environment", "the environment", 1)
		for name := range source.values {
			if !strings.HasPrefix(name, prefix) || slices.ContainsFunc(settings, func(s Setting) bool { return s.Name == name }) {
				continue
			}
			nearest := slices.MaxFunc(settings, func(a, b Setting) int {
				return cmp.Compare(likeness(a.Name[start:], name[start:]), likeness(b.Name[start:], name[start:]))
			})
			warnings = append(warnings, fmt.Sprintf("%q in %s is not a setting; did you mean %s?", showName(name, settings), place, nearest.Name))
		}
	}
	slices.Sort(warnings)
	return warnings
}

// showName is what may be shown of a name. Where the = after it was forgotten,
// godotenv takes the value for a part of the name, and that may be a secret.
func showName(name string, settings []Setting) string {
	shown := regexp.MustCompile(`^[A-Z0-9_]*`).FindString(name)
	for _, s := range settings {
		if s.Secret && strings.HasPrefix(name, s.Name) {
			shown = s.Name
		}
	}
	if shown != name {
		shown += "…"
	}
	return shown
}

// likeness is the number of pairs of letters that two names share, less the
// difference in length.
func likeness(a, b string) (shared int) {
	for i := range len(a) - 1 {
		if strings.Contains(b, a[i:i+2]) {
			shared++
		}
	}
	return shared - max(len(a)-len(b), len(b)-len(a))
}
