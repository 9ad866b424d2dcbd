package workload

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"snapd/internal/advice"
	"snapd/internal/config"
)

type labels = map[string]string

// lone and composed make containers as the engine would describe them.
func lone(name string, l labels, mounts ...Mount) Container {
	return Container{ID: name + "-id", Name: name, Running: true, Labels: l, Mounts: mounts}
}

func composed(project, service string, l labels, mounts ...Mount) Container {
	c := lone(project+"-"+service+"-1", l, mounts...)
	c.Project, c.Service = project, service
	return c
}

func on(more ...string) labels {
	l := labels{"snapd.enable": "true"}
	for i := 0; i < len(more); i += 2 {
		l[more[i]] = more[i+1]
	}
	return l
}

func vol(name, target string) Mount {
	return Mount{Kind: Volume, Volume: name, Target: target, Writable: true}
}

// grouped says groups and members as text: "shop: a b".
func grouped(groups []Group) []string {
	var out []string
	for _, g := range groups {
		line := g.Name + ":"
		for _, m := range g.Members {
			line += " " + m.Name
		}
		out = append(out, line)
	}
	return out
}

func TestGroups(t *testing.T) {
	cases := []struct {
		name       string
		toml       string
		containers []Container
		want       []string
		problems   []string // parts of each, in order
	}{
		{name: "nothing", containers: []Container{lone("db", nil)}},
		{name: "lone by its name", containers: []Container{lone("DB", on())}, want: []string{"db: DB"}},
		{name: "lone by label", containers: []Container{lone("db", on("snapd.group", "data")), lone("web", on("snapd.group", "data"))}, want: []string{"data: db web"}},
		{
			name: "two lone ones whose names become one", containers: []Container{lone("Web", on()), lone("web", on())},
			want: []string{"web: Web"}, problems: []string{"container web: snapd.group: its name would make it part of the group web, which belongs to container Web"},
		},
		{name: "a lone one with another's name", containers: []Container{lone("aa", on("snapd.group", "db")), lone("db", on())}, want: []string{"db: aa db"}},
		{name: "name too long", containers: []Container{lone(strings.Repeat("x", 64), on())}, problems: []string{"give the container the label snapd.group"}},
		{
			name: "one enrols the project", containers: []Container{composed("shop", "db", on()), composed("shop", "web", nil), composed("shop", "cache", labels{"snapd.enable": "false"}), composed("other", "db", nil)},
			want: []string{"shop: shop-db-1 shop-web-1"},
		},
		{
			name: "the enrolling one names the group of all", containers: []Container{composed("shop", "db", on("snapd.group", "store")), composed("shop", "web", nil)},
			want: []string{"store: shop-db-1 shop-web-1"},
		},
		{
			name: "a label takes one out of the project's group", containers: []Container{composed("shop", "db", on()), composed("shop", "log", labels{"snapd.group": "logs"})},
			want: []string{"logs: shop-log-1", "shop: shop-db-1"},
		},
		{name: "an image does not enrol itself", containers: []Container{func() Container {
			c := lone("evil", on())
			c.ImageLabels = labels{"snapd.enable": "true"}
			return c
		}()}},
		{name: "an image that is gone", containers: []Container{func() Container {
			c := lone("db", on())
			c.ImageGone = true
			return c
		}()}, problems: []string{"the image it was made from is gone"}},
		{
			name: "no other project's group", containers: []Container{composed("shop", "db", on()), lone("evil", on("snapd.group", "shop"))},
			want: []string{"shop: shop-db-1"}, problems: []string{"container evil: snapd.group: shop is the group of Compose project shop, which a label cannot join"},
		},
		{
			name: "nor by its name", containers: []Container{composed("shop", "db", nil), lone("shop", on())},
			problems: []string{"container shop: snapd.group: its name would make it part of the group shop, which belongs to Compose project shop"},
		},
		{
			name: "nor one that the configuration gives to a project", toml: "[group.shop]\ncompose-project = \"shop\"", containers: []Container{composed("shop", "db", nil), lone("evil", on("snapd.group", "shop"))},
			want: []string{"shop: shop-db-1"}, problems: []string{"which a label cannot join"},
		},
		{
			name: "unless the configuration names it", toml: "[group.shop]\ncompose-project = \"shop\"\ncontainers = [\"other\"]", containers: []Container{composed("shop", "db", nil), lone("other", on("snapd.group", "shop"))},
			want: []string{"shop: other shop-db-1"},
		},
		{
			name: "labels of two projects make no group", containers: []Container{composed("aa", "db", on("snapd.group", "both")), composed("bb", "db", on("snapd.group", "both"))},
			problems: []string{"labels alone cannot put them into one group"},
		},
		{
			name: "unless the configuration has it", toml: "[group.both]\nfreeze = \"freeze\"", containers: []Container{composed("aa", "db", on("snapd.group", "both")), composed("bb", "db", on("snapd.group", "both"))},
			want: []string{"both: aa-db-1 bb-db-1"},
		},
		{
			name: "configuration under another name", toml: "[group.nightly]\ncompose-project = \"shop\"", containers: []Container{composed("shop", "db", on()), composed("shop", "web", labels{"snapd.enable": "false"})},
			want: []string{"nightly: shop-db-1"},
		},
		{
			name: "containers by name, and paths", toml: "[group.a]\ncontainers = [\"db\"]\n[group.b]\npaths = [\"/srv\"]", containers: []Container{lone("db", nil)},
			want: []string{"a: db", "b:"},
		},
		{
			name: "no such container", toml: "[group.a]\ncontainers = [\"db-mian\"]", containers: []Container{lone("db-main", nil)},
			problems: []string{`group.a.containers: there is no container "db-mian"; correct the name, such as db-main if that is meant ("docker ps --all" lists them)`},
		},
		{name: "no such project", toml: "[group.a]\ncompose-project = \"shpo\"", containers: []Container{composed("shop", "db", nil)}, problems: []string{"such as shop if that is meant"}},
		{name: "without an engine", toml: "[group.a]\ncontainers = [\"db\"]\n[group.b]\npaths = [\"/srv\"]", want: []string{"b:"}, problems: []string{"start the engine"}},
		{name: "nothing belongs to it", toml: "[group.a]\nschedule = \"daily\"", problems: []string{"nothing belongs to this group"}},
		{name: "units", toml: "[group.a]\nunits = [\"x.service\"]\npaths = [\"/srv\"]", want: []string{"a:"}},
		{name: "units without paths", toml: "[group.a]\nunits = [\"x.service\"]", problems: []string{"snapd cannot find out where units write to"}},
		{
			name: "members disagree", containers: []Container{composed("shop", "db", on("snapd.max-window", "1s")), composed("shop", "web", labels{"snapd.max-window": "2s"})},
			problems: []string{"container shop-web-1: snapd.max-window: says 2s, and container shop-db-1 of the same group says otherwise"},
		},
		{
			name: "and the configuration decides", toml: "[group.shop]\nmax-window = \"3s\"", containers: []Container{composed("shop", "db", on("snapd.max-window", "1s")), composed("shop", "web", labels{"snapd.max-window": "2s"})},
			want: []string{"shop: shop-db-1 shop-web-1"},
		},
		{
			name: "a bad label spoils its group", containers: []Container{composed("shop", "db", on()), composed("shop", "web", labels{"snapd.freeze": "frezee"}), lone("fine", on())},
			want: []string{"fine: fine"}, problems: []string{"container shop-web-1: snapd.freeze:"},
		},
		{name: "a label that does not exist", containers: []Container{lone("db", on("snapd.enabel", "1"))}, problems: []string{`snapd.enabel: no such label; write "enable", if that is meant; then make the container anew`}},
		{name: "labels that enrol no container", containers: []Container{lone("db", labels{"snapd.volumes": "x"})}, problems: []string{"nothing enrols it"}},
		{name: "volumes of another", containers: []Container{lone("db", on("snapd.volumes", "/date"), vol("v", "/data"))}, problems: []string{`"/date" is none of its own mounts; name a volume or the path in the container where it is mounted, such as /data if that is meant`}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg, err := config.Parse("f.toml", []byte(c.toml))
			if err != nil {
				t.Fatal(err)
			}
			groups, problems := Groups(cfg, c.containers)
			if got := grouped(groups); !slices.Equal(got, c.want) {
				t.Errorf("groups %q, want %q", got, c.want)
			}
			if len(problems) != len(c.problems) {
				t.Fatalf("problems: %v", problems)
			}
			for i, p := range problems {
				if !strings.Contains(p.String()+"; "+p.Do, c.problems[i]) {
					t.Errorf("problem %q lacks %q", p, c.problems[i])
				}
			}
		})
	}
}

