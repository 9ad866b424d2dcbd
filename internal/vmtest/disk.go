package vmtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Disk is a disk inside the guest that can be taken away and given back.
type Disk struct {
	Device string
	t      testing.TB
	name   string
	length int64 // in sectors
	loop   string
}

// NewDisk makes one of so many bytes. It goes when the test ends, after what
// the test cleans up itself.
func NewDisk(t testing.TB, name string, size int64) *Disk {
	t.Helper()
	Inside(t)
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	d := &Disk{Device: "/dev/mapper/" + name, t: t, name: name, length: size / 512}
	d.loop = d.run("losetup", "--find", "--show", file)
	d.run("dmsetup", "create", name, "--table", d.linear())
	t.Cleanup(func() {
		d.run("dmsetup", "remove", "--retry", name)
		d.run("losetup", "--detach", d.loop)
	})
	return d
}

// Fail makes every read and write fail from now on.
func (d *Disk) Fail() { d.load(fmt.Sprintf("0 %d error", d.length)) }

// Repair gives it back as it was.
func (d *Disk) Repair() { d.load(d.linear()) }

func (d *Disk) linear() string { return fmt.Sprintf("0 %d linear %s 0", d.length, d.loop) }

func (d *Disk) load(table string) {
	d.t.Helper()
	d.run("dmsetup", "suspend", "--nolockfs", "--noflush", d.name)
	d.run("dmsetup", "load", d.name, "--table", table)
	d.run("dmsetup", "resume", d.name)
}

func (d *Disk) run(argv ...string) string {
	d.t.Helper()
	out, err := exec.CommandContext(context.WithoutCancel(d.t.Context()), argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		d.t.Fatalf("%q: %v: %s", argv, err, out)
	}
	return strings.TrimSpace(string(out))
}

// Fill writes into a new file until there is no room.
func Fill(t testing.TB, file string) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		if _, err = f.Write(make([]byte, 1<<20)); err == nil {
			err = f.Sync()
		}
	}
	if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, unix.EDQUOT) {
		t.Fatal(err)
	}
}
