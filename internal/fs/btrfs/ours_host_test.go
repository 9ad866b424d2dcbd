//go:build host

package btrfs

import (
	"os"
	"slices"
	"strings"
	"testing"

	"snapd/internal/fs"

	"golang.org/x/sys/unix"
)

// oursIn are the snapshots of ours on the filesystem of a dataset. Filesystems of
// other tests come and go meanwhile.
func oursIn(t *testing.T, like fs.Dataset) []fs.Snapshot {
	t.Helper()
	all, err := New().Ours(t.Context())
	if err != nil {
		t.Log(err)
	}
	fsid, _, _ := strings.Cut(like.Domain, "/")
	return slices.DeleteFunc(all, func(s fs.Snapshot) bool { return !strings.HasPrefix(s.Dataset.Domain, fsid+"/") })
}

// TestOursOfWhatIsGone: snapshots outlive their subvolume and are still known to
// be of it, under whatever name, and can be deleted.
func TestOursOfWhatIsGone(t *testing.T) {
	mnt := newFilesystem(t, 512<<20)
	if err := os.Mkdir(mnt+"/a dir é", 0o755); err != nil {
		t.Fatal(err)
	}
	stays, gone := subvolume(t, mnt+"/a dir é/stays"), subvolume(t, mnt+"/gone")
	inner := subvolume(t, mnt+"/a dir é/stays/in ner")
	top, err := New().Locate(t.Context(), mnt)
	if err != nil {
		t.Fatal(err)
	}
	var want []fs.Snapshot
	for _, d := range []fs.Dataset{top.Dataset, stays, gone, inner} {
		want = append(want, take(t, "a", d)...)
	}
	command(t, "btrfs", "subvolume", "delete", mnt+"/gone")
	got := oursIn(t, stays)
	if len(got) != len(want) {
		t.Fatalf("got %+v", got)
	}
	for _, w := range want {
		i := slices.IndexFunc(got, func(s fs.Snapshot) bool { return s.GUID == w.GUID })
		if i < 0 || got[i].Dataset.GUID != w.Dataset.GUID || got[i].Dataset.Domain != w.Dataset.Domain || got[i].Name != w.Name {
			t.Errorf("got %+v, want %+v", got, w)
			continue
		}
		switch name := got[i].Dataset.Name; {
		case w.Dataset.GUID == gone.GUID && !strings.Contains(name, "which is gone"):
			t.Errorf("what is gone is called %q", name)
		case w.Dataset.GUID != gone.GUID && name != w.Dataset.Name:
			t.Errorf("got %q, want %q", name, w.Dataset.Name)
		}
		if err := New().Delete(t.Context(), got[i]); err != nil {
			t.Error(err)
		}
	}
	if got := oursIn(t, stays); len(got) > 0 {
		t.Errorf("left: %+v", got)
	}
}

// TestInterruptedReplace: what lay at the target is found again.
func TestInterruptedReplace(t *testing.T) {
	mnt := newFilesystem(t, 512<<20)
	r := &receiver{target: mnt + "/data", suffix: ".before"}
	if err := r.open(); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(mnt+"/data.before", 0o755); err != nil { // as moveAside leaves it
		t.Fatal(err)
	}
	if said, _ := New().Interrupted(t.Context()); strings.Contains(strings.Join(said, "\n"), mnt) {
		t.Errorf("a restore that is going on: %q", said)
	}
	if err := unix.Flock(int(r.staging.Fd()), unix.LOCK_UN); err != nil { // as when its process is killed
		t.Fatal(err)
	}
	said, _ := New().Interrupted(t.Context())
	if text := strings.Join(said, "\n"); !strings.Contains(text, "restore to btrfs:"+mnt+"/data had received") || !strings.Contains(text, "what lay at the target before is now at "+mnt+"/data.before") {
		t.Errorf("got %q", said)
	}
	removed, _ := New().Sweep(t.Context())
	if !strings.Contains(strings.Join(removed, "\n"), mnt+"/data.before") {
		t.Errorf("swept without a word of it: %q", removed)
	}
	_ = r.Close() // which misses what was swept
}
