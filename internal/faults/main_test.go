package faults

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"itwin-token-server/internal/standin"
)

// together is how many tests run at once: they wait far more than they work.
func together() string {
	if raceEnabled {
		return "8"
	}
	return "16"
}

// binary is the program under test, once TestMain has built it.
var binary string

// first is where every test's stand-ins have their keys from: making keys takes long.
var first = sync.OnceValues(standin.New)

func TestMain(m *testing.M) {
	if runtime.GOOS == "windows" {
		fmt.Println("skipped: a child process cannot be sent SIGTERM here")
		return
	}
	flag.Parse()
	flag.Set("test.parallel", together())
	os.Exit(build(m))
}

func build(m *testing.M) int {
	dir, err := os.MkdirTemp("", "faults")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "itwin-token-server")
	args := []string{"build", "-o", binary}
	if raceEnabled {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "itwin-token-server")...).CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	return m.Run()
}
