//go:build !guest

package lvm

import (
	"os"
	"testing"
)

// TestPackagedRules: the agent's sandbox keeps it from writing udev's rules, so
// that the package brings the very ones that it looks for.
func TestPackagedRules(t *testing.T) {
	text, err := os.ReadFile("../../../systemd/" + rulesName)
	if err != nil {
		t.Fatal(err)
	}
	if string(text) != rulesText {
		t.Errorf("the package brings\n%s, and the driver looks for\n%s", text, rulesText)
	}
}
