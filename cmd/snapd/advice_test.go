package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/config"
	"snapd/internal/fs"
	"snapd/internal/fs/btrfs"
	"snapd/internal/fs/lvm"
	"snapd/internal/fs/zfs"
	"snapd/internal/inside"
	"snapd/internal/plan"
	"snapd/internal/ship"
	"snapd/internal/ship/dir"
	"snapd/internal/ship/s3"
	"snapd/internal/ship/shiptest"
	"snapd/internal/workload"
)

// imperative is what advice looks like in the text of an error.
var imperative = regexp.MustCompile(`(;|—|\(|: )\s*(run|use|add|remove|make|set|write|name|start|give|wait|choose|mount|unmount|free|raise|look|see|check|move|install|try|restart|repair|correct|mend|take|leave|list|say|put)\b|did you mean|[; ]--[a-z]`)

// plainly checks one error: what stands where, and that something stands there.
func plainly(t *testing.T, name string, err error) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: no error", name)
		return
	}
	why, do := err.Error(), whatToDo(err)
	if m := imperative.FindString(why); m != "" {
		t.Errorf("%s: why has advice in it (%q): %s", name, m, why)
	}
	if do == "" {
		t.Errorf("%s: nothing to do about: %s", name, why)
	}
	if strings.HasSuffix(do, ".") || strings.Contains(why, do) && do != "" {
		t.Errorf("%s: %s\ndo: %s", name, why, do)
	}
	for _, old := range []string{"wrong usage", "done in part", "busy", "damage was found", "partial", "usage", "damaged"} {
		if strings.HasPrefix(why, old) {
			t.Errorf("%s: begins with the name of a class: %s", name, why)
		}
	}
}

// Every refusal of a plan.
func TestRefusalsOfPlansSayWhatToDo(t *testing.T) {
	on := func(domains ...string) (out []plan.Dataset) {
		for _, d := range domains {
			out = append(out, plan.Dataset{Dataset: fs.Dataset{Driver: fs.ZFS, Domain: d, Name: d + "/data", GUID: d}})
		}
		return out
	}
	db := plan.Member{Kind: plan.Container, ID: "1", Name: "db", Running: true, Cgroup: true}
	gone, unit := db, db
	gone.AutoRemove, unit.Kind = true, "unit"
	for name, in := range map[string]plan.Input{
		"no dataset":              {Freeze: config.FreezeAuto},
		"several without members": {Freeze: config.FreezeAuto, Datasets: on("a", "b")},
		"a filesystem that cannot": {Freeze: config.FreezeAuto, Datasets: on("a", "b"), Filesystems: []fs.Filesystem{
			{Dataset: on("a")[0].Dataset, Dir: "/a", Refuses: "it is vfat"},
		}},
		"crash over several": {Freeze: config.FreezeAuto, OnOverrun: config.OverrunCrash, Datasets: on("a", "b"), Members: []plan.Member{db}},
		"stop what vanishes": {Freeze: config.FreezeStop, Datasets: on("a"), Members: []plan.Member{gone}},
		"stop a unit":        {Freeze: config.FreezeStop, Datasets: on("a"), Members: []plan.Member{unit}},
	} {
		in.Group = "shop"
		_, err := plan.Make(in)
		err = fmt.Errorf("restore point of group shop: %w", err)
		refusal, ok := errors.AsType[*plan.Refusal](err)
		if !ok || whatToDo(err) != refusal.Do {
			t.Errorf("%s: got %v; do %q", name, err, whatToDo(err))
		}
		if name == "stop what vanishes" { // --rm is Docker's
			err = advice.With(errors.New(strings.ReplaceAll(err.Error(), "--rm", "rm")), "%s", refusal.Do)
		}
		plainly(t, name, err)
	}
}

