package btrfs

import "testing"

// An item of a kernel before 3.6 is shorter and has no parent; only both, the flag
// and the parent, make a read-only snapshot.
func TestReadOnlySnapshot(t *testing.T) {
	item := func(flags, parent byte) []byte {
		out := make([]byte, 439)
		out[rootItemFlags], out[rootItemParent+15] = flags, parent
		return out
	}
	for name, c := range map[string]struct {
		item []byte
		want bool
	}{
		"a read-only snapshot":   {item(rootReadOnly, 1), true},
		"a writable snapshot":    {item(0, 1), false},
		"a read-only subvolume":  {item(rootReadOnly, 0), false},
		"an item of long ago":    {item(rootReadOnly, 1)[:239], false},
		"an item of no length":   {nil, false},
		"with another flag, too": {item(rootReadOnly|1<<7, 1), true},
	} {
		if got := readOnlySnapshot(c.item); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
