package proc

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ReleaseProgram unmaps the pages of this process's own program that are never written
// to, so that the kernel may take them when memory is short. What runs next faults them
// in again, from the page cache as long as they lie there: a millisecond or two for all.
// See MADV_DONTNEED in madvise(2). Pages that are locked stay.
func ReleaseProgram() error {
	program, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("release the program's pages: %w", err)
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		return fmt.Errorf("release the program's pages: %w", err)
	}
	var faults []error
	for line := range strings.SplitSeq(string(maps), "\n") {
		// 00400000-00452000 r-xp 00000000 08:02 173521   /usr/bin/snapd
		where, rest, _ := strings.Cut(line, " ")
		begin, end, _ := strings.Cut(where, "-")
		if len(rest) < 4 || rest[0] != 'r' || rest[1] != '-' || rest[3] != 'p' || !strings.HasSuffix(rest, " "+program) {
			continue
		}
		from, err := strconv.ParseUint(begin, 16, 64)
		to, err2 := strconv.ParseUint(end, 16, 64)
		if err = errors.Join(err, err2); err == nil {
			if _, _, errno := unix.Syscall(unix.SYS_MADVISE, uintptr(from), uintptr(to-from), unix.MADV_DONTNEED); errno != 0 {
				err = os.NewSyscallError("madvise", errno)
			}
		}
		if err != nil {
			faults = append(faults, err)
		}
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("release the program's pages: %w", err)
	}
	return nil
}
