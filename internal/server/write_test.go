package server

import (
	"net/http"
	"strings"
	"testing"
)

func TestPrefersJSON(t *testing.T) {
	for _, test := range []struct {
		accept string
		want   bool
	}{
		{"application/json", true},
		{"APPLICATION/JSON", true},
		{"application/json; charset=utf-8", true},
		{"application/json, */*;q=0.1", true},
		{"text/plain;q=0.2, application/json", true},
		{"text/*;q=0.1, application/*", true},
		{"application/*", true},
		{"application/json;q=0.001", true},
		{"application/json;Q=0.5,text/plain;Q=0.499", true},
		{"*/*, text/plain;q=0.9", true}, // json by */*
		{"*/*, text/*;q=0", true},       // no text
		{"text/html, application/json", true},
		{" \tapplication/json\t; q=1.000 , */* ; q=0", true},
		{`application/json;profile="\"";q=0.5, text/plain;q=0.4`, true},
		{"application/json, application/json;q=0.1, text/plain;q=0.5", true}, // the higher of two equal ones
		{",,application/json,", true},

		{"", false},
		{"*/*", false},
		{"application/json, text/plain, */*", false}, // axios, Angular
		{"application/json;q=0, text/plain", false},
		{"application/json;q=0", false},
		{"application/json;q=0.000, */*;q=0.1", false},
		{"text/plain, application/json;q=0.5", false},
		{"application/json;q=0.5, */*", false},
		{"application/json;q=0.9, text/*", false},
		{"application/*, text/*", false},
		{"application/*, text/plain;q=0.1, application/json;q=0.05", false},
		{"application/json, */*", false},
		{"text/plain", false},
		{"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", false},
		{"application/json5, application/jso, json, application/", false},
		{"application/problem+json", false},
		{"*", false},
		{";;q=x", false},
		{"application/json;q=x", false},
		{"application/json;q=", false},
		{"application/json;q=-1", false},
		{"application/json;q=1.1", false},
		{"application/json;q=NaN", false},
		{"application/json;q=0x1p0", false},
		{"application/json;q=1e0", false},
		{"application/json;q=0.1.1", false},
		{`"application/json`, false},
		{strings.Repeat(",", 4<<10), false},
		{strings.Repeat(" ", 512) + "application/json", false}, // too long
	} {
		if got := PrefersJSON(http.Header{"Accept": {test.accept}}); got != test.want {
			t.Errorf("PrefersJSON(%.100q) = %v, want %v", test.accept, got, test.want)
		}
	}
	for want, all := range map[bool][]http.Header{
		false: {nil, {}, {"Accept": nil}, {"Accept": {"application/json;q=0.5", "text/plain"}}},
		true:  {{"Accept": {"text/html", "application/json"}}, {"Accept": {"application/json", "text/plain;q=0.4"}}},
	} {
		for _, h := range all {
			if got := PrefersJSON(h); got != want {
				t.Errorf("PrefersJSON(%v) = %v, want %v", h, got, want)
			}
		}
	}
}

func TestPrefersJSONDoesNotAllocate(t *testing.T) {
	for _, h := range []http.Header{{}, {"Accept": {"*/*"}}} {
		if n := testing.AllocsPerRun(100, func() { PrefersJSON(h) }); n != 0 {
			t.Errorf("%v: %v allocations, want 0", h, n)
		}
	}
}

func FuzzPrefersJSON(f *testing.F) {
	for _, seed := range []string{"", "*/*", "application/json", "application/json;q=0.5, text/plain", `a;b="\",";q=x,;;`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, accept string) {
		json := PrefersJSON(http.Header{"Accept": {accept}})
		if json && !strings.Contains(accept, "*") && !strings.Contains(strings.ToLower(accept), "application/json") {
			t.Errorf("%q asks for no JSON, got it", accept)
		}
	})
}
