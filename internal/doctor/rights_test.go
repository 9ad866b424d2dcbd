package doctor

import (
	"strings"
	"testing"

	systemd "snapd/internal/host"
)

// TestDoctorNamesWhatTheUnitLacks: what is missing, what that costs, and the file
// that took it away.
func TestDoctorNamesWhatTheUnitLacks(t *testing.T) {
	const dropIn = "/etc/systemd/system/snapd-agent.service.d/10 x.conf"
	if got := checkRights("r", nil); len(got) != 1 || !got[0].OK {
		t.Errorf("nothing lacks: %+v", got)
	}
	for _, r := range systemd.Rights() {
		for _, from := range [][]string{nil, {dropIn}} {
			got := checkRights("r", []systemd.Lack{{Right: r, From: from}})
			if len(got) != 1 || got[0].OK || !strings.Contains(got[0].Why, r.Value) || !strings.Contains(got[0].Why, r.Without) {
				t.Fatalf("%s: %+v", r, got)
			}
			if want := map[bool]Level{true: Warn, false: Fail}[r.Less]; got[0].level() != want {
				t.Errorf("%s: %s, want %s", r, got[0].level(), want)
			}
			if named := strings.Contains(got[0].Do, dropIn); named != (from != nil) || !strings.Contains(got[0].Do, "daemon-reload") {
				t.Errorf("%s, of %q: do %s", r, from, got[0].Do)
			}
		}
	}
}
