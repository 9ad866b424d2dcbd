package quote

import (
	"strings"
	"testing"
)

// TestHide: whatever is quoted, nothing of it is left, and what stands before and in
// other lines is.
func TestHide(t *testing.T) {
	for _, secret := range []string{
		"hunter2", "a; it said: hunter2", "hunter2\nhunter2", "\x1b[2Jhunter2", "it runs: ", "hunter2 (hidden: ask as root) hunter2", "", "ünter2 hunter2\r",
	} {
		for _, quote := range []string{Said(secret), Ran([]string{"sh", "-c", secret})} {
			text := "hook before the point: status 7; " + quote + "; nothing was frozen\nanother fault"
			got := Hide(text)
			if strings.Contains(got, "hunter2") || !strings.HasPrefix(got, "hook before the point: status 7; it ") ||
				!strings.HasSuffix(got, Hidden+"\nanother fault") || !strings.Contains(text, quote) {
				t.Errorf("%q became %q", text, got)
			}
			if again := Hide(got); again != got {
				t.Errorf("hidden twice: %q", again)
			}
		}
	}
	if text := "group shop had a restore point 10s ago"; Hide(text) != text {
		t.Errorf("it became %q", Hide(text))
	}
}
