//go:build guest

package zfs

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/vmtest"
)

// mapped makes a pool on a device that can be taken away: every read and write
// of it then fails, and the pool is suspended.
func mapped(t *testing.T, name string) (pool string, fail, repair func()) {
	t.Helper()
	disk := vmtest.NewDisk(t, name, 512<<20)
	pool = "p" + name
	sh(t, "zpool", "create", "-O", "mountpoint=/mnt/"+pool, "-O", "compression=off", pool, disk.Device)
	t.Cleanup(func() {
		disk.Repair()
		_ = exec.Command("zpool", "clear", pool).Run()
		if out, err := exec.Command("zpool", "destroy", "-f", pool).CombinedOutput(); err != nil {
			t.Errorf("destroy: %v: %s", err, out)
		}
	})
	return pool, disk.Fail, func() { disk.Repair(); sh(t, "zpool", "clear", pool) }
}

// suspend takes the device away and waits until ZFS has noticed.
func suspend(t *testing.T, pool string, fail func()) {
	t.Helper()
	fail()
	go func() { _ = os.WriteFile("/mnt/"+pool+"/a/dirty", bytes.Repeat([]byte("x"), 1<<20), 0o600) }() // hangs, too
	go func() { _ = exec.Command("zpool", "sync", pool).Run() }()
	for deadline := time.Now().Add(time.Minute); suspended(pool) == nil; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the pool is not suspended")
		}
	}
}

// TestSuspended: everything says so within seconds, and works on when the pool
// is back.
func TestSuspended(t *testing.T) {
	pool, fail, repair := mapped(t, "suspended")
	d := New()
	sh(t, "zfs", "create", pool+"/a")
	dir := mountpoint(t, pool+"/a")
	scatter(t, dir+"/x", 60)
	dataset := located(t, dir)
	s := take(t, "a", dataset)[0]
	data := read(t, d, s, nil)
	ready, err := d.Prepare(t.Context(), fs.SnapshotName(testTime, "b"), []fs.Dataset{dataset})
	if err != nil {
		t.Fatal(err)
	}
	receiver, err := d.Receive(t.Context(), pool+"/target", fs.Placement{})
	if err != nil {
		t.Fatal(err)
	}
	suspend(t, pool, fail)
	for what, call := range map[string]func() error{
		"prepare": func() error {
			_, err := d.Prepare(t.Context(), fs.SnapshotName(testTime, "c"), []fs.Dataset{dataset})
			return err
		},
		"take": ready.Take,
		"list": func() error { _, err := d.Snapshots(t.Context(), dataset); return err },
		"send": func() error {
			r, err := d.Send(t.Context(), s, nil)
			if err == nil {
				_, err = io.Copy(io.Discard, r)
				_ = r.Close()
			}
			return err
		},
		"delete":  func() error { return d.Delete(t.Context(), s) },
		"receive": func() error { return receiver.Apply(t.Context(), bytes.NewReader(data), s.GUID, "") },
		"open": func() error {
			_, err := d.Receive(t.Context(), pool+"/other", fs.Placement{})
			return err
		},
	} {
		begin := time.Now()
		err := call()
		if !errors.Is(err, ErrSuspended) || !strings.Contains(advice.Of(err), "zpool clear") {
			t.Errorf("%s: got %v", what, err)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("%s: that took %v", what, took)
		}
	}
	if _, err := d.Sweep(t.Context()); err != nil {
		t.Errorf("sweep: %v", err)
	}
	repair()
	sh(t, "zpool", "sync", pool)
	if err := firstOf(ready.Close(), receiver.Close()); err != nil {
		t.Error(err)
	}
	if again := read(t, d, s, nil); !bytes.Equal(again, data) {
		t.Error("after it came back another stream is sent")
	}
}

