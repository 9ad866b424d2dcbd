package host

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// KernelLog is where generators write. They run before the journal does, and no
// program reads their standard error; the journal takes up the kernel's log.
const KernelLog = "/dev/kmsg"

// kernelLine is how long a line may be; the kernel refuses longer records.
const kernelLine = 900 // bytes

// LogEarly writes an error to such a log, one record a line, under a name. It
// makes no file: a container has no kernel log.
func LogEarly(log, name, text string) error {
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_APPEND|unix.O_NOCTTY, 0)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // each write is a record of its own
	const daemonError = 3<<3 | 3
	for line := range strings.Lines(strings.ToValidUTF8(text, "?")) {
		line = strings.TrimSpace(line)
		if len(line) > kernelLine {
			line = strings.ToValidUTF8(line[:kernelLine], "") + "…"
		}
		if _, err := fmt.Fprintf(f, "<%d>%s[%d]: %s\n", daemonError, name, os.Getpid(), line); err != nil {
			return err
		}
	}
	return nil
}
