package zfs

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"snapd/internal/fs"
)

// Keys of Properties that are no properties to be set, but what is worth
// knowing of a dataset.
const (
	keyType       = "type"
	keyReferenced = "referenced" // bytes on the source's disks
	keyEncryption = "encryption"
)

// Properties are what a person has set on datasets, by their guids, and a few
// facts about each. They go into the encrypted part of a restore point.
func (d *Driver) Properties(ctx context.Context, datasets []fs.Dataset) (map[string]map[string]string, error) {
	found, err := d.find(ctx, datasets...)
	if err != nil {
		return nil, fmt.Errorf("read properties: %w", err)
	}
	byPool := make(map[string][]string)
	guids := make(map[string]string)
	for _, o := range found {
		byPool[o.pool()] = append(byPool[o.pool()], o.name)
		guids[o.name] = guidText(o.guid)
	}
	out := make(map[string]map[string]string)
	for pool, names := range byPool {
		argv := append([]string{"zfs", "get", "-Hp", "-o", "name,property,source,value", "all"}, names...)
		text, err := output(ctx, pool, argv...)
		if err != nil {
			return nil, fmt.Errorf("read properties: %w", err)
		}
		if err := parseProperties(string(text), guids, out); err != nil {
			return nil, fmt.Errorf("read properties: %w", err)
		}
	}
	return out, nil
}

// parseProperties reads zfs get -Hp. A user's property may have tabs and line
// feeds: a line that does not begin with one of the names belongs to the
// value before it.
func parseProperties(text string, guids map[string]string, out map[string]map[string]string) error {
	var last map[string]string // of the property that may go on
	lastName := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		fields := strings.SplitN(line, "\t", 4)
		guid, known := guids[fields[0]]
		if len(fields) < 4 || !known {
			if lastName == "" && last == nil {
				return fmt.Errorf("zfs get printed %q, which has not 4 columns", line)
			}
			if lastName != "" {
				last[lastName] += "\n" + line
			}
			continue
		}
		if out[guid] == nil {
			out[guid] = make(map[string]string)
		}
		last, lastName = out[guid], ""
		name, source, value := fields[1], fields[2], fields[3]
		fact := name == keyType || name == keyReferenced || name == keyEncryption
		if fact || (source == "local" || source == "received") && restorable(name) {
			last[name], lastName = value, name
		}
	}
	return nil
}

// restorable tells whether a property is kept and set again: those that say
// how data is stored and limited, and a user's own. Never those that make a
// dataset appear somewhere or open: mountpoint, canmount, share*, key*, zoned.
func restorable(name string) bool {
	if strings.Contains(name, ":") {
		return !strings.HasPrefix(name, fs.PropertyPrefix)
	}
	return slices.Contains([]string{
		"aclinherit", "aclmode", "acltype", "atime", "checksum", "compression", "copies", "dedup", "devices", "direct",
		"dnodesize", "exec", "filesystem_limit", "logbias", "nbmand", "prefetch", "primarycache", "quota", "readonly",
		"recordsize", "redundant_metadata", "refquota", "refreservation", "relatime", "reservation",
		"secondarycache", "setuid", "snapdev", "snapdir", "snapshot_limit", "special_small_blocks", "sync", "vscan", "xattr",
	}, name)
}
