package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/fs/btrfs"
	"snapd/internal/fs/btrfs/btrfsstream"
	"snapd/internal/fs/lvm"
	"snapd/internal/fs/lvm/lvmstream"
	"snapd/internal/fs/zfs"
	"snapd/internal/fs/zfs/zfsstream"

	systemd "snapd/internal/host"

	storage "snapd/internal/fs"
)

// storagesVariable names the storages that are used, where that is not all of
// them. The drop-ins for hosts with one kind of storage set it, because their
// sandbox shuts the others out: a program that asked these would only warn that
// they do not answer.
const storagesVariable = "SNAPD_STORAGES"

// drivers are those of all storages.
func (w *where) drivers() map[string]storage.Driver {
	if w.stand != nil {
		return w.stand
	}
	return map[string]storage.Driver{
		storage.Btrfs: btrfs.New(),
		storage.ZFS:   zfs.New(),
		storage.LVM:   lvm.New(w.state),
	}
}

// checkStream walks a stream by its format. A format stays here as long as
// streams of it may lie in a repository.
func checkStream(format string, r io.Reader) error {
	if strings.HasPrefix(format, "btrfs-") {
		_, err := btrfsstream.Check(r)
		return err
	}
	if zfsstream.OwnFormat(format) {
		return zfsstream.CheckFormat(format, r)
	}
	if format == lvmstream.Format {
		_, err := lvmstream.Check(r)
		return err
	}
	return advice.With(fmt.Errorf("this version of snapd cannot read streams of the format %q", format), "update snapd on this host")
}

// chosenDrivers are those that the environment leaves, and leftOut says to
// people what was done to the others, "" when there are none.
func (w *where) chosenDrivers() (chosen map[string]storage.Driver, leftOut string, err error) {
	all := w.drivers()
	text := cmp.Or(w.storages, os.Getenv(storagesVariable))
	words := strings.Fields(text)
	if len(words) == 0 {
		return all, "", nil
	}
	chosen = map[string]storage.Driver{}
	for _, word := range words {
		driver, known := all[word]
		if !known {
			return nil, "", advice.With(advice.Usagef("%s=%s: there is no storage %q", storagesVariable, text, word),
				"name some of those that there are: %s", strings.Join(slices.Sorted(maps.Keys(all)), ", "))
		}
		chosen[word] = driver
	}
	return chosen, fmt.Sprintf("only %s is used here, by %s=%s in a drop-in of %s", strings.Join(slices.Sorted(maps.Keys(chosen)), " and "), storagesVariable, text, systemd.AgentService), nil
}

// agentStorages is what the agent's unit says of storages, "" when it says
// nothing or there is none: doctor looks at groups as the agent will.
func agentStorages(ctx context.Context) string {
	u, err := systemd.OpenUnits(ctx)
	if err != nil {
		return ""
	}
	defer u.Close()
	return u.Environment(ctx, systemd.AgentService, storagesVariable)
}
