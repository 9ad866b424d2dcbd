package workload

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/config"
	"snapd/internal/proc"
)

// fakeEngine answers as a Docker engine does, by path without version; what it
// does not know is an internal error, or hangs where hang says so.
type fakeEngine struct {
	answers map[string]any
	hang    map[string]bool
	done    chan struct{}
}

var versioned = regexp.MustCompile(`^/v[0-9.]+`)

func (f fakeEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := versioned.ReplaceAllString(r.URL.Path, "")
	w.Header().Set("Api-Version", "1.47")
	w.Header().Set("Content-Type", "application/json")
	if f.hang[path] {
		<-f.done
		return
	}
	answer, known := f.answers[path]
	if !known && path != "/_ping" {
		w.WriteHeader(http.StatusInternalServerError)
		answer = map[string]string{"message": "it is broken"}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

type object = map[string]any

// fakeContainers are three: fine, broken and other; each has a bind and a volume.
func fakeContainers() fakeEngine {
	f := fakeEngine{done: make(chan struct{}), hang: map[string]bool{}, answers: map[string]any{
		"/version": object{"Version": "28"}, "/info": object{}, "/volumes": object{"Volumes": []object{}},
	}}
	var list []object
	for _, name := range []string{"fine", "broken", "other"} {
		mounts := []object{{"Type": "bind", "Source": "/srv/" + name, "Destination": "/b", "RW": true}}
		if name == "other" {
			mounts = append(mounts, object{"Type": "volume", "Name": "v", "Source": "/srv/v", "Destination": "/v", "RW": true})
		}
		on := object{"snapd.enable": "true"}
		list = append(list, object{"Id": name + "-id", "Names": []string{"/" + name + "/alias", "/" + name}, "ImageID": name + "-image", "Image": name, "Labels": on, "State": "running", "Mounts": mounts})
		f.answers["/containers/"+name+"-id/json"] = object{"Id": name + "-id", "Name": "/" + name, "Config": object{"Labels": on, "Image": name}, "State": object{"StartedAt": "2026-01-02T03:04:05.6Z"}, "Mounts": mounts}
		f.answers["/images/"+name+"-image/json"] = object{"Config": object{}}
	}
	f.answers["/containers/json"] = list
	return f
}

func (f fakeEngine) connect(t *testing.T) *Engine {
	t.Helper()
	dir, err := os.MkdirTemp("", "sd") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: f}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { close(f.done); _ = server.Close() })
	e, err := Connect(t.Context(), "unix://"+l.Addr().String(), WithTimeout(200*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = e.Close() })
	return e
}

// TestTheFaultOfOneContainer: a container that cannot be looked at has a fault,
// and all others are listed as ever.
func TestTheFaultOfOneContainer(t *testing.T) {
	cases := []struct {
		name  string
		spoil func(fakeEngine)
		who   string // has the fault
		why   string
	}{
		{"it cannot be inspected", func(f fakeEngine) { delete(f.answers, "/containers/broken-id/json") }, "broken", "it is broken"},
		{"its inspection hangs", func(f fakeEngine) { f.hang["/containers/broken-id/json"] = true }, "broken", ErrHangs.Error()},
		{"nor can its image", func(f fakeEngine) { delete(f.answers, "/images/broken-image/json") }, "broken", "it is broken"},
		{"the volumes cannot be listed", func(f fakeEngine) { delete(f.answers, "/volumes") }, "other", "list volumes"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			f := fakeContainers()
			c.spoil(f)
			all, err := f.connect(t).Containers(t.Context())
			if err != nil || len(all) != 3 {
				t.Fatalf("%d containers, %v", len(all), err)
			}
			for _, got := range all {
				switch {
				case got.Name != c.who && got.Fault != nil:
					t.Errorf("%s has the fault %v", got.Name, got.Fault)
				case got.Name == c.who && (got.Fault == nil || !strings.Contains(got.Fault.Error(), c.why)):
					t.Errorf("the fault of %s is %v", got.Name, got.Fault)
				case got.Name == c.who && (len(got.Mounts) == 0 || got.Mounts[0].Source != "/srv/"+c.who || !got.Mounts[0].Writable):
					t.Errorf("of the mounts of %s there is known: %+v", got.Name, got.Mounts)
				}
			}
			groups, problems := Groups(&config.Config{}, all)
			want := []string{"broken: broken", "fine: fine", "other: other"}
			got := grouped(groups)
			for _, p := range problems { // of what an unknown image could have said
				got = append(got, p.Group+": "+p.Container)
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("groups %q, problems %v", got, problems)
			}
			for _, g := range groups {
				_, err := Host{Containers: all}.Resolve(t.Context(), g, nil)
				if g.Name == c.who && (err == nil || !strings.Contains(err.Error(), "container "+c.who) || !strings.Contains(err.Error(), c.why)) {
					t.Errorf("group %s: %v", g.Name, err)
				}
				if g.Name != c.who && (g.Faults() != nil || err != nil && strings.Contains(err.Error(), c.why)) {
					t.Errorf("group %s: %v, %v", g.Name, g.Faults(), err)
				}
			}
		})
	}
}

