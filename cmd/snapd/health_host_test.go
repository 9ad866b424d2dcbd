//go:build host

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// damagedMark is what damageOnDisk looks for.
const damagedMark = "a block that the disk will damage "

// damageOnDisk writes into what begins with the mark in the file that a filesystem lies in,
// reading only what is not empty of it.
func damageOnDisk(t *testing.T, image string) {
	t.Helper()
	f, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for at := int64(0); ; {
		begin, err := unix.Seek(int(f.Fd()), at, unix.SEEK_DATA)
		if err != nil {
			t.Fatalf("the mark is not on the disk: %v", err)
		}
		end, err := unix.Seek(int(f.Fd()), begin, unix.SEEK_HOLE)
		if err != nil {
			t.Fatal(err)
		}
		piece := make([]byte, end-begin)
		if _, err := f.ReadAt(piece, begin); err != nil {
			t.Fatal(err)
		}
		if i := bytes.Index(piece, []byte(damagedMark)); i >= 0 {
			if _, err := f.WriteAt([]byte("XXXX"), begin+int64(i)); err != nil {
				t.Fatal(err)
			}
			return
		}
		at = end
	}
}

// TestDamagedFile: one bad block fails the ship of the points that have it, by the name
// of the file, and no other; status and doctor tell what the storage has counted.
func TestDamagedFile(t *testing.T) {
	h := newHost(t, "")
	data := h.subvolume("da ta")
	h.configure("[group.shop]\npaths = [\"" + data + "\"]")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(data, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first", strings.Repeat("sound ", 100_000))
	h.must("run", "shop")
	if out := h.must("status"); strings.Contains(out, "ATTENTION:") {
		t.Errorf("on a sound host: %s", out)
	}
	write("the file", strings.Repeat(damagedMark, 100_000))
	h.must("snapshot", "shop")
	command(t, "sync", "-f", data)
	damageOnDisk(t, h.path("storage.img"))
	name := filepath.Join(data, "the file")
	h.refused(1, []string{"ship", "shop"}, name+" in snapshot ", "cannot be read at byte 0", "drop those that have it damaged")
	out := h.must("status")
	for _, says := range []string{"the last ship failed", name, "ATTENTION: Btrfs at " + h.btrfs, "of checksums", "(of group shop)"} {
		if !strings.Contains(out, says) {
			t.Errorf("status does not say %q", says)
		}
	}
	if out, _, _ := h.snapd("doctor"); !strings.Contains(out, "WARN  storage") || !strings.Contains(out, "btrfs scrub start -B") {
		t.Error("doctor does not tell")
	}
	damaged := h.points("list", "shop")[1]
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	write("third", "sound again")
	h.refused(3, []string{"run", "shop"}, name)
	points := h.points("list", "shop")
	if n := len(points); n != 3 || !points[2].InRepository("main") || points[1].InRepository("main") {
		t.Errorf("the point without the damage is not shipped: %+v", points)
	}
	h.must("drop", string(damaged.ID))
	h.must("run", "shop")
}
