//go:build guest && long

package main

import "testing"

func TestZFSKilledOften(t *testing.T) { killOften(t, 12, 8) }
