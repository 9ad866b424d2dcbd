package workload

import (
	"slices"
	"strings"
	"testing"

	"snapd/internal/config"
)

// TestExclude: what is left out is named, and only that.
func TestExclude(t *testing.T) {
	cfg := func(toml string) *config.Config {
		c, err := config.Parse("f.toml", []byte(toml))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	mounts := []Mount{vol("shop_data", "/data"), vol("shop_cache", "/cache"), {Kind: Bind, Source: "/mnt/nas", Target: "/nas", Writable: true}}
	cases := []struct {
		name, toml string
		more       []string // labels
		want       []string // targets of what belongs to the group
		problem    string
	}{
		{name: "all", want: []string{"/data", "/cache", "/nas"}},
		{name: "label", more: []string{"snapd.exclude", "cache, /nas"}, want: []string{"/data"}},
		{name: "configuration", toml: "[group.shop]\nexclude = [\"/nas/\"]", want: []string{"/data", "/cache"}},
		{name: "configuration beats the label", toml: "[group.shop]\nexclude = [\"/nas\"]", more: []string{"snapd.exclude", "data"}, want: []string{"/data", "/cache"}},
		{name: "and beats volumes", toml: "[group.shop]\nvolumes = [\"data\", \"cache\"]\nexclude = [\"cache\"]", want: []string{"/data"}},
		{name: "a wrong name", more: []string{"snapd.exclude", "cach"}, problem: `snapd.exclude: "cach" is none of its own mounts`},
		{name: "a wrong name in the configuration", toml: "[group.shop]\nexclude = [\"x\"]", problem: `group.shop.exclude: no container of the group mounts "x"`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			groups, problems := Groups(cfg(c.toml), []Container{composed("shop", "db", on(c.more...), mounts...)})
			if c.problem != "" {
				if len(groups) != 0 || len(problems) != 1 || !strings.Contains(problems[0].String(), c.problem) {
					t.Errorf("groups %v, problems %v", groups, problems)
				}
				return
			}
			if len(groups) != 1 || len(problems) != 0 {
				t.Fatalf("groups %v, problems %v", groups, problems)
			}
			var got []string
			for _, u := range groups[0].Mounts {
				got = append(got, u.Mount.Target)
			}
			if !slices.Equal(got, c.want) || len(groups[0].Mounts)+len(groups[0].Excluded) < len(mounts) && !strings.Contains(c.toml, "volumes") {
				t.Errorf("got %q, want %q; excluded %v", got, c.want, groups[0].Excluded)
			}
		})
	}
}

// TestHowAMountIsNamed: by what stays the same when its container is made anew.
func TestHowAMountIsNamed(t *testing.T) {
	for want, m := range map[string]Mount{
		"data": vol("data", "/a"), "/b": vol(strings.Repeat("0a", 32), "/b"), "/c": {Kind: Bind, Source: "/srv", Target: "/c"},
	} {
		if got := m.nameFor(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