// Everything that can be wrong in a configuration, in a label, in a recovery kit.
func TestFaultsOfConfigurationsSayWhatToDo(t *testing.T) {
	const repo = "[repository.main]\nurl = \"s3://b/p\"\nendpoint = \"https://h\"\nrecipients = [\"age1x\"]\n"
	for _, text := range []string{
		"x", "nonsense = 1", "[group.shop]\nfreze = \"auto\"", "[group.shop]\nfreeze = \"x\"", "[group.shop]\nfreeze = 1",
		"[group.shop]\nmax-window = \"5 parsecs\"", "[group.shop]\nmax-window = \"-5s\"", "[group.shop]\npaths = [\"srv\"]", "[group.shop]\npaths = \"/srv\"",
		"[group.shop]\nrepositories = [\"mian\"]", "[group.shop]\nschedule = \"often\"", "[group.shop]\nkeep = \"1\"", "[group.shop]\nkeep = \"0 daily\"",
		"[group.shop]\nkeep = \"1 dayly\"", "[group.shop]\nkeep = \"1 daily, 2 daily\"", "[group.shop]\non-overrun = \"go\"", "[group.Shop_X]\npaths = [\"/srv\"]",
		"[group.shop.container.db]\nhold = \"'\"", "[group.shop.container.db]\nhold = \"\"", "[group.shop.container.db]\nquiesce = \"mysql\"", "[group.shop.container.db]\nexec-user = \";\"",
		"[repository.X]\nurl = \"file:///x\"\nencryption = \"none\"", "[repository.main]\nurl = \"\"", "[repository.main]\nurl = \"file://x\"", "[repository.main]\nurl = \"ftp://x\"",
		"[repository.main]\nurl = \"s3:///x\"", "[repository.main]\nurl = \"s3://b\"", "[repository.main]\nurl = \"file:///x\"\nendpoint = \"https://h\"", "[repository.main]\nurl = \"file:///x\"",
		repo + "encryption = \"none\"", repo + "encryption = \"rot13\"", repo + "retry-for = \"x\"",
	} {
		_, err := config.Parse("snapd.toml", []byte(text))
		plainly(t, text, err)
		if status(t.Context(), err) != exitUsage {
			t.Errorf("%s: exit status %d", text, status(t.Context(), err))
		}
	}
	for label, value := range map[string]string{"enable": "perhaps", "group": "A B", "freeze": "x", "max-window": "x", "schedule": "x", "volumes": ",", "enabel": "1", "hold": "'", "exec.user": ";"} {
		_, err := config.ParseLabels(map[string]string{config.LabelPrefix + label: value}, nil)
		if do := advice.Of(err); err == nil || imperative.MatchString(err.Error()) || do == "" && label != "freeze" {
			t.Errorf("label %s: %v; do %q", label, err, do)
		}
		_, problems := workload.Groups(&config.Config{}, []workload.Container{{ID: "1", Name: "db", Labels: map[string]string{config.LabelPrefix + label: value}}})
		for _, p := range problems {
			plainly(t, "label "+label, p.Err())
		}
	}
	for _, kit := range []string{"", "x", "[repository.main]\nurl = \"file:///x\"", "[repository.main]\nurl = \"x\"\nsigner = \"RW\""} {
		_, err := config.ParseKit("kit.txt", []byte(kit))
		plainly(t, "kit "+kit, err)
	}
}

// Every class and sentinel that there is an answer to, as it comes wrapped; and
// the same from the agent's own process, whose kinds travel by name.
func TestEveryClassHasAnAnswer(t *testing.T) {
	here := []error{ // made in the caller's process only
		agent.NoTarget, agent.EitherOr, agent.OneName, agent.OneByOne, agent.NoCheck, agent.FileThere, agent.NoTmpfs, agent.NotHere, inside.ErrExists,
	}
	for _, a := range answers() {
		err := fmt.Errorf("open x: %w", a.to)
		if class, ok := a.to.(advice.Class); ok {
			err = advice.In(class, errors.New("x is not as it should be"))
		}
		plainly(t, a.to.Error(), err)
		if got := whatToDo(err); got != a.do {
			t.Errorf("%v: got %q, want %q", a.to, got, a.do)
		}
		if got := whatToDo(advice.With(err, "this is better")); got != "this is better" {
			t.Errorf("%v: its own advice has to win, got %q", a.to, got)
		}
		if slices.Contains(here, a.to) {
			continue
		}
		if got := whatToDoAbout(agent.WarningOf("", err)); got != a.do {
			t.Errorf("%v, from the agent: got %q, want %q", a.to, got, a.do)
		}
	}
	local := advice.In(agent.SnapshotsHere, fmt.Errorf("repository main: %w", ship.ErrUnavailable))
	if do := whatToDo(local); !strings.Contains(do, "check the endpoint") || !strings.Contains(do, "--local") {
		t.Errorf("got %q", do)
	}
	for class, want := range map[advice.Class]int{advice.Usage: exitUsage, advice.Partial: exitPartial, advice.Busy: exitBusy, advice.Damaged: exitDamaged} {
		if got := status(t.Context(), fmt.Errorf("x: %w", advice.In(class, errors.New("y")))); got != want {
			t.Errorf("%s: exit status %d, want %d", class, got, want)
		}
	}
	if got := status(t.Context(), ship.ErrBusy); got != exitBusy {
		t.Errorf("a ship that is under way: exit status %d", got)
	}
}

