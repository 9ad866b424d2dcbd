package run

import (
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"snapd/internal/advice"
)

// Error says which program failed and how.
type Error struct {
	Argv   []string
	Code   int    // exit status; -1 when it did not exit by itself
	Stderr string // the last of what it wrote there, at most 16 KiB
	Err    error  // of the start or the wait, or the context's
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(commandLine(e.Argv))
	b.WriteString(": ")
	fmt.Fprintf(&b, "%v", e.Err)
	if text := strings.TrimSpace(e.Stderr); text != "" {
		b.WriteString(": ")
		b.WriteString(strings.ReplaceAll(text, "\n", "; "))
	}
	return b.String()
}

func (e *Error) Unwrap() error { return e.Err }

// commandLine quotes only what needs it, so that the line can be read and, as
// a rule, pasted.
func commandLine(argv []string) string {
	words := make([]string, len(argv))
	for i, arg := range argv {
		words[i] = arg
		if arg == "" || strings.ContainsFunc(arg, unplain) {
			words[i] = fmt.Sprintf("%q", arg)
		}
	}
	return strings.Join(words, " ")
}

func unplain(r rune) bool {
	return r <= ' ' || r > '~' || strings.ContainsRune("\"'\\$`&|;<>()*?[]#~{}!", r)
}

// lookPath is exec.LookPath that also knows where administrators' programs
// are: the PATH of a service or of cron often lacks them.
func lookPath(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	if !strings.Contains(name, "/") {
		for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return path, nil
			}
		}
	}
	if pkg := debianPackage(name); pkg != "" && errors.Is(err, exec.ErrNotFound) {
		return "", advice.With(exec.ErrNotFound, "install the package %s (apt install %[1]s)", pkg)
	}
	return "", err
}

// debianPackage says which package of Debian and Ubuntu brings a program.
func debianPackage(program string) string {
	switch program {
	case "btrfs", "mkfs.btrfs":
		return "btrfs-progs"
	case "zfs", "zpool":
		return "zfsutils-linux"
	case "lvs", "vgs", "pvs", "lvcreate", "lvremove", "lvchange", "lvconvert", "lvrename", "lvextend", "lvreduce", "lvmconfig", "vgcfgbackup":
		return "lvm2"
	case "dmsetup":
		return "dmsetup"
	case "thin_delta", "thin_dump":
		return "thin-provisioning-tools"
	case "mkfs.ext4":
		return "e2fsprogs"
	case "mkfs.xfs":
		return "xfsprogs"
	case "losetup", "mount", "umount":
		return "mount"
	case "systemctl", "systemd-run", "busctl":
		return "systemd"
	}
	return ""
}
