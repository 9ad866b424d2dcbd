package daemon

import (
	"fmt"
	"os"

	"snapd/internal/advice"
	"snapd/internal/agent"

	systemd "snapd/internal/host"
)

// tellLacking warns a caller of what the agent may not do though its code does it:
// most of what fails for it says no more than "operation not permitted", and what
// only works less well says nothing.
func tellLacking(report agent.Report) {
	if os.Geteuid() != 0 || os.Getenv("INVOCATION_ID") == "" {
		return // no unit of systemd gave the rights
	}
	lacking, err := systemd.LackingHere()
	if err != nil {
		report(agent.WarningOf("", err))
	}
	warnOfLacking(report, lacking)
}

func warnOfLacking(report agent.Report, lacking []systemd.Right) {
	for _, r := range lacking {
		err := fmt.Errorf("the agent runs without %s: %s", r, r.Without)
		report(agent.WarningOf("", advice.With(err, "run: snapd doctor, which names the drop-in of %s that takes it away", systemd.AgentService)))
	}
}
