package workload

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"snapd/internal/config"
)

func TestDataDirOfKnownImages(t *testing.T) {
	for _, c := range []struct {
		image string
		env   []string
		want  string
	}{
		{"postgres:17", []string{"A=b", "PGDATA=/var/lib/postgresql/data"}, "/var/lib/postgresql/data"},
		{"docker.io/library/postgres:18", []string{"PGDATA=/var/lib/postgresql/18/docker/"}, "/var/lib/postgresql/18/docker"},
		{"timescale/timescaledb:latest-pg17", []string{"PGDATA=/home/postgres/data"}, "/home/postgres/data"},
		{"postgres", []string{"PGDATA=relative"}, "/var/lib/postgresql/data"},
		{"mariadb@sha256:00", nil, "/var/lib/mysql"},
		{"registry:5000/mysql", nil, "/var/lib/mysql"},
		{"redis:8", nil, "/data"},
		{"mongo:8", nil, "/data/db"},
		{"mongo-express", nil, ""},
		{"nginx", nil, ""},
	} {
		if got := dataDir(c.image, c.env); got != c.want {
			t.Errorf("%s %v: got %q, want %q", c.image, c.env, got, c.want)
		}
	}
}

func TestAmountsHaveTwoDigits(t *testing.T) {
	for want, a := range map[string]amount{
		"less than 100 kB": {files: 1}, "about 120 kB": {bytes: 123_000}, "about 41 MB": {bytes: 41_400_000}, "about 1 GB": {bytes: 999_900_000},
		"about 4.2 TB": {bytes: 4_210_000_000_000}, "more than 41 MB": {bytes: 41_000_000, more: true}, "more than 100 kB": {more: true},
	} {
		if got := a.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestEmpty(t *testing.T) {
	dir := t.TempDir()
	folder := func(name string) string {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		return filepath.Join(dir, name)
	}
	file := filepath.Join(folder("full @ö"), "a file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Dir(file), link); err != nil {
		t.Fatal(err)
	}
	folder("fresh/lost+found")
	folder("ours/.snapd-agent")
	folders := []string{folder("empty"), filepath.Dir(file), folder("fresh"), folder("ours"), filepath.Join(dir, "none"), file, link}
	want := []string{"empty", "full", "empty", "empty", "empty", "?", "?"}
	var got []string
	for _, e := range Empty(t.Context(), folders, 10*time.Second) {
		switch {
		case e == nil:
			got = append(got, "?")
		case *e:
			got = append(got, "empty")
		default:
			got = append(got, "full")
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A folder that hangs costs the answers after it, and no longer than was said.
func TestALookThatHangs(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	began := time.Now()
	got := looks(t.Context(), 3, 50*time.Millisecond, func(n int) (int, error) {
		if n == 1 {
			<-hang
		}
		return n, nil
	})
	if took := time.Since(began); took > 5*time.Second || got[0] == nil || got[1] != nil || got[2] != nil {
		t.Errorf("%v after %v", got, took)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if got := looks(over, 1, time.Minute, func(int) (int, error) { <-hang; return 0, nil }); got[0] != nil {
		t.Error("a call that was over got an answer")
	}
}

func TestWhatVolumesLeaveOut(t *testing.T) {
	cfg, err := config.Parse("f.toml", nil)
	if err != nil {
		t.Fatal(err)
	}
	groups, problems := Groups(cfg, []Container{lone("db", on("snapd.volumes", "wanted"), vol("wanted", "/data"), vol("0123", "/var/lib/db")), lone("all", on(), vol("all", "/data"))})
	if len(problems) > 0 || len(groups) != 2 || len(groups[0].LeftOut) != 0 || len(groups[1].LeftOut) != 1 || groups[1].LeftOut[0].Mount.Target != "/var/lib/db" {
		t.Errorf("%+v %v", groups, problems)
	}
}

func TestItemsOutliveContainers(t *testing.T) {
	one := composed("shop", "db", nil, vol("v", "/data"))
	run := composed("shop", "db", labels{composeOneOff: "True"}, vol("v", "/data"))
	task := lone("stack_db.1.8y2h", labels{swarmService: "stack_db", swarmStack: "stack"}, vol("v", "/data"))
	if i := itemOf(one, one.Mounts[0]); i.Project != "shop" || i.Member != "db" || i.Target != "/data" {
		t.Errorf("%+v", i)
	}
	if i := itemOf(task, task.Mounts[0]); i.Project != "stack" || i.Member != "stack_db" {
		t.Errorf("%+v", i)
	}
	if i := itemOf(run, run.Mounts[0]); i != nil {
		t.Errorf("what runs once has an item: %+v", i)
	}
}
