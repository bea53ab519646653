package settings

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// inQuotes is a value with the quotes that belong around it in a file.
var inQuotes = regexp.MustCompile(`^(".*"|'.*')$`)

// warn adds warnings about values that are probably not what is meant.
func (f *Findings) warn() {
	for _, s := range f.Settings {
		if inQuotes.MatchString(s.value) {
			f.Warnings = append(f.Warnings, s.Name+" begins and ends with a quote, which is a part "+
				"of the value (docker run --env-file keeps quotes): remove them")
		}
		if s.Secret && s.Source == ".env" {
			f.Warnings = append(f.Warnings, s.Name+" is in .env, which git tracks: "+
				"move it to .env.local")
		}
		if s.placeholder != "" && !s.Secret && !s.required() {
			f.Warnings = append(f.Warnings, s.Name+s.placeholder)
		}
	}
}

// warnOfMisspeltNames adds a warning about each variable that begins with prefix and is
// not a setting. Where the = was forgotten, the value is a part of the name.
func (f *Findings) warnOfMisspeltNames(sources []source, prefix string) {
	for _, from := range sources {
		for _, name := range slices.Sorted(maps.Keys(from.values)) {
			known := slices.ContainsFunc(f.Settings, func(s Setting) bool { return s.Name == name })
			if known || !strings.HasPrefix(name, prefix) {
				continue
			}
			nearest := slices.MaxFunc(f.Settings, func(a, b Setting) int {
				return similarity(name, a.Name) - similarity(name, b.Name)
			})
			f.Warnings = append(f.Warnings, fmt.Sprintf("%s %s is not a setting; did you mean %s?",
				f.show(name), from.where, nearest.Name))
		}
	}
}

// similarity is the length of the beginning and of the end that two names share.
func similarity(name, known string) int {
	beginning, end := 0, 0
	for i := range len(known) + 1 {
		if strings.HasPrefix(name, known[:i]) {
			beginning = i
		}
		if strings.HasSuffix(name, known[len(known)-i:]) {
			end = i
		}
	}
	return min(beginning+end, len(name))
}
