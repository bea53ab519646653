package faults

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// checkLog checks each line of the log, until one is wrong.
func (p *process) checkLog() {
	p.t.Helper()
	for line := range strings.Lines(p.log.String()) {
		line = strings.TrimSuffix(line, "\n")
		if err := errors.Join(checkFormat(line), p.leaks(line)); err != nil {
			p.t.Errorf("log: %v: %q", err, line)
			return
		}
	}
}

// textLine is a line of slog's text handler: pairs, with quoted values where needed.
var textLine = regexp.MustCompile(`^time=\S+ level=(DEBUG|INFO|WARN|ERROR) ` +
	`msg=("(\\.|[^"\\])*"|[^\s"=]+)( [A-Za-z_]+=("(\\.|[^"\\])*"|[^\s"=]*))*$`)

func checkFormat(line string) error {
	// A terminal takes others as commands, or shows something else than is there.
	if strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }) {
		return errors.New("want printable ASCII")
	}
	if !textLine.MatchString(line) {
		return errors.New("want a line of slog's text handler")
	}
	return nil
}

// jwtPart is a JWT's header or claims: JSON in base64url begins so.
var jwtPart = regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{20}`)

// leaks returns an error if the text holds a secret or a token.
func (f *fixture) leaks(text string) error {
	for what, secret := range f.secrets {
		if strings.Contains(text, secret) {
			return fmt.Errorf("holds %s", what)
		}
	}
	if jwtPart.MatchString(text) {
		return errors.New("holds a token")
	}
	return nil
}

// logLines counts the lines whose message begins so.
func (p *process) logLines(message string) int {
	line := regexp.MustCompile(`(?m)^time=\S+ level=\w+ msg="?` + message)
	return len(line.FindAllString(p.log.String(), -1))
}
