package settings

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/joho/godotenv"
)

// maxFile bounds what is read of a file, in bytes: a larger one is something else.
const maxFile = 64 << 10

// readEnvFile reads a .env file; a missing one is an empty one. Each line is parsed by
// itself, so that all broken ones are reported, with their numbers. The errors show
// nothing of a line, since it may have a secret.
func readEnvFile(dir, name string) (values map[string]string, errs []error) {
	text, err := ReadFile(filepath.Join(dir, name))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, []error{fmt.Errorf("%s cannot be read: %w", name, err)}
	}
	values = make(map[string]string)
	for i, line := range strings.Split(text, "\n") {
		variable, value, err := parseLine(line)
		values[variable] = value
		if err != nil {
			errs = append(errs, fmt.Errorf("%s line %d: %w", name, i+1, err))
		}
	}
	return values, errs
}

var (
	errBroken = errors.New("want NAME=value, with quotes closed and nothing behind them " +
		"but a comment, got something else (not shown: it may have a secret in it)")
	errChanged = errors.New(`want the value in single quotes: ` +
		`outside them $ and \ have a special meaning`)
)

// valueAndComment separates a value from the comment behind it: for godotenv the comment
// after an empty value is the value. Its groups are the value with its quotes, and what is
// in single quotes, in double quotes, or in none. It matches any text.
var valueAndComment = regexp.MustCompile(
	`(?s)^('([^']*)'|"((?:[^"\\]|\\.)*)"|(.*?))((^|\s+)#.*)?$`)

// quoteFirst is a value without quotes around it that begins with one.
var quoteFirst = regexp.MustCompile(`^['"]`)

// parseLine returns the variable that a line of a .env file sets, with an empty name if
// the line is blank, a comment or broken. The value is the text in the line, also where
// godotenv would change it: it may be the secret, which can be hidden only if it is known.
func parseLine(line string) (name, value string, err error) {
	start := strings.IndexAny(line, "=:") + 1
	parts := valueAndComment.FindStringSubmatch(strings.TrimSpace(line[start:]))
	values, err := godotenv.Unmarshal(line[:start] + parts[1])
	if err != nil || len(values) > 1 {
		return "", "", errBroken // godotenv's error quotes the line
	}
	for name, value = range values {
		// The first refuses NAME value and set NAME=value, the second NAME="value"#comment.
		if len(strings.Fields(name)) != 1 || quoteFirst.MatchString(parts[4]) {
			return "", "", errBroken
		}
		if text := parts[2] + parts[3] + parts[4]; text != value {
			return name, text, fmt.Errorf("%s: %w", Shown(name), errChanged)
		}
	}
	return name, value, nil
}

// notSecrets are what a secret's file may have instead.
var notSecrets = []struct {
	form    *regexp.Regexp
	problem string
}{
	{regexp.MustCompile(`^\s*$`), "it is empty"},
	{invisible, "it is not one line of text in UTF-8"},
	{placeholder, "the placeholder is still there"},
	{regexp.MustCompile(`^\s*(".*"|'.*')\s*$`), "the secret is in quotes: remove them"},
	{regexp.MustCompile(`^(export )?[A-Z][A-Z0-9_]* ?=[^=]`), "it begins with NAME=: remove that"},
}

// ReadSecret returns the secret that a file has as its one line. A newline at its end is
// not a part of it.
func ReadSecret(path string) (string, error) {
	text, err := ReadFile(path)
	if err != nil {
		return "", err
	}
	secret := strings.TrimSuffix(strings.TrimSuffix(text, "\n"), "\r")
	for _, not := range notSecrets {
		if not.form.MatchString(secret) {
			return "", errors.New(not.problem)
		}
	}
	return secret, nil
}

// ReadFile returns the text of a regular file of at most 64 KiB, without its byte order
// mark, which some editors write. It opens no other file: opening a FIFO waits for its
// writer, and a device has no end. The error is without the path, which may be a secret.
func ReadFile(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", errors.Unwrap(err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return "", fmt.Errorf("not a regular file of at most %d KiB", maxFile>>10)
	}
	text, err := os.ReadFile(path)
	return strings.TrimPrefix(string(text), "\ufeff"), errors.Unwrap(err)
}
