package doctor

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"snapd/internal/fs"
)

// storagesHere tells which storages this host has, by what the kernel says: the
// mount table, its modules, and the names of device-mapper's devices. A
// storage that is not used here needs no programs.
func storagesHere(mountinfo []byte, sys string) (here map[string]bool, thin bool) {
	here = map[string]bool{fs.Btrfs: bytes.Contains(mountinfo, []byte(" - btrfs "))}
	if _, err := os.Stat(filepath.Join(sys, "module/zfs")); err == nil {
		here[fs.ZFS] = true
	}
	names, _ := filepath.Glob(filepath.Join(sys, "block/dm-*/dm/uuid")) // the pattern is right
	for _, name := range names {
		uuid, err := os.ReadFile(name)
		if err != nil || !bytes.HasPrefix(uuid, []byte("LVM-")) {
			continue
		}
		here[fs.LVM] = true
		thin = thin || strings.HasSuffix(strings.TrimSpace(string(uuid)), "-tpool")
	}
	return here, thin
}

// programs looks for those of the storages that are used here.
func (d doctor) programs() []Check {
	mountinfo, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return []Check{ill("storage", err)}
	}
	here, thin := storagesHere(mountinfo, "/sys")
	var out []Check
	for _, p := range []struct {
		storage, program, debianPackage, purpose string
		wanted                                   bool
	}{
		{fs.Btrfs, "btrfs", "btrfs-progs", "restores on Btrfs", true},
		{fs.ZFS, "zfs", "zfsutils-linux", "snapshots and restores on ZFS", true},
		{fs.LVM, "lvs", "lvm2", "snapshots and restores on LVM", true},
		{fs.LVM, "thin_delta", "thin-provisioning-tools", "increments on thin pools of LVM", thin},
	} {
		if _, used := d.Agent.Drivers[p.storage]; used && here[p.storage] && p.wanted {
			out = append(out, checkProgram(p.program, p.debianPackage, p.purpose))
		}
	}
	return out
}

func checkProgram(program, debianPackage, purpose string) Check {
	if _, err := exec.LookPath(program); err != nil {
		return Check{Check: program, Why: "it is not installed; " + purpose + " need it", Do: "run: apt-get install " + debianPackage}
	}
	return well(program, "is installed")
}
