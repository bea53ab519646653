package problem

import (
	"regexp"
	"slices"
	"testing"
)

// The status says the same as the code: apps act on either.
func TestTable(t *testing.T) {
	statuses := map[string][]int{
		MissingToken:              {401},
		"invalid_request":         {400},
		"invalid_token":           {401},
		"insufficient_scope":      {403},
		"temporarily_unavailable": {502, 503, 504},
		"method_not_allowed":      {405},
		"not_found":               {404},
	}
	// RFC 6750 §3 allows these characters in an error_description.
	description := regexp.MustCompile(`^[ !#-\[\]-~]+$`)
	seen := map[string]bool{}
	for _, p := range All() {
		if !slices.Contains(statuses[p.Code], p.Status) {
			t.Errorf("%s: status %d with the code %s", p.Reason, p.Status, p.Code)
		}
		if !description.MatchString(p.Text) {
			t.Errorf("%s: %q cannot be sent as error_description", p.Reason, p.Text)
		}
		if seen[p.Reason] {
			t.Errorf("two problems have the reason %s", p.Reason)
		}
		seen[p.Reason] = true
	}
}
