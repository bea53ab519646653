package main

import (
	"fmt"
	"strings"
)

const (
	chartWidth = 720
	barLeft    = 120
	barRoom    = chartWidth - barLeft - 70 // the rest is for the number after it
	rowHeight  = 26
)

// The two media rules let one file be read on a light page and on a dark one.
const chartHead = `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %[1]d %[2]d" role="img" aria-labelledby="title">
<title id="title">CPU time for each request, compared</title>
<style>
text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328 }
.head { font-weight: 600 }
.bar { fill: #afb8c1 }
.ours { fill: #0969da }
.one { stroke: #59636e; stroke-dasharray: 3 3; fill: none }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc }
.bar { fill: #4d5660 }
.ours { fill: #4493f8 }
.one { stroke: #9198a1 }
}
</style>
`

// chart draws the ratios at 32 connections as bars: SVG, made to stand in a README.
func (f figures) chart() string {
	var b strings.Builder
	y := 0
	for _, l := range f.workloads {
		if l.conns != 32 {
			continue
		}
		head := "One repeated token: CPU for each request, × bare net/http"
		if l.distinct {
			head = "Distinct tokens: CPU for each request, × floor (bare + one RSA verification + claims)"
		}
		fmt.Fprintf(&b, "<text class=\"head\" x=\"0\" y=\"%d\">%s</text>\n", y+18, head)
		y = f.bars(&b, l, y+30) + 18
	}
	return fmt.Sprintf(chartHead, chartWidth, y-18) + b.String() + "</svg>\n"
}

// bars draws one workload's bars from y down, and returns where they end.
func (f figures) bars(b *strings.Builder, l workload, y int) int {
	top, widest := y, 0.0
	value := map[string]float64{}
	for _, t := range f.targets {
		value[t.name] = median(ratios(f.results[l][t.name], f.results[l][l.base()]))
		widest = max(widest, value[t.name])
	}
	scale := barRoom / max(widest, 1)
	for _, t := range f.targets {
		name, class := t.name, "bar"
		if name == "server" {
			name, class = "this server", "ours"
		}
		width := value[t.name] * scale
		fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%s</text>", barLeft-10, y+17, name)
		fmt.Fprintf(b, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"%d\" rx=\"2\"/>",
			class, barLeft, y+4, width, rowHeight-8)
		fmt.Fprintf(b, "<text x=\"%.1f\" y=\"%d\">%.2f</text>\n", barLeft+width+8, y+17, value[t.name])
		y += rowHeight
	}
	fmt.Fprintf(b, "<path class=\"one\" d=\"M%.1f %dV%d\"/>\n", barLeft+scale, top, y)
	return y
}