// TestSuspendedInTheMiddle: a send and a snapshot that are under way when the
// pool goes away end.
func TestSuspendedInTheMiddle(t *testing.T) {
	pool, fail, repair := mapped(t, "middle")
	d := New()
	sh(t, "zfs", "create", pool+"/a")
	dir := mountpoint(t, pool+"/a")
	for _, name := range []string{"1", "2", "3"} {
		if err := os.WriteFile(dir+"/"+name, bytes.Repeat([]byte(name), 20<<20), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	dataset := located(t, dir)
	s := take(t, "a", dataset)[0]
	sh(t, "zpool", "export", pool) // empties the cache
	sh(t, "zpool", "import", "-d", "/dev/mapper", pool)
	r, err := d.Send(t.Context(), s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 1<<20)); err != nil {
		t.Fatal(err)
	}
	suspend(t, pool, fail)
	begin := time.Now()
	_, err = io.Copy(io.Discard, r)
	_ = r.Close()
	if !errors.Is(err, ErrSuspended) {
		t.Errorf("got %v", err)
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("that took %v", took)
	}
	repair()
}

// TestExported: a pool that goes away in the middle is named, and nothing that
// is only not here counts as deleted.
func TestExported(t *testing.T) {
	pool, _, _ := mapped(t, "exported")
	d := New()
	sh(t, "zfs", "create", pool+"/a")
	dataset := located(t, mountpoint(t, pool+"/a"))
	s := take(t, "a", dataset)[0]
	ready, err := d.Prepare(t.Context(), fs.SnapshotName(testTime, "b"), []fs.Dataset{dataset})
	if err != nil {
		t.Fatal(err)
	}
	defer ready.Close()
	sh(t, "zpool", "export", pool)
	for what, call := range map[string]func() error{
		"take": ready.Take,
		"prepare": func() error {
			_, err := d.Prepare(t.Context(), fs.SnapshotName(testTime, "c"), []fs.Dataset{dataset})
			return err
		},
		"list":    func() error { _, err := d.Snapshots(t.Context(), dataset); return err },
		"send":    func() error { _, err := d.Send(t.Context(), s, nil); return err },
		"delete":  func() error { return d.Delete(t.Context(), s) },
		"receive": func() error { _, err := d.Receive(t.Context(), pool+"/b", fs.Placement{}); return err },
	} {
		if err := call(); !errors.Is(err, fs.ErrNotFound) {
			t.Errorf("%s: got %v", what, err)
		} else if text := err.Error(); !strings.Contains(advice.Of(err), "zpool import") || strings.Contains(text, "usage:") {
			t.Errorf("%s: it does not say what to do: %v", what, err)
		}
	}
	sh(t, "zpool", "import", "-d", "/dev/mapper", pool)
	if all, err := d.Snapshots(t.Context(), dataset); err != nil || len(all) != 1 {
		t.Errorf("when it is back: %v, %v", all, err)
	}
}

// TestFullPool: refused before the window.
func TestFullPool(t *testing.T) {
	pool := newPool(t, 128<<20, "-O", "compression=off")
	sh(t, "zfs", "create", pool+"/a")
	dir := mountpoint(t, pool+"/a")
	dataset := located(t, dir)
	vmtest.Fill(t, dir+"/filler")
	sh(t, "zpool", "sync", pool)
	_, err := New().Prepare(t.Context(), fs.SnapshotName(testTime, "a"), []fs.Dataset{dataset})
	if !errors.Is(err, fs.ErrNoSpace) || !strings.Contains(err.Error(), "KiB are free") {
		t.Errorf("got %v", err)
	}
	if _, err := New().Receive(t.Context(), pool+"/b", fs.Placement{}); !errors.Is(err, fs.ErrNoSpace) {
		t.Errorf("receive: got %v", err)
	}
}

// TestPreflight: what a pool cannot take is refused before it gets one byte.
func TestPreflight(t *testing.T) {
	from := newPool(t, 512<<20)
	sh(t, "zfs", "create", "-o", "compression=zstd", from+"/a")
	dir := mountpoint(t, from+"/a")
	if err := os.WriteFile(dir+"/file", bytes.Repeat([]byte("compress me "), 100_000), 0o600); err != nil {
		t.Fatal(err)
	}
	s := take(t, "a", located(t, dir))[0]
	data := read(t, New(), s, nil)
	old := newPool(t, 256<<20, "-o", "feature@zstd_compress=disabled")
	locked := newPool(t, 256<<20)
	sh(t, "zfs", "create", "-o", "encryption=on", "-o", "keyformat=raw", "-o", "keylocation=file://"+keyFile(t), locked+"/e")
	sh(t, "zfs", "unmount", locked+"/e")
	sh(t, "zfs", "unload-key", locked+"/e")
	for target, want := range map[string]string{old + "/x": "zstd_compress", locked + "/e/x": "zfs load-key " + locked + "/e"} {
		r, err := New().Receive(t.Context(), target, fs.Placement{})
		if err != nil {
			t.Fatal(err)
		}
		err = r.Apply(t.Context(), bytes.NewReader(data), s.GUID, "")
		if err == nil || !strings.Contains(err.Error()+"; "+advice.Of(err), want) || strings.Contains(err.Error(), "zfs receive") {
			t.Errorf("%s: got %v", target, err)
		}
		if left := stages(t, poolOf(target)); len(left) > 0 {
			t.Errorf("left over: %q", left)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	}
	r, err := New().Receive(t.Context(), from+"/x", fs.Placement{})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.(*receiver).Expect(t.Context(), map[string]string{keyReferenced: "99999999999"}); !errors.Is(err, fs.ErrNoSpace) {
		t.Errorf("more than there is room for: got %v", err)
	}
	for target, want := range map[string]error{"nopool/x": fs.ErrNotFound, from: fs.ErrExists, from + "/a": fs.ErrExists} {
		if _, err := New().Receive(t.Context(), target, fs.Placement{}); !errors.Is(err, want) {
			t.Errorf("%s: got %v, want %v", target, err, want)
		}
	}
	for _, target := range []string{"/" + from + "/x", from + "/x/", from + "/x@y", "-x", ""} {
		if _, err := New().Receive(t.Context(), target, fs.Placement{}); err == nil {
			t.Errorf("the target %q is taken", target)
		}
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := New().Receive(cancelled, from+"/y", fs.Placement{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: got %v", err)
	}
}
