//go:build host

package btrfs

import (
	"os"
	"slices"
	"testing"
)

func TestNestedSubvolumes(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	for _, dir := range []string{"a", "a/b c", "a/plain"} {
		if dir == "a/plain" {
			command(t, "mkdir", mnt+"/"+dir)
			continue
		}
		subvolume(t, mnt+"/"+dir)
	}
	subvolume(t, mnt+"/a/b c/d\n")
	subvolume(t, mnt+"/a/plain/e")
	subvolume(t, mnt+"/ab")
	top := datasetAt(t, mnt)
	take(t, "n", datasetAt(t, mnt+"/a"), top) // ours must not be listed
	for path, want := range map[string][]string{
		"":           {"/a", "/a/b c", "/a/b c/d\n", "/a/plain/e", "/ab"},
		"/a":         {"/a/b c", "/a/b c/d\n", "/a/plain/e"},
		"/a/plain":   {"/a/plain/e"},
		"/a/b c/d\n": nil,
	} {
		place, err := New().Locate(t.Context(), mnt+path)
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			want[i] = mnt + want[i]
		}
		if !slices.Equal(place.Nested, want) {
			t.Errorf("%q: got %q, want %q", path, place.Nested, want)
		}
	}
}

// One subvolume has one name and identity, whichever mount the path is on.
func TestLocateThroughOtherMounts(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	subvolume(t, mnt+"/@data")
	command(t, "mkdir", "-p", mnt+"/@data/in/side")
	write(t, mnt+"/@data/file", "x")
	node := command(t, "findmnt", "-no", "SOURCE", mnt)
	dir := t.TempDir()
	for _, sub := range []string{"sub vol\n", "bind", "file"} {
		command(t, "mkdir", dir+"/"+sub)
	}
	mount(t, node, dir+"/sub vol\n", "-o", "subvol=@data")
	bind(t, mnt+"/@data/in", dir+"/bind")
	write(t, dir+"/file/f", "")
	bind(t, mnt+"/@data/file", dir+"/file/f")
	data := datasetAt(t, mnt+"/@data")
	if data.Name != dir+"/sub vol\n" {
		t.Errorf("the name is %q, and not the shortest path", data.Name)
	}
	for path, want := range map[string]string{
		mnt + "/@data":          ".",
		dir + "/sub vol\n":      ".",
		dir + "/sub vol\n/in":   "in",
		dir + "/bind":           "in",
		dir + "/bind/side":      "in/side",
		dir + "/file/f":         "file",
		dir + "/sub vol\n/file": "file",
		mnt + "/@data/in/side":  "in/side",
	} {
		place, err := New().Locate(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if place.Path != want || place.Dataset != data {
			t.Errorf("%q: got %+v, want %q in %+v", path, place, want, data)
		}
	}
}

// The top of a filesystem, whose data many hosts have beside subvolumes, is
// called by the path where it is mounted, whichever path in it is asked about.
func TestLocateTheTop(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	subvolume(t, mnt+"/@")
	command(t, "mkdir", "-p", mnt+"/srv/app")
	write(t, mnt+"/srv/app/file", "x")
	bound := t.TempDir()
	bind(t, mnt+"/srv", bound)
	top := datasetAt(t, mnt)
	if top.Name != mnt {
		t.Errorf("it is called %q, want %q", top.Name, mnt)
	}
	for path, want := range map[string]string{
		mnt + "/srv":          "srv",
		mnt + "/srv/app":      "srv/app",
		mnt + "/srv/app/file": "srv/app/file",
		bound:                 "srv",
		bound + "/app/file":   "srv/app/file",
	} {
		place, err := New().Locate(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if place.Path != want || place.Dataset != top {
			t.Errorf("%s: got %+v, want %q in %+v", path, place, want, top)
		}
	}
}

// Where only a part of a subvolume is mounted, snapshots work all the same.
func TestOnlyAPartIsMounted(t *testing.T) {
	mnt := newFilesystem(t, 300<<20)
	subvolume(t, mnt+"/@")
	command(t, "mkdir", mnt+"/@/volume")
	write(t, mnt+"/@/volume/f", "content")
	node := command(t, "findmnt", "-no", "SOURCE", mnt)
	part := t.TempDir()
	bind(t, mnt+"/@/volume", part)
	command(t, "umount", mnt)
	t.Cleanup(func() { command(t, "mount", node, mnt) }) // as newFilesystem expects
	place, err := New().Locate(t.Context(), part+"/f")
	if err != nil {
		t.Fatal(err)
	}
	if place.Path != "volume/f" || place.Dataset.Name != node+"[/@]" {
		t.Errorf("got %+v", place)
	}
	s := take(t, "p", place.Dataset)[0]
	made := restore(t, part+"/restored", stream(t, s, nil), s.GUID)
	if got, err := os.ReadFile(made.Name + "/volume/f"); err != nil || string(got) != "content" {
		t.Errorf("got %q, %v", got, err)
	}
}
