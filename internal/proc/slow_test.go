package proc

import "testing"

func TestRemoteMounts(t *testing.T) {
	table := Table{
		{ID: 1, Point: "/", Type: "ext4"},
		{ID: 2, Point: "/srv/nas", Type: "nfs4"},
		{ID: 3, Point: "/home/u/cloud é", Type: "fuse.rclone"},
		{ID: 4, Point: "/srv/nas/disk", Type: "btrfs"},
		{ID: 5, Point: "/mnt", Type: "cifs"},
		{ID: 6, Point: "/mnt", Type: "xfs"},
	}
	for path, want := range map[string]int{
		"/": 0, "/srv": 0, "/srv/nas": 2, "/srv/nas/x": 2, "/srv/nasty": 0, "/srv/nas/disk/x": 2, "/home/u": 0, "/home/u/cloud é/a": 3,
		"/mnt": 0, "/mnt/x": 0, // hidden by another
	} {
		if got, remote := table.Remote(path); got.ID != want || remote != (want != 0) {
			t.Errorf("%s: %d, want %d", path, got.ID, want)
		}
	}
	for fstype, want := range map[string]bool{"fuse": true, "fuseblk": true, "fuse.sshfs": true, "nfs": true, "fusectl": false, "btrfs": false, "tmpfs": false} {
		if Remote(fstype) != want {
			t.Errorf("%s: %t", fstype, !want)
		}
	}
}
