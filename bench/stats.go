package main

import "slices"

// median is the middle value, or the mean of the two in the middle; 0 of none.
func median[T ~int64 | ~float64](values []T) T {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

// over is the median of one figure over the samples.
func over[T ~int64 | ~float64](samples []sample, figure func(sample) T) T {
	values := make([]T, len(samples))
	for i, s := range samples {
		values[i] = figure(s)
	}
	return median(values)
}

// ratios are a target's CPU time for a request over that of the base, in each
// round: both were measured within seconds of each other.
func ratios(target, base []sample) []float64 {
	r := make([]float64, min(len(target), len(base)))
	for i := range r {
		r[i] = float64(target[i].cpu) / float64(base[i].cpu)
	}
	return r
}
