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

// warn adds warnings about a value that is probably not what is meant.
func (f *Findings) warn(s *Setting) {
	if inQuotes.MatchString(s.value) {
		f.Warnings = append(f.Warnings, s.Name+" begins and ends with a quote, which is a part "+
			"of the value (docker run --env-file keeps quotes): remove them")
	}
	if s.Secret && s.Source == ".env" {
		f.Warnings = append(f.Warnings, s.Name+" is in .env, which git tracks: "+
			"move it to .env.local")
	}
}

// warnOfMisspeltNames adds a warning about each variable that begins with prefix and is
// not a setting. Where the = was forgotten, the value is a part of the name.
func (f *Findings) warnOfMisspeltNames(sources []source, prefix string, known secrets) {
	for _, from := range sources {
		for _, name := range slices.Sorted(maps.Keys(from.values)) {
			named := func(s *Setting) bool { return s.Name == name }
			if !strings.HasPrefix(name, prefix) || slices.ContainsFunc(f.Settings, named) {
				continue
			}
			nearest := slices.MaxFunc(f.Settings, func(a, b *Setting) int {
				return similarity(name, a.Name) - similarity(name, b.Name)
			})
			f.Warnings = append(f.Warnings, fmt.Sprintf("%s (%s) is not a setting; did you mean %s?",
				known.show(name, false), from.name, nearest.Name))
		}
	}
}

// similarity is how many pairs of adjacent characters of name the known name has too.
func similarity(name, known string) (pairs int) {
	for i := range len(name) - 1 {
		if strings.Contains(known, name[i:i+2]) {
			pairs++
		}
	}
	return pairs
}
