package faults

import (
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
)

// program is the file of the program under test, once build has built it.
var program string

func TestMain(m *testing.M) {
	if runtime.GOOS == "windows" {
		fmt.Println("skipped: a child process cannot be sent SIGTERM here")
		return
	}
	flag.Set("test.parallel", "12") // tests mostly wait
	dir, err := os.MkdirTemp("", "faults")
	if err != nil {
		log.Fatal(err)
	}
	program = filepath.Join(dir, "itwin-token-server")
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// build builds the program, once. Tests call it, not TestMain: go test notes which
// files are opened only while tests run.
var build = sync.OnceValue(func() error {
	if err := openSources(); err != nil {
		return err
	}
	args := []string{"build", "-o", program}
	if raceEnabled() {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "itwin-token-server")...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("go build: %w\n%s", err, out)
	}
	return nil
})

// openSources opens the folders that hold the program's packages. When a file in one
// of them has changed, go test then runs the tests again. Otherwise it would print the
// cached result of an older program, since no package of these tests has changed.
func openSources() error {
	const folders = "{{with .Module}}{{if .Main}}{{$.Dir}}{{end}}{{end}}"
	out, err := exec.Command("go", "list", "-deps", "-f", folders, "itwin-token-server").Output()
	if err != nil {
		return fmt.Errorf("go list: %w", err)
	}
	for dir := range strings.SplitSeq(strings.TrimSpace(string(out)), "\n") {
		if _, err := os.ReadDir(dir); err != nil {
			return err
		}
	}
	return nil
}

// raceEnabled reports whether the tests, and so the program too, run under the race
// detector. It takes memory, so bounds on that are not checked then.
func raceEnabled() bool {
	info, _ := debug.ReadBuildInfo()
	return slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}
