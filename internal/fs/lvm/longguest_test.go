//go:build guest && long

package lvm

import (
	"testing"

	"snapd/internal/fs/fstest"
)

// TestLongContractClassic is the contract on classic volumes, with XFS.
func TestLongContractClassic(t *testing.T) {
	vg := newGroup(t, 5<<30)
	fstest.Run(t, harness(t, vg, "", "xfs"))
}

// TestLongContractXFS is the contract on thin volumes, with XFS.
func TestLongContractXFS(t *testing.T) {
	vg := newGroup(t, 5<<30)
	newPool(t, vg, "po-ol", 4<<30)
	fstest.Run(t, harness(t, vg, "po-ol", "xfs"))
}

// TestLongSteps makes ten increments and restores every point by itself.
func TestLongSteps(t *testing.T) {
	for _, c := range []struct{ name, pool, kind string }{{"thin ext4", "pool", "ext4"}, {"thin xfs", "pool", "xfs"}, {"classic ext4", "", "ext4"}, {"classic xfs", "", "xfs"}} {
		t.Run(c.name, func(t *testing.T) {
			vg := newGroup(t, 4<<30)
			if c.pool != "" {
				newPool(t, vg, c.pool, 3<<30)
			}
			newDesk(t, vg, c.pool, c.kind, 320<<20).steps(10, 320<<20, true)
		})
	}
}

func TestLongKilled(t *testing.T) { testKilled(t, 20) }
