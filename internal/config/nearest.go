package config

import (
	"slices"

	"snapd/internal/advice"

	"github.com/agext/levenshtein"
)

// Nearest returns the known word that a user who wrote word probably meant, or
// "" when none is near.
func Nearest(word string, known []string) string {
	best, distance := "", 3+len(word)/4 // at most this many letters apart
	for _, k := range slices.Sorted(slices.Values(known)) {
		if d := levenshtein.Distance(word, k, nil); d < distance && d < len(k) {
			best, distance = k, d
		}
	}
	return best
}

// meant adds to an error about word which of the known words was probably meant.
func meant(err error, word string, known []string) error {
	if n := Nearest(word, known); n != "" {
		return advice.With(err, "write %q, if that is meant", n)
	}
	return err
}