func TestMountsOfAGroup(t *testing.T) {
	containers := []Container{
		composed("shop", "db", on("snapd.volumes", "data,/logs/"), vol("shop_data", "/var/lib/db"), vol("shop_tmp", "/tmp"), vol("x", "/logs")),
		composed("shop", "web", nil, vol("shop_media", "/media")),
	}
	cases := []struct{ name, toml, want string }{
		{"by label, for that container only", "", "/logs /var/lib/db /media"},
		{"by configuration, for all", "[group.shop]\nvolumes = [\"tmp\", \"/media\"]", "/tmp /media"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			cfg, err := config.Parse("f.toml", []byte(c.toml))
			if err != nil {
				t.Fatal(err)
			}
			groups, problems := Groups(cfg, containers)
			if len(groups) != 1 {
				t.Fatal(problems)
			}
			var got, want []string
			for _, u := range groups[0].Mounts {
				got = append(got, u.Mount.Target)
			}
			want = strings.Fields(c.want)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
	cfg, err := config.Parse("f.toml", []byte("[group.shop]\nvolumes = [\"dota\"]"))
	if err != nil {
		t.Fatal(err)
	}
	if _, problems := Groups(cfg, containers); len(problems) != 1 || !strings.Contains(problems[0].Do, "data") {
		t.Errorf("got %v", problems)
	}
}

func TestFind(t *testing.T) {
	cfg, err := config.Parse("f.toml", []byte("[group.bad]\ncontainers = [\"none\"]"))
	if err != nil {
		t.Fatal(err)
	}
	groups, problems := Groups(cfg, []Container{lone("shop", on())})
	if g, err := Find(groups, problems, "shop"); err != nil || g.Name != "shop" {
		t.Errorf("%v, %v", g, err)
	}
	if _, err := Find(groups, problems, "shpo"); !errors.Is(err, ErrNoGroup) || !strings.Contains(advice.Of(err), "name shop, if that is meant") || !strings.Contains(advice.Of(err), "snapd status") {
		t.Errorf("got %v", err)
	}
	if _, err := Find(groups, problems, "bad"); err == nil || !strings.Contains(err.Error(), `there is no container "none"`) {
		t.Errorf("got %v", err)
	}
	if _, err := Find(nil, nil, "x"); err == nil || !strings.Contains(err.Error(), "there are no groups yet") {
		t.Errorf("got %v", err)
	}
}

// Compose puts its labels on images it builds as well, so that a container of
// a project can have the same project label as its image.
func TestComposeLabelsOfAnImage(t *testing.T) {
	image := labels{composeProject: "shop", composeService: "db", composeNumber: "1", composeHash: "image"}
	ran := Container{Labels: image, ImageLabels: image}
	ran.compose()
	if ran.Project != "" {
		t.Errorf("an image put itself into project %s", ran.Project)
	}
	made := Container{ImageLabels: image, Labels: labels{composeProject: "shop", composeService: "db", composeNumber: "1", composeHash: "mine", composeDependsOn: "cache:service_started:false, mail:service_healthy:true"}}
	made.compose()
	if made.Project != "shop" || made.Service != "db" || !slices.Equal(made.DependsOn, []string{"cache", "mail"}) {
		t.Errorf("got %+v", made)
	}
}

func TestMountPoints(t *testing.T) {
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink("/proc/self/status", link); err != nil {
		t.Fatal(err)
	}
	got, err := MountPoints(t.Context(), []string{link, "/proc", "/proc/not/there", "relative", "/"})
	if err != nil || !slices.Equal(got, []string{"/", "/proc"}) {
		t.Errorf("got %q, %v", got, err)
	}
}
