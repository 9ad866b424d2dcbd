package workload

import (
	"context"
	"fmt"
	"slices"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/proc"
)

// swapFiles refuses a subvolume with a file that the kernel swaps to: Btrfs takes
// no snapshot of it, which would be found in the window otherwise.
func (r *resolver) swapFiles(ctx context.Context, swaps []proc.Swap) error {
	for _, s := range swaps {
		if m, found := r.names.own.Above(s.Path); !s.File || !found || m.Type != fs.Btrfs {
			continue
		}
		place, err := r.locate(ctx, s.Path)
		if err != nil {
			continue // it is removed, or of another mount namespace
		}
		i := slices.IndexFunc(r.out.Places, func(p ResolvedPlace) bool { return sameDataset(p.Dataset, place.Dataset) })
		if i < 0 {
			continue
		}
		return advice.With(fmt.Errorf("the kernel swaps to %s in the subvolume %s, and Btrfs takes no snapshot of it meanwhile", s.Path, place.Dataset.Name),
			"move the swap file into a subvolume of its own, or switch it off: swapoff %q", s.Path)
	}
	return nil
}
