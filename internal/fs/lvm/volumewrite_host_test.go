//go:build host

package lvm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"snapd/internal/fs/lvm/lvmstream"

	"golang.org/x/sys/unix"
)

// loopDevice gives a block device of size bytes that is full of garbage, as a new
// classic volume does.
func loopDevice(t *testing.T, size int64) *os.File {
	t.Helper()
	file := t.TempDir() + "/disk"
	if err := os.WriteFile(file, filled(int(size), 0xee), 0o600); err != nil {
		t.Fatal(err)
	}
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	for deadline := time.Now().Add(20 * time.Second); ; { // others may take the free one
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Fatal(err)
		}
		node := fmt.Sprintf("/dev/loop%d", number)
		if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(unix.Mkdev(7, uint32(number)))); err != nil && !errors.Is(err, unix.EEXIST) {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), "losetup", node, file).CombinedOutput()
		if err == nil {
			t.Cleanup(func() {
				if out, err := exec.Command("losetup", "-d", node).CombinedOutput(); err != nil {
					t.Errorf("%v: %s", err, out)
				}
			})
			f, err := os.OpenFile(node, os.O_RDWR|unix.O_DIRECT, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			return f
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v: %s", err, strings.TrimSpace(string(out)))
		}
	}
}

func readAll(t *testing.T, w *work, size int64) []byte {
	t.Helper()
	out := make([]byte, 0, size)
	for at := int64(0); at < size; at += lvmstream.DataMax {
		piece := w.second()[:min(lvmstream.DataMax, size-at)]
		if _, err := w.device.ReadAt(piece, at); err != nil {
			t.Fatal(err)
		}
		out = append(out, piece...)
	}
	return out
}

// TestPlayOntoGarbage plays a full stream and increments onto a device that is
// not zeroed, one that grows among them, and takes back one that is cut off.
func TestPlayOntoGarbage(t *testing.T) {
	const old, size = 5 << 20, 8 << 20
	buf, err := pages(workBuffer)
	if err != nil {
		t.Fatal(err)
	}
	defer giveBack(buf) //nolint:errcheck // memory of a test
	w := &work{device: &activated{File: loopDevice(t, size)}, buf: buf}
	play := func(raw []byte, known int64) error {
		d, err := lvmstream.NewDecoder(bytes.NewReader(raw), nil)
		if err != nil {
			t.Fatal(err)
		}
		d.Buf = w.data()
		return w.play(t.Context(), d, known)
	}
	check := func(what string, want []byte) {
		t.Helper()
		if got := readAll(t, w, int64(len(want))); !bytes.Equal(got, want) {
			t.Errorf("%s: the device differs", what)
		}
	}

	want := make([]byte, old)
	copy(want[4096:], filled(8192, 'a'))
	copy(want[4<<20:], filled(lvmstream.DataMax, 'b'))
	if err := play(encodeAll(t, full(old), change{4096, 8192, filled(8192, 'a')}, change{4 << 20, lvmstream.DataMax, filled(lvmstream.DataMax, 'b')}), 0); err != nil {
		t.Fatal(err)
	}
	check("full", want)

	// Cut off after it changed things before and behind the base's end.
	step := encodeAll(t, increment(size, old), change{0, 4096, filled(4096, 'c')}, change{4096, 1 << 20, nil},
		change{3 << 20, lvmstream.DataMax, filled(lvmstream.DataMax, 'd')}, change{4 << 20, 2 << 20, nil}, change{7 << 20, 4096, filled(4096, 'e')})
	w.undo, err = newUndo(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := play(step[:len(step)-lvmstream.EndSize-lvmstream.RecordSize], old); !errors.Is(err, lvmstream.ErrInvalid) {
		t.Fatalf("got %v, want ErrStream", err)
	}
	if got := readAll(t, w, old); bytes.Equal(got, want) {
		t.Error("the cut stream had changed nothing: this test shows nothing")
	}
	if err := errors.Join(w.undo.back(w), w.undo.Close()); err != nil {
		t.Fatal(err)
	}
	w.undo = nil
	check("taken back", want)

	if err := play(step, old); err != nil {
		t.Fatal(err)
	}
	want = append(want, make([]byte, size-old)...)
	copy(want, filled(4096, 'c'))
	clear(want[4096 : 4096+1<<20])
	copy(want[3<<20:], filled(lvmstream.DataMax, 'd'))
	clear(want[4<<20 : 6<<20])
	copy(want[7<<20:], filled(4096, 'e'))
	check("increment", want)
}

// TestPlayToTheVolumesEnd: LVM rounds a volume up to an extent, and what the disk had
// there belongs to another volume. It is cleared by a full stream, and by an
// increment that grows.
func TestPlayToTheVolumesEnd(t *testing.T) {
	const old, size, end = 5 << 20, 6 << 20, 8 << 20
	buf, err := pages(workBuffer)
	if err != nil {
		t.Fatal(err)
	}
	defer giveBack(buf) //nolint:errcheck // memory of a test
	w := &work{device: &activated{File: loopDevice(t, end)}, buf: buf, volume: volume{size: size + 1<<20}}
	for _, step := range []struct {
		raw   []byte
		known int64
		ends  int64
	}{
		{encodeAll(t, full(old), change{4096, 4096, filled(4096, 'a')}), 0, size + 1<<20},
		{encodeAll(t, increment(size, old), change{old, 4096, filled(4096, 'b')}), old, end},
	} {
		w.volume.size = step.ends
		d, err := lvmstream.NewDecoder(bytes.NewReader(step.raw), nil)
		if err != nil {
			t.Fatal(err)
		}
		d.Buf = w.data()
		if err := w.play(t.Context(), d, step.known); err != nil {
			t.Fatal(err)
		}
		got := readAll(t, w, end)
		if bytes.IndexByte(got[:step.ends], 0xee) >= 0 {
			t.Errorf("%d of %d bytes: what the disk had before is to be seen", bytes.Count(got[:step.ends], []byte{0xee}), step.ends)
		}
		if step.ends < end && bytes.IndexByte(got[step.ends:], 0) >= 0 {
			t.Error("what lies behind the volume was written")
		}
	}
}
