package daemon

import (
	"strings"
	"testing"

	"snapd/internal/agent"

	systemd "snapd/internal/host"
)

// TestCallersAreToldWhatTheAgentLacks: one warning a right, with what fails without
// it and where to look.
func TestCallersAreToldWhatTheAgentLacks(t *testing.T) {
	var said []agent.Event
	report := func(e agent.Event) { said = append(said, e) }
	warnOfLacking(report, nil)
	if len(said) > 0 {
		t.Errorf("nothing lacks, and it says %+v", said)
	}
	lacking := systemd.Rights()[:2]
	warnOfLacking(report, lacking)
	if len(said) != len(lacking) {
		t.Fatalf("%d warnings", len(said))
	}
	for i, e := range said {
		if e.Kind != agent.Warning || !strings.Contains(e.Text, "without "+lacking[i].Value) || !strings.Contains(e.Text, lacking[i].Without) || !strings.Contains(e.Do, "doctor") {
			t.Errorf("%+v", e)
		}
	}
}
