//go:build guest && long

package zfs

import "testing"

// TestContinueMatrix interrupts restores of streams of all modes, between every
// pair of records and inside them.
func TestContinueMatrix(t *testing.T) {
	for mode, options := range modes(t) {
		t.Run(mode, func(t *testing.T) {
			from, to := newPool(t, 512<<20), newPool(t, 512<<20)
			for _, s := range samples(t, from, mode, options) {
				if s.base == nil {
					goOnSample(t, to, []sample{s}, 20)
				}
			}
		})
	}
}
