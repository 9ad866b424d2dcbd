//go:build guest && long

package zfs

import "testing"

// TestResumeMatrix cuts streams of all modes, between every pair of records
// and inside them.
func TestResumeMatrix(t *testing.T) { continueSamples(t, 36) }
