package lvm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/fs"
)

// suspendPatience is how long a device may be suspended before it is taken for
// one that a killed command has left so. LVM suspends for milliseconds.
const suspendPatience = 2 * time.Second

// stuck is a suspended device of LVM.
type stuck struct {
	name   string // of device-mapper
	volume string // UUID of the logical volume, without dashes; a layer's is that of its volume
}

// Unsuspend resumes what a killed command of LVM has left suspended in the
// groups of these datasets, and says what that was: programs that write there
// would wait for ever. Volumes are refreshed by LVM itself, which waits for a
// command that is at work, and knows which of two tables is the right one.
func (d *Driver) Unsuspend(ctx context.Context, datasets []fs.Dataset) ([]string, error) {
	groups := map[string]bool{}
	for _, s := range datasets {
		if group := groupOf(s); group != "" {
			groups[group] = true
		}
	}
	if len(groups) == 0 {
		return nil, nil
	}
	left, err := suspended("/sys", groups)
	for end := time.Now().Add(suspendPatience); len(left) > 0 && err == nil && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
		left, err = suspended("/sys", groups)
	}
	if len(left) == 0 || err != nil {
		return nil, err
	}
	return d.refresh(ctx, left, groups)
}

func (d *Driver) refresh(ctx context.Context, left []stuck, groups map[string]bool) (resumed []string, err error) {
	ctx = context.WithoutCancel(ctx)
	var faults []error
	var tried []string
	for _, s := range left {
		if !slices.Contains(tried, s.volume) {
			tried = append(tried, s.volume)
			faults = append(faults, d.change(ctx, "lvchange", "-q", "--refresh", "--select", "lv_uuid="+dashed(s.volume)))
		}
	}
	still, err := suspended("/sys", groups)
	for _, s := range left {
		if err == nil && !slices.Contains(still, s) {
			resumed = append(resumed, "logical volume "+s.name+", which a killed command of LVM had left suspended")
		}
	}
	for _, s := range still {
		faults = append(faults, advice.With(fmt.Errorf("%s is suspended, so that programs that write there wait", s.name), "run: lvchange --refresh %[1]s, or dmsetup resume %[1]s", s.name))
	}
	if len(still) == 0 {
		faults = nil // LVM complained, and yet nothing is suspended any more
	}
	return resumed, errors.Join(append(faults, err)...)
}

// groupOf is the UUID of a dataset's volume group, without dashes: see domain.
func groupOf(s fs.Dataset) string {
	rest, ours := strings.CutPrefix(s.Domain, fs.LVM+":")
	group, _, both := strings.Cut(rest, "/")
	if !ours || !both {
		return ""
	}
	return strings.ReplaceAll(group, "-", "")
}

// suspended lists the devices of these groups that are suspended just now. LVM
// is not asked: it would wait for the command that has suspended them.
func suspended(sys string, groups map[string]bool) ([]stuck, error) {
	dirs, err := filepath.Glob(filepath.Join(sys, "block", "dm-*", "dm"))
	if err != nil {
		return nil, err
	}
	var out []stuck
	for _, dir := range dirs {
		state, err := os.ReadFile(filepath.Join(dir, "suspended"))
		if errors.Is(err, os.ErrNotExist) || err == nil && strings.TrimSpace(string(state)) != "1" {
			continue // it may have gone meanwhile
		}
		uuid, uuidErr := os.ReadFile(filepath.Join(dir, "uuid"))
		name, nameErr := os.ReadFile(filepath.Join(dir, "name"))
		if err := errors.Join(err, uuidErr, nameErr); err != nil {
			return out, fmt.Errorf("look for suspended devices: %w", err)
		}
		if group, volume, ok := parseUUID(strings.TrimSpace(string(uuid))); ok && groups[group] {
			out = append(out, stuck{name: strings.TrimSpace(string(name)), volume: volume})
		}
	}
	return out, nil
}

// parseUUID takes apart what LVM calls a device of its own: LVM-, group, volume,
// and perhaps a layer.
func parseUUID(uuid string) (group, volume string, ok bool) {
	const length = 32 // of a UUID without dashes
	rest, ok := strings.CutPrefix(uuid, "LVM-")
	if !ok || len(rest) < 2*length {
		return "", "", false
	}
	return rest[:length], rest[length : 2*length], true
}
