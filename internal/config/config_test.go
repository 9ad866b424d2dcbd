package config

import (
	"errors"
	"strings"
	"testing"
	"time"

	"snapd/internal/advice"

	"github.com/google/go-cmp/cmp"
)

const good = `
[repository.main]
url        = "s3://backups/host1"
endpoint   = "https://minio.example:9000"
recipients = ["age1abc"]
signing-key-file = "/etc/snapd-agent/signing.key"

[group.shop]
compose-project = "shop"
freeze       = "auto"
max-window   = "5s"
hold-timeout = "10s"
hook-timeout = "60s"
on-overrun   = "fail"
schedule     = "hourly"
repositories = ["main"]
keep-local   = "7d"
keep         = "24 hourly, 7 daily, 4 weekly, 12 monthly"
`

func TestParseTakesTheDesignsExample(t *testing.T) {
	c, err := Parse("snapd.toml", []byte(good))
	if err != nil {
		t.Fatal(err)
	}
	got := c.Group("shop", c.Groups["shop"])
	project := "shop"
	want := Group{Name: "shop", Settings: Settings{
		ComposeProject: &project, Freeze: FreezeAuto, MaxWindow: Duration(5 * time.Second),
		HoldTimeout: Duration(10 * time.Second), HookTimeout: Duration(time.Minute), OnOverrun: OverrunFail, Schedule: "hourly",
		Repositories: []string{"main"}, KeepLocal: Duration(7 * 24 * time.Hour), Keep: DefaultKeep(),
		FullEvery: Span(180 * 24 * time.Hour),
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if r := c.Repositories["main"]; !r.Prune || r.Encryption != EncryptionAge || r.RetryFor != DefaultRetryFor {
		t.Errorf("defaults of the repository: %+v", r)
	}
}

func TestParseNamesFileLineKeyAndTheNearestRightOne(t *testing.T) {
	cases := []struct{ name, change, to, want string }{
		{"wrong key", `max-window   = "5s"`, `max-windw = "5s"`, `f.toml:11: group.shop.max-windw: no such key; write "max-window", if that is meant`},
		{"wrong key of a repository", `url        =`, `uri =`, `f.toml:3: repository.main.uri: no such key; write "url", if that is meant`},
		{"wrong table", `[group.shop]`, `[groups.shop]`, `f.toml:8: groups: no such key; write "group", if that is meant`},
		{"bad duration", `"5s"`, `"5 parsecs"`, `f.toml:11: group.shop.max-window: "5 parsecs" is not a duration`},
		{"bad span", `keep-local   = "7d"`, `full-every = "always"`, `f.toml:17: group.shop.full-every: "always" is not a duration`},
		{"negative duration", `"5s"`, `"-5s"`, `f.toml:11: group.shop.max-window: "-5s" is not a positive duration`},
		{"bad mode", `"auto"`, `"frezee"`, `f.toml:10: group.shop.freeze: "frezee" is not one of auto, none, freeze, pause, stop; write "freeze", if that is meant`},
		{"unknown repository", `["main"]`, `["mian"]`, `f.toml:16: group.shop.repositories: there is no [repository.mian]; write "main", if that is meant`},
		{"bad keep", `24 hourly`, `many hourly`, `f.toml:18: group.shop.keep: "many" is not a number of points above 0`},
		{"bad schedule", `"hourly"`, `"hourly; rm -rf /"`, `f.toml:15: group.shop.schedule: "hourly; rm -rf /" is not a systemd calendar expression`},
		{"no bucket", `s3://backups/host1`, `s3:///host1`, `f.toml:3: repository.main.url: "s3:///host1" names no bucket`},
		{"no endpoint", `endpoint   = "https://minio.example:9000"`, ``, `f.toml:2: repository.main.endpoint: "" is not the address of an S3 server`},
		{"no recipients", `recipients = ["age1abc"]`, ``, `f.toml:2: repository.main: names no recipients`},
		{"wrong type", `"5s"`, `5`, `f.toml:11: group.shop.max-window:`},
		{"bad group name", `[group.shop]`, `[group."The Shop"]`, `f.toml:8: group.The Shop: "The Shop" cannot be a group's name`},
		{"not TOML", `[group.shop]`, `[group.shop`, `f.toml:8`},
		{"twice", `on-overrun   = "fail"`, "on-overrun = \"fail\"\non-overrun = \"fail\"", `f.toml:15: on-overrun: key on-overrun is already defined`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(good, c.change, c.to, 1)
			if text == good {
				t.Fatal("the case changes nothing")
			}
			_, err := Parse("f.toml", []byte(text))
			if err == nil {
				t.Fatal("no error")
			}
			if got := err.Error() + "; " + advice.Of(err); !strings.HasPrefix(got, c.want) {
				t.Errorf("got  %s\nwant %s…", got, c.want)
			}
			if !errors.Is(err, advice.Usage) || advice.Of(err) == "" {
				t.Errorf("of the class: %v, advice %q", errors.Is(err, advice.Usage), advice.Of(err))
			}
			if strings.Count(err.Error(), "\n") > 0 {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
}

func TestLabels(t *testing.T) {
	l, err := ParseLabels(map[string]string{
		"snapd.enable": "true", "snapd.group": "shop", "snapd.volumes": "data, /var/lib/x", "other": "x",
	}, map[string]string{"snapd.group": "shop"})
	if err != nil {
		t.Fatal(err)
	}
	if l.Enable == nil || !*l.Enable || l.Group != "" {
		t.Errorf("a label equal to the image's must be ignored: %+v", l)
	}
	if d := cmp.Diff([]string{"data", "/var/lib/x"}, l.Settings.Volumes); d != "" {
		t.Error(d)
	}
	for label, want := range map[string]string{
		"snapd.enabel":    `write "enable", if that is meant`,
		"snapd.quiesce":   "is not one of none, postgres, mariadb",
		"snapd.holt":      `write "hold", if that is meant`,
		"snapd.exec.user": "is not a user of a container",
		"snapd.freeze":    "is not one of",
		"snapd.group":     "cannot be a group's name",
	} {
		if _, err := ParseLabels(map[string]string{label: "Bad Value"}, nil); err == nil || !strings.Contains(err.Error()+"; "+advice.Of(err), want) || !strings.Contains(err.Error(), label) {
			t.Errorf("%s: %v", label, err)
		}
	}
}

func TestConfigurationBeatsLabelsKeyByKey(t *testing.T) {
	w := Duration(time.Second)
	got := Settings{Freeze: FreezeNone}.Over(Settings{Freeze: FreezePause, MaxWindow: w})
	if got.Freeze != FreezeNone || got.MaxWindow != w {
		t.Errorf("%v %v", got.Freeze, got.MaxWindow)
	}
}

func TestSchedules(t *testing.T) {
	for _, s := range []string{"hourly", "*-*-* 03:30", "Mon..Fri 22:00", "Mon,Tue *-*-01..04 12:00:00", "*:0/15", "Sat", "2026-*-* 00:00:00 Europe/Berlin", "05-01"} {
		if err := CheckSchedule(s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"", "hourly daily", "UTC", "now\nExecStart=/bin/sh", "* * * * *", "%i"} {
		if CheckSchedule(s) == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}
