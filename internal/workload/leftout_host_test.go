//go:build host

package workload_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"snapd/internal/advice"
	"snapd/internal/workload"
	"snapd/internal/workload/dockertest"

	dockercontainer "github.com/docker/docker/api/types/container"
)

// A database that lies in a volume without a name, while what is mounted for it is
// elsewhere: number 5 of the issue.
func TestADatabaseThatIsLeftOut(t *testing.T) {
	e := connect(t)
	root := btrfs(t)
	const dir = "/var/lib/postgresql/18/docker"
	database := func(name, cmd string, labels map[string]string) dockertest.Spec {
		return dockertest.Spec{
			Name: name, Labels: labels, Mounts: []dockertest.Mount{{Source: subvolume(t, root, name), Target: "/var/lib/postgresql/data"}},
			Cmd: []string{"sh", "-c", cmd + "; sleep 1000000"}, Signal: "SIGKILL",
			Change: func(c *dockercontainer.Config, _ *dockercontainer.HostConfig) {
				c.Env, c.Volumes = []string{"PGDATA=" + dir}, map[string]struct{}{"/var/lib/postgresql": {}}
			},
		}
	}
	begin := "mkdir -p " + dir + "; dd if=/dev/zero of=" + dir + "/PG_VERSION bs=1000000 count=5; sync; echo x > /var/lib/postgresql/data/started"
	only := map[string]string{"snapd.enable": "true", "snapd.volumes": "/var/lib/postgresql/data"}
	for _, s := range []dockertest.Spec{
		database("lo-db", begin, only), database("lo-client", "echo x > /var/lib/postgresql/data/started", only),
		enabled("lo-keeper", dockertest.Mount{Source: subvolume(t, root, "keep"), Target: "/keep"}),
	} {
		runContainer(t, s)
	}
	for _, name := range []string{"lo-db", "lo-client"} {
		eventually(t, name+" has begun", func() bool { _, err := os.Stat(filepath.Join(root, name, "started")); return err == nil })
	}
	_, err := resolve(t, e, "lo-db", "")
	if !errors.Is(err, workload.ErrLeftOut) || !strings.Contains(err.Error(), "the database of container lo-db, in "+dir) || !strings.Contains(advice.Of(err), "add /var/lib/postgresql to the label snapd.volumes") {
		t.Errorf("%v (%s)", err, advice.Of(err))
	}
	r, err := resolve(t, e, "lo-client", "")
	if err != nil || len(r.Warnings) > 0 || len(r.Items) != 1 || r.Items[0].Member != "lo-client" || r.Items[0].Source != filepath.Join(root, "lo-client") {
		t.Errorf("a client has no database: %v, %q, %+v", err, r.Warnings, r.Items)
	}
	r, err = resolve(t, e, "both", "[group.both]\ncontainers = [\"lo-db\", \"lo-keeper\"]\nvolumes = [\"/keep\"]\n")
	if err != nil || len(r.Warnings) != 2 || !has(r.Warnings, "left out: volume at /var/lib/postgresql of container lo-db, which holds about 5 MB") || !has(r.Warnings, "left out: the database of container lo-db") {
		t.Errorf("all of a container is left out: %v, %q", err, r.Warnings)
	}
}
