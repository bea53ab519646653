package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// profile runs t, built with the probe in it, under the workload, and returns
// the objects it allocated for each request. Into folder it leaves cpu.pprof,
// allocs.pprof and mutex.pprof.
func (s sampler) profile(ctx context.Context, t target, l workload, folder string) (int64, error) {
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return 0, err
	}
	folder, err := filepath.Abs(folder)
	if err != nil {
		return 0, err
	}
	count := filepath.Join(folder, "count")
	if err := os.Remove(count); err != nil && !errors.Is(err, os.ErrNotExist) {
		return 0, err
	}
	p, err := start(ctx, t.with(t.name, "BENCH_PROBE="+folder), s.world.dir)
	if err != nil {
		return 0, err
	}
	defer p.stop()
	one, err := s.begin(p, t, l)
	if err != nil {
		return 0, err
	}
	defer one.pool.close()
	for _, work := range []func() error{p.signal, func() error { return one.send(s.requests) }, p.signal} {
		if err := work(); err != nil {
			return 0, err
		}
	}
	defer os.Remove(count)
	for deadline := time.Now().Add(startLimit); time.Now().Before(deadline); time.Sleep(settle) {
		if text, err := os.ReadFile(count); err == nil {
			objects, err := strconv.ParseInt(string(text), 10, 64)
			return (objects + int64(s.requests)/2) / int64(s.requests), err
		}
	}
	output, _ := os.ReadFile(p.log)
	return 0, fmt.Errorf("%s wrote no profiles; it said:\n%s", t.name, output)
}

// probed is the target with the probe built into a binary of its own.
func (w *world) probed(ctx context.Context, t target) (target, error) {
	probe, err := filepath.Abs("probe/probe.go")
	if err != nil {
		return t, err
	}
	folder, err := filepath.Abs(t.folder)
	if err != nil {
		return t, err
	}
	overlay, err := json.Marshal(map[string]any{
		"Replace": map[string]string{filepath.Join(folder, "probe_overlay.go"): probe},
	})
	if err != nil {
		return t, err
	}
	file := filepath.Join(w.dir, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return t, err
	}
	t.binary += "-probed"
	return t, t.build(ctx, "-overlay="+file, "-tags=benchprobe")
}

// allocations counts for each target and workload the objects allocated for a
// request, all the process's, net/http's own too. Of a target that is not built
// from a folder here there is no count.
func (s sampler) allocations(ctx context.Context, targets []target) (map[string]map[workload]int64, error) {
	all := map[string]map[workload]int64{}
	for _, t := range targets {
		if t.folder == "" {
			continue
		}
		probed, err := s.world.probed(ctx, t)
		if err != nil {
			return nil, err
		}
		all[t.name] = map[workload]int64{}
		for _, l := range []workload{{true, 32}, {false, 32}} {
			if all[t.name][l], err = s.profile(ctx, probed, l, filepath.Join(s.world.dir, "profile")); err != nil {
				return nil, err
			}
		}
	}
	return all, nil
}

// profiles leaves the server's profiles of both workloads in folder.
func (s sampler) profiles(ctx context.Context, server target, folder string) error {
	probed, err := s.world.probed(ctx, server)
	if err != nil {
		return err
	}
	for name, l := range map[string]workload{"distinct": {true, 64}, "repeated": {false, 64}} {
		into := filepath.Join(folder, name)
		objects, err := s.profile(ctx, probed, l, into)
		if err != nil {
			return err
		}
		fmt.Printf("%s: %d allocations for each request\n", l, objects)
		for _, kind := range []string{"cpu", "allocs", "mutex"} {
			fmt.Printf("  go tool pprof -top bench/%s\n", filepath.Join(into, kind+".pprof"))
		}
	}
	return nil
}
