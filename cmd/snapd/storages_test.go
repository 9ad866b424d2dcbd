package main

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"snapd/internal/advice"
)

// What a drop-in leaves out is asked for nothing, and a user who asks for it is told
// why.
func TestChosenDrivers(t *testing.T) {
	all := slices.Sorted(maps.Keys((&where{state: t.TempDir()}).drivers()))
	for _, name := range []string{"btrfs", "lvm", "zfs"} {
		if !slices.Contains(all, name) {
			t.Errorf("there is no driver of %s", name)
		}
	}
	for _, c := range []struct {
		variable string
		want     []string
	}{
		{"", all},
		{" ", all},
		{"zfs", []string{"zfs"}},
		{"lvm  btrfs", []string{"btrfs", "lvm"}},
		{"zsf", nil},
		{"zfs,lvm", nil},
	} {
		t.Setenv(storagesVariable, c.variable)
		w := &where{state: t.TempDir(), runDir: t.TempDir()}
		chosen, leftOut, err := w.chosenDrivers()
		if c.want == nil {
			if !errors.Is(err, advice.Usage) || !strings.Contains(advice.Of(err), "there are: "+strings.Join(all, ", ")) {
				t.Errorf("%q: %v", c.variable, err)
			}
			continue
		}
		if got := slices.Sorted(maps.Keys(chosen)); err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%q: got %q, %v", c.variable, got, err)
		}
		if narrowed := len(c.want) < len(all); narrowed != (leftOut != "") || narrowed && !strings.Contains(leftOut, c.variable) {
			t.Errorf("%q: it says %q", c.variable, leftOut)
		}
	}
	t.Setenv(storagesVariable, "zfs")
	chosen, _, err := (&where{storages: "lvm"}).chosenDrivers() // doctor's word, for the agent's
	if len(chosen) != 1 || chosen["lvm"] == nil || err != nil {
		t.Errorf("got %v, %v", chosen, err)
	}
}
