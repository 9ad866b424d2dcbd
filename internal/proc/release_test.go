package proc

import (
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// residentFile is how much of files this process has in memory, in KiB.
func residentFile(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "RssFile:" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("no RssFile")
	return 0
}

// TestReleaseProgram: the pages of the program leave, and it runs on.
func TestReleaseProgram(t *testing.T) {
	written := slices.Repeat([]string{"a variable"}, 1000) // what was written stays
	before := residentFile(t)
	if err := ReleaseProgram(); err != nil {
		t.Fatal(err)
	}
	after := residentFile(t)
	if after >= before {
		t.Errorf("%d KiB of files in memory, %d KiB before", after, before)
	}
	if len(written) != 1000 || written[999] != "a variable" || readRecorded(t)[0].Point != "/proc" {
		t.Error("something was lost")
	}
	t.Logf("%d KiB of files in memory, %d KiB before", after, before)
}
