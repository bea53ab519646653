package faults

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
)

// checkLog holds the whole log against what no log may show or be.
func (s *server) checkLog() {
	s.t.Helper()
	file, err := os.Open(s.log)
	if err != nil {
		s.t.Error(err)
		return
	}
	defer file.Close()
	for _, token := range s.world.IMS.Issued() {
		s.world.remember(token)
	}
	secrets := s.world.secrets()
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	faults := 0
	for n := 1; lines.Scan() && faults < 10; n++ {
		if lines.Text() == "SIGQUIT: quit" {
			break // what follows was asked for, and is no log
		}
		if err := errors.Join(s.checkFormat(lines.Text()), s.world.leaks(lines.Text(), secrets)); err != nil {
			s.t.Errorf("log, line %d: %v: %q", n, err, lines.Text())
			faults++
		}
	}
	if err := lines.Err(); err != nil {
		s.t.Errorf("log: %v", err)
	}
}

// textLine is a line of slog's text handler: pairs, with values quoted where they
// have to be. JSON lines are held against encoding/json.
var textLine = regexp.MustCompile(`^time=\S+ level=(DEBUG|INFO|WARN|ERROR) msg=("(\\.|[^"\\])*"|[^\s"=]+)( [A-Za-z_]+=("(\\.|[^"\\])*"|[^\s"=]*))*$`)

// checkFormat says what is wrong with the form of a line. A terminal takes bytes
// outside printable ASCII for commands, or shows something else than is there.
func (s *server) checkFormat(line string) error {
	for _, b := range []byte(line) {
		if b < ' ' || b > '~' {
			return fmt.Errorf("want printable ASCII, got byte %#x", b)
		}
	}
	if !s.json {
		if !textLine.MatchString(line) {
			return errors.New("want a line of slog's text handler")
		}
		return nil
	}
	var fields struct{ Time, Level, Msg string }
	if err := json.Unmarshal([]byte(line), &fields); err != nil {
		return err
	}
	if fields.Time == "" || fields.Level == "" || fields.Msg == "" {
		return errors.New("want time, level and msg")
	}
	return nil
}

// run is a stretch of text that could be a token's.
var run = regexp.MustCompile(fmt.Sprintf(`[A-Za-z0-9_-]{%d,}`, head))

// leaks says what of the secrets is in a text that must not hold them.
func (w *world) leaks(text string, secrets map[string]string) error {
	for what, secret := range secrets {
		if strings.Contains(text, secret) {
			return fmt.Errorf("holds %s", what)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, found := range run.FindAllString(text, -1) {
		if strings.HasPrefix(found, "eyJ") || w.heads[found[:head]] {
			return errors.New("holds a token")
		}
	}
	return nil
}
