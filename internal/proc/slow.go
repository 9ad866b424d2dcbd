package proc

import (
	"slices"
	"strings"
)

// Remote tells whether another host answers for a filesystem of this type, or a
// program does: a look at a path on it can last for ever, and a process that
// waits for it need not even die of SIGKILL.
func Remote(fstype string) bool {
	return OtherHost(fstype) || fstype == "fuse" || fstype == "fuseblk" || strings.HasPrefix(fstype, "fuse.")
}

// OtherHost tells whether another host has what lies on a filesystem of this type.
func OtherHost(fstype string) bool {
	return slices.Contains([]string{
		"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "9p", "virtiofs", "afs",
		"lustre", "beegfs", "orangefs", "coda",
	}, fstype)
}

// Remote finds a mount of such a type on the way to a path that has no symbolic
// links, its end included, by the table alone: nothing is looked at.
func (t Table) Remote(path string) (Mount, bool) {
	for _, m := range t {
		if !Remote(m.Type) {
			continue
		}
		if _, below := CutDir(path, m.Point); !below {
			continue
		}
		if top, _ := t.At(m.Point); top.ID == m.ID {
			return m, true
		}
	}
	return Mount{}, false
}
