package dotenv

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"unicode/utf8"

	"github.com/joho/godotenv"
)

// maxFile is the size of a .env file, in bytes: a larger file is something else.
const maxFile = 64 << 10

// readFile reads a .env file; a missing one is an empty one. Each is parsed by
// itself, since godotenv.Load lets a variable that is set to nothing win, and
// stops at a missing file. The errors name the line and never quote it: godotenv's
// own quote what follows it, secrets included.
func (f *Findings) readFile(dir, name string) map[string]string {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.Unread = true
		f.errs = append(f.errs, fmt.Errorf("%s: want a readable file, got: %w", name, errors.Unwrap(err)))
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff")) // a byte order mark, as some editors write
	values, err := parseFile(text)
	if err != nil {
		f.Unread = true
		f.errs = append(f.errs, fmt.Errorf("%s line %d: want NAME=value with quotes closed, in UTF-8 and at most %d KiB, got something else (not shown: it may hold a secret)",
			name, invalidLine(text), maxFile>>10))
		return nil
	}
	seen := make(map[string]bool)
	for _, at := range assignment.FindAllSubmatchIndex(text, -1) {
		variable, value := string(text[at[2]:at[3]]), text[at[4]:at[5]]
		i := slices.IndexFunc(f.Settings, func(s Setting) bool { return s.Name == variable })
		if i < 0 {
			continue
		}
		if seen[variable] {
			f.Warnings = append(f.Warnings, variable+" is set more than once in "+name+": the last one counts")
		}
		if f.Settings[i].Secret && changed.Match(value) {
			f.errs = append(f.errs, fmt.Errorf(`%s line %d: want %s in single quotes, since it holds a $ or \, got it without`, name, lineAt(text[:at[4]]), variable))
		}
		seen[variable] = true
	}
	return values
}

var (
	assignment = regexp.MustCompile(`(?m)^[^\S\n]*(?:export[^\S\n]+)?([A-Z0-9_]+)[^\S\n]*[=:][^\S\n]*(.*)`)
	changed    = regexp.MustCompile(`^([$\\]|[^'].*[$\\])`) // outside of single quotes godotenv expands $ and unescapes \
)

// lineAt is the number of the line that follows text, or that it is a part of.
func lineAt(text []byte) int { return 1 + bytes.Count(text, []byte("\n")) }

func parseFile(text []byte) (map[string]string, error) {
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
		if _, err := parseFile(text); err == nil {
			return lineAt(text)
		}
	}
}
