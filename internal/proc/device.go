package proc

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Device is the number of a device.
type Device struct{ Major, Minor uint32 }

// DeviceOf is the device of what stat calls st_dev or st_rdev.
func DeviceOf(number uint64) Device {
	return Device{unix.Major(number), unix.Minor(number)}
}

// Number is the device as stat calls it.
func (d Device) Number() uint64 { return unix.Mkdev(d.Major, d.Minor) }

// String writes it as the kernel does: 253:0.
func (d Device) String() string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }

// Sys is a path in what sysfs says about a block device.
func (d Device) Sys(parts ...string) string {
	return filepath.Join(append([]string{"/sys/dev/block", d.String()}, parts...)...)
}

// Node is the number of the block device at a path.
func Node(path string) (Device, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Device{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return Device{}, fmt.Errorf("%s is no block device", path)
	}
	return DeviceOf(st.Rdev), nil
}

// Swap is a device or file that the kernel swaps to.
type Swap struct {
	Path string
	File bool // on a filesystem; otherwise it is a block device
}

// Swaps lists swap space; a kernel without swapping has none.
func Swaps() ([]Swap, error) { return readSwaps("/proc/swaps") }

// readSwaps reads proc_swaps(5): a line of titles, then a path with its blanks
// written as octal escapes, and a kind.
func readSwaps(file string) ([]Swap, error) {
	f, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list swap space: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read from
	blanks := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	var out []Swap
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) > 1 && (words[1] == "file" || words[1] == "partition") {
			out = append(out, Swap{Path: blanks.Replace(words[0]), File: words[1] == "file"})
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("list swap space: %w", err)
	}
	return out, nil
}