// TestARestartingContainerDoesNotRun: the engine calls it running, and it can be
// neither paused nor stopped.
func TestARestartingContainerDoesNotRun(t *testing.T) {
	f := fakeContainers()
	f.answers["/containers/broken-id/json"] = object{"Id": "broken-id", "Name": "/broken", "RestartCount": 7, "State": object{"Running": true, "Restarting": true, "StartedAt": "2026-01-02T03:04:05.6Z"}}
	e := f.connect(t)
	all, err := e.Containers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if c := all[0]; c.Name != "broken" || c.Running || !c.Restarting || c.Restarts != 7 {
		t.Errorf("got %+v", c)
	}
	if running, paused, err := e.State(t.Context(), "broken-id"); running || paused || err != nil {
		t.Errorf("state: %t, %t, %v", running, paused, err)
	}
	started := time.Date(2026, 1, 2, 3, 4, 5, 6e8, time.UTC)
	for _, c := range []struct {
		name  string
		at    string
		count int
		want  bool
	}{
		{"not started since", "2026-01-02T03:04:05.6Z", 7, false},
		{"started and ended", "2026-01-02T03:05:00Z", 8, true},
		{"started when it was over", "2026-01-02T04:05:00Z", 8, false},
		{"started twice, the last time when it was over", "2026-01-02T04:05:00Z", 9, true},
	} {
		f.answers["/containers/broken-id/json"] = object{"Id": "broken-id", "RestartCount": c.count, "State": object{"StartedAt": c.at}}
		ran, err := e.Ran(t.Context(), []Container{{ID: "broken-id", StartedAt: started, Restarts: 7}}, started.Add(10*time.Minute))
		if err != nil || (len(ran) == 1) != c.want {
			t.Errorf("%s: %v, %v", c.name, ran, err)
		}
	}
}

func TestOwners(t *testing.T) {
	for want, l := range map[string]labels{
		"":                             {"com.docker.compose.project": "x"},
		"the Swarm service shop_db":    {swarmTask: "t1", swarmService: "shop_db"},
		"the Swarm service of task t1": {swarmTask: "t1"},
		"the systemd unit db.service":  {systemdUnit: "db.service"},
	} {
		if got := (Container{Labels: l}).Owner(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestAnEndedProcessIsNotElsewhere: a process that has ended and was not waited for yet
// has left its cgroup (version 1), and is no sign of a container that moved it.
func TestAnEndedProcessIsNotElsewhere(t *testing.T) {
	child := exec.CommandContext(t.Context(), "true")
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	for {
		if p, err := proc.Look(child.Process.Pid); err != nil || !p.Alive() {
			break
		}
		time.Sleep(time.Millisecond)
	}
	c := Container{ID: "c1", Name: "job", Running: true, Pid: child.Process.Pid}
	if err := c.locate(""); err != nil {
		t.Errorf("one that has ended: %v", err)
	}
	if err := child.Wait(); err != nil {
		t.Fatal(err)
	}
	c.Pid = os.Getpid()
	if err := c.locate(""); !errors.Is(err, ErrElsewhere) {
		t.Errorf("one of another cgroup: %v", err)
	}
}
