package proc

import (
	"path"
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
// links, its end included, by the table alone: nothing is looked at. It also
// finds what has come to lie under another mount since.
func (t Table) Remote(name string) (Mount, bool) {
	for dir := path.Clean(name); ; dir = path.Dir(dir) {
		if m, found := t.At(dir); found && Remote(m.Type) {
			return m, true
		}
		if dir == "/" || dir == "." {
			return Mount{}, false
		}
	}
}
