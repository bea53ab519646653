//go:build benchprobe

// Laid over a server's main package, in a binary made for it and thrown away
// (go build -overlay): neither the server that is released nor the one that is
// timed holds any of this.
//
// The first SIGUSR1 begins a CPU profile; the second ends it, and writes that
// profile, those of allocations and of contended locks, and a count of objects
// allocated in between.
package main

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"syscall"
)

func init() {
	dir := os.Getenv("BENCH_PROBE")
	if dir == "" {
		return
	}
	runtime.MemProfileRate = 16 << 10
	runtime.SetMutexProfileFraction(1)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGUSR1)
	go func() {
		if err := probe(dir, signals); err != nil {
			fmt.Fprintln(os.Stderr, "probe:", err)
		}
	}()
}

func probe(dir string, signals <-chan os.Signal) error {
	<-signals
	cpu, err := os.Create(filepath.Join(dir, "cpu.pprof"))
	if err != nil {
		return err
	}
	defer cpu.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := pprof.StartCPUProfile(cpu); err != nil {
		return err
	}
	<-signals
	pprof.StopCPUProfile()
	runtime.ReadMemStats(&after)
	runtime.GC() // so that the profile of allocations holds the last ones too
	for _, name := range []string{"allocs", "mutex"} {
		f, err := os.Create(filepath.Join(dir, name+".pprof"))
		if err != nil {
			return err
		}
		if err := pprof.Lookup(name).WriteTo(f, 0); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	count := fmt.Sprint(after.Mallocs - before.Mallocs)
	// Written under another name first: once "count" exists, all is written.
	if err := os.WriteFile(filepath.Join(dir, "count.part"), []byte(count), 0o600); err != nil {
		return err
	}
	return os.Rename(filepath.Join(dir, "count.part"), filepath.Join(dir, "count"))
}
