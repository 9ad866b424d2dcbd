package workload

import "cmp"

// Labels of what starts containers and owns them.
const (
	swarmTask    = "com.docker.swarm.task.id"
	swarmService = "com.docker.swarm.service.name"
	systemdUnit  = "PODMAN_SYSTEMD_UNIT" // of quadlets, and of podman generate systemd
)

// Owner names what starts another container in place of this one when it stops,
// "" when nothing does.
func (c Container) Owner() string {
	if task := c.Labels[swarmTask]; task != "" {
		return "the Swarm service " + cmp.Or(c.Labels[swarmService], "of task "+task)
	}
	if unit := c.Labels[systemdUnit]; unit != "" {
		return "the systemd unit " + unit
	}
	return ""
}
