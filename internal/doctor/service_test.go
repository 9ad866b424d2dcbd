package doctor

import (
	"strings"
	"testing"

	systemd "snapd/internal/host"
)

func TestDoctorMissesHelpers(t *testing.T) {
	for _, c := range []struct {
		state systemd.State
		ok    bool
		do    string
	}{
		{systemd.State{Loaded: "loaded", Active: "active"}, true, ""},
		{systemd.State{Loaded: "masked", Active: "inactive"}, false, "systemctl unmask"},
		{systemd.State{Loaded: "loaded", Active: "inactive"}, false, "systemctl start " + systemd.LookTimer},
		{systemd.State{Loaded: "not-found", Active: "inactive"}, false, "package"},
	} {
		got := checkHelper(systemd.LookTimer, "no timer looks", c.state)
		if got.OK != c.ok || !strings.Contains(got.Do, c.do) || (got.Do == "") != c.ok || !got.OK && !strings.Contains(got.Why, "no timer looks") {
			t.Errorf("%+v gives %+v", c.state, got)
		}
	}
}