// What the agent, the stores and the drivers say, as far as no storage is needed.
func TestFaultsOfOperationsSayWhatToDo(t *testing.T) {
	place := t.TempDir()
	a, err := agent.New(agent.Options{
		Config:  &config.Config{File: "snapd.toml", Repositories: map[string]config.Repository{}, Groups: map[string]config.Settings{}},
		Drivers: map[string]fs.Driver{fs.Btrfs: btrfs.New(), fs.ZFS: zfs.New(), fs.LVM: lvm.New(place)},
		State:   filepath.Join(place, "state"), Run: filepath.Join(place, "run"), Now: time.Now, Report: func(agent.Event) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]agent.RestoreOptions{
		"no target":       {Point: "latest"},
		"no driver":       {Point: "latest", To: "/srv/x"},
		"unknown driver":  {Point: "latest", To: "xfs:/srv/x"},
		"two wishes":      {Point: "latest", To: "btrfs:/srv/x", Beside: true, Replace: true},
		"a check of ours": {Point: "latest", To: "btrfs:/srv/x", Check: true},
		"no such point":   {Point: "latest", To: "btrfs:/srv/x"},
		"no repository":   {Point: "latest", To: "btrfs:/srv/x", Repository: "mian"},
	} {
		_, err := a.Restore(t.Context(), o)
		plainly(t, name, err)
	}
	_, err = a.Verify(t.Context(), agent.VerifyOptions{})
	plainly(t, "verify nothing", err)
	_, err = a.Show(t.Context(), "zzz")
	plainly(t, "show nothing", err)
	_, err = agent.Init(t.Context(), agent.InitOptions{File: filepath.Join(place, "none.toml")}, "host", time.Now)
	plainly(t, "init without a repository", err)
	if err := os.WriteFile(filepath.Join(place, "there.toml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = agent.Init(t.Context(), agent.InitOptions{File: filepath.Join(place, "there.toml"), URL: "file:///x"}, "host", time.Now)
	plainly(t, "init of what is there", err)
	_, err = workload.Find(nil, nil, "shop")
	plainly(t, "no group at all", err)
	_, err = workload.Find(nil, []workload.Problem{{Group: "shop", Why: "x", Do: "y"}}, "shpo")
	plainly(t, "no such group", err)
	for _, target := range []string{"srv/x", "/", "/none-of/this/x", "/proc/x", place + "/" + strings.Repeat("x", 300)} {
		_, err := btrfs.New().Receive(t.Context(), target, fs.Placement{})
		plainly(t, "btrfs:"+target, err)
	}
	for _, target := range []string{"vg", "vg/a/b/c", "vg/snapshot1", "vg/" + fs.SnapshotPrefix + "x"} {
		_, err := lvm.New(place).Receive(t.Context(), target, fs.Placement{})
		plainly(t, "lvm:"+target, err)
	}
}

func TestFaultsOfRepositoriesSayWhatToDo(t *testing.T) {
	place := t.TempDir()
	signer, err := ship.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	_, err = ship.Open(t.Context(), shiptest.NewMemory(), ship.OpenOptions{Signer: signer})
	plainly(t, "no repository", err)
	_, err = ship.Open(t.Context(), shiptest.NewMemory(), ship.OpenOptions{})
	plainly(t, "no signer", err)
	other, err := ship.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	store := shiptest.NewMemory()
	if _, err := ship.Create(t.Context(), store, ship.CreateOptions{Signer: other, Encryption: ship.EncryptionNone, Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	_, err = ship.Open(t.Context(), store, ship.OpenOptions{Trusted: signer.Public()})
	plainly(t, "another host's", err)
	if !errors.Is(err, ship.OtherSigner) {
		t.Errorf("another host's: got %v", err)
	}
	_, err = ship.LoadSigner(filepath.Join(place, "none"))
	plainly(t, "no signing key", err)
	if err := os.WriteFile(filepath.Join(place, "open"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err = ship.LoadSigner(filepath.Join(place, "open"))
	plainly(t, "a key that all users can read", err)
	d, err := dir.New(filepath.Join(place, "gone"))
	if err != nil {
		t.Fatal(err)
	}
	plainly(t, "no directory", d.Put(t.Context(), "a", []byte("x"), false))
	_, err = s3.New(s3.Options{Endpoint: "https://h/x", Bucket: "b"})
	plainly(t, "endpoint", err)
	server, err := s3.New(s3.Options{Endpoint: "http://127.0.0.1:1", Bucket: "bucket", AccessKey: "a", SecretKey: "b"})
	if err != nil {
		t.Fatal(err)
	}
	plainly(t, "no server listens", server.List(t.Context(), "", func(ship.Object) error { return nil }))
}
