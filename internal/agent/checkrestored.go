package agent

import (
	"context"
	"errors"
	"fmt"

	"snapd/internal/advice"
	"snapd/internal/fs"
)

// What came of a check.
const (
	checkedSound   = "sound"
	checkedDamaged = "damaged"
	checkedUnknown = "unknown" // nothing that can be checked is on it
)

// canCheck refuses before anything is restored what could not be done after it.
func canCheck(driver fs.Driver, name string) error {
	if _, ok := driver.(fs.Checker); !ok {
		return advice.In(NoCheck, advice.Usagef("only the filesystems on logical volumes are checked: %s has checksums of its own", name))
	}
	return nil
}

// checkAll checks what was restored. What is damaged stays where it is: it is
// what the point has.
func (a *Agent) checkAll(ctx context.Context, driver fs.Driver, restored []Restored) error {
	var faults []error
	for i := range restored {
		r := &restored[i]
		a.step("", "checking the filesystem on %s", r.Target)
		_, err := driver.(fs.Checker).CheckFilesystem(ctx, r.made)
		switch {
		case err == nil:
			r.Checked = checkedSound
		case errors.Is(err, fs.ErrDamaged):
			r.Checked = checkedDamaged
			faults = append(faults, advice.In(advice.Damaged, err))
		case errors.Is(err, fs.ErrNotMine):
			r.Checked = checkedUnknown
			a.warnOfError("", err)
		default:
			faults = append(faults, advice.In(advice.Partial, fmt.Errorf("%s is restored, and not checked: %w", r.Target, err)))
		}
	}
	return errors.Join(faults...)
}
