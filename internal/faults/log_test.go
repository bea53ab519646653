package faults

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
)

// checkLog checks each line of the log.
func (p *process) checkLog() {
	p.t.Helper()
	for _, token := range p.IMS.Issued() {
		p.record(token)
	}
	secrets := p.secrets()
	wrong := 0
	for line := range strings.Lines(p.log.String()) {
		line = strings.TrimSuffix(line, "\n")
		if line == "SIGQUIT: quit" {
			return // what follows was requested by the test
		}
		if err := errors.Join(checkFormat(line), p.leaks(line, secrets)); err != nil && wrong < 10 {
			p.t.Errorf("log: %v: %q", err, line)
			wrong++
		}
	}
}

// textLine is a line of slog's text handler: pairs, with quoted values where needed.
var textLine = regexp.MustCompile(`^time=\S+ level=(DEBUG|INFO|WARN|ERROR) msg=("(\\.|[^"\\])*"|[^\s"=]+)( [A-Za-z_]+=("(\\.|[^"\\])*"|[^\s"=]*))*$`)

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

// maybeToken is text that could be of a token.
var maybeToken = regexp.MustCompile(fmt.Sprintf(`[A-Za-z0-9_-]{%d,}`, prefixLength))

// leaks returns an error if the text holds a secret or a token.
func (f *fixture) leaks(text string, secrets map[string]string) error {
	for what, secret := range secrets {
		if strings.Contains(text, secret) {
			return fmt.Errorf("holds %s", what)
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, found := range maybeToken.FindAllString(text, -1) {
		if strings.HasPrefix(found, "eyJ") || f.prefixes[found[:prefixLength]] {
			return errors.New("holds a token")
		}
	}
	return nil
}

// logLines counts the lines whose message begins so.
func (p *process) logLines(message string) int {
	line := regexp.MustCompile(`(?m)^time=\S+ level=\w+ msg="?` + message)
	return len(line.FindAllString(p.log.String(), -1))
}
