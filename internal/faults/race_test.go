//go:build race

package faults

// raceEnabled says that the tests run under the race detector, and so should the
// program. It costs memory and time, so figures of these are then not asserted.
const raceEnabled = true
