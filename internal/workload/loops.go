package workload

import (
	"os"
	"path/filepath"
	"strings"

	"snapd/internal/proc"

	"golang.org/x/sys/unix"
)

// loops adds the files behind loop devices that can be written to: what is written
// to a filesystem in such a file reaches it by the kernel alone, and no process has
// it open.
func (l *opener) loops() {
	devices, _ := filepath.Glob("/sys/block/loop*/loop/backing_file") // the pattern is well formed
	if len(devices) == 0 {
		return
	}
	host, err := proc.Host()
	if err != nil {
		l.out.Missed = "what is behind loop devices cannot be told: " + err.Error()
		return
	}
	for _, name := range devices {
		device := filepath.Dir(filepath.Dir(name))
		path, err := os.ReadFile(name)
		if err != nil { // it was detached
			continue
		}
		if readOnly, err := os.ReadFile(filepath.Join(device, "ro")); err != nil || strings.TrimSpace(string(readOnly)) == "1" {
			continue
		}
		l.loop(host, "/dev/"+filepath.Base(device), strings.TrimSuffix(string(path), "\n"))
	}
}

// loop adds the file behind one device, by the path that it has on the host.
func (l *opener) loop(host proc.Table, device, path string) {
	m, found := host.Above(path)
	if !found || reason(m.Type) != "" || kernelMade(m.Type) {
		return
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return // no snapshot would have it
	}
	l.out.files = append(l.out.files, openFile{process: Process{Device: device}, spot: below(m, path), inodes: proc.DeviceOf(st.Dev)})
}
