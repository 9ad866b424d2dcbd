//go:build guest

package lvm

import "testing"

// TestCheckOfAClassicVolume: there is no pool to be asked for room. The long test
// checks what the check finds.
func TestCheckOfAClassicVolume(t *testing.T) {
	vg := newGroup(t, 1<<30)
	k := newDesk(t, vg, "", "ext4", 64<<20)
	k.write("a", 1<<20)
	unmount(t, k.dir)
	if said, err := k.driver.CheckFilesystem(t.Context(), k.dataset); err != nil {
		t.Errorf("a sound one: %v: %s", err, said)
	}
}
