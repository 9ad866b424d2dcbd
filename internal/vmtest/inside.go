package vmtest

import (
	"os"
	"testing"
)

// marker is a file of the image that no other machine has.
const marker = "/etc/snapd-guest"

// Inside fails a test that is not running in the guest. It never skips: a test
// that asks for the guest and does not get it has not been run.
func Inside(t testing.TB) {
	t.Helper()
	if _, err := os.Stat(marker); err != nil {
		t.Fatal("this test needs the guest machine: run it with make test-guest, or go test -tags guest -exec 'guest exec' (docs/TESTING.md)")
	}
}
