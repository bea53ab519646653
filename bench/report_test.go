package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// made is two rounds in which floor took twice bare's time, and the server 2.2 times.
func made() figures {
	f := figures{
		sampler: sampler{workloads: []workload{{true, 32}, {false, 32}}, requests: 15000},
		targets: []target{{name: "bare"}, {name: "floor"}, {name: "server"}},
		results: results{},
		rounds:  2,
	}
	for _, l := range f.workloads {
		f.results[l] = map[string][]sample{
			"bare":   {{cpu: 10 * time.Microsecond}, {cpu: 20 * time.Microsecond}},
			"floor":  {{cpu: 20 * time.Microsecond}, {cpu: 40 * time.Microsecond}},
			"server": {{cpu: 22 * time.Microsecond}, {cpu: 44 * time.Microsecond}},
		}
	}
	return f
}

func TestCellsAreRatiosWithinARound(t *testing.T) {
	f := made()
	for _, c := range []struct {
		l    workload
		name string
		want string
	}{
		{workload{true, 32}, "server", "1.10 (33 µs)"},
		{workload{true, 32}, "bare", "0.50 (15 µs)"},
		{workload{false, 32}, "server", "2.20 (33 µs)"},
		{workload{false, 32}, "bare", "1.00 (15 µs)"},
	} {
		if got := f.cell(c.l, c.name); got != c.want {
			t.Errorf("%s of %s = %q, want %q", c.l, c.name, got, c.want)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{7}, 7}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 9, 2}, 3}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median(%v) = %v, want %v", c.values, got, c.want)
		}
	}
}

func TestChartIsSmallXML(t *testing.T) {
	chart := made().chart()
	if len(chart) > 10_000 {
		t.Errorf("the chart has %d bytes, want at most 10000", len(chart))
	}
	for _, want := range []string{">this server<", ">1.10<", ">2.20<", "prefers-color-scheme: dark"} {
		if !strings.Contains(chart, want) {
			t.Errorf("the chart lacks %s", want)
		}
	}
	decoder := xml.NewDecoder(strings.NewReader(chart))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestReportReplacesWhatIsBetweenTheMarks(t *testing.T) {
	file := filepath.Join(t.TempDir(), "README.md")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("before\n" + readmeBegin + "old\n" + readmeEnd + "after\n")
	if err := intoREADME(file, "new\n"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := "before\n" + readmeBegin + "new\n" + readmeEnd + "after\n"; string(got) != want {
		t.Errorf("README = %q, want %q", got, want)
	}
	write("no marks\n")
	if err := intoREADME(file, "new\n"); err == nil {
		t.Error("a README without marks was taken for done")
	}
}
