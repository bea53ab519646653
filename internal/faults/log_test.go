package faults

import (
	"encoding/json"
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
		if err := errors.Join(p.checkFormat(line), p.leaks(line, secrets)); err != nil && wrong < 10 {
			p.t.Errorf("log: %v: %q", err, line)
			wrong++
		}
	}
}

// textLine is a line of slog's text handler: pairs, with quoted values where needed.
var textLine = regexp.MustCompile(`^time=\S+ level=(DEBUG|INFO|WARN|ERROR) msg=("(\\.|[^"\\])*"|[^\s"=]+)( [A-Za-z_]+=("(\\.|[^"\\])*"|[^\s"=]*))*$`)

// checkFormat checks the form of a line. A terminal takes bytes outside of printable
// ASCII as commands, or shows something else than is there.
func (p *process) checkFormat(line string) error {
	for _, b := range []byte(line) {
		if b < ' ' || b > '~' {
			return fmt.Errorf("got byte %#x, want printable ASCII", b)
		}
	}
	var fields struct{ Time, Level, Msg string }
	switch {
	case !p.json && !textLine.MatchString(line):
		return errors.New("want a line of slog's text handler")
	case p.json && (json.Unmarshal([]byte(line), &fields) != nil || fields.Time == "" || fields.Level == "" || fields.Msg == ""):
		return errors.New("want a JSON object with time, level and msg")
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

// logLines counts the lines with the message, in either format.
func (p *process) logLines(message string) int {
	n := 0
	for line := range strings.Lines(p.log.String()) {
		// Nothing of a caller comes before the message.
		_, rest, _ := strings.Cut(line, "msg")
		if strings.HasPrefix(rest, "="+message) || strings.HasPrefix(rest, `="`+message) || strings.HasPrefix(rest, `":"`+message) {
			n++
		}
	}
	return n
}
