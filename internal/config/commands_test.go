package config

import (
	"strings"
	"testing"

	"snapd/internal/advice"

	"github.com/google/go-cmp/cmp"
)

func TestCommandsOfContainers(t *testing.T) {
	c, err := Parse("f.toml", []byte(`
[group.shop.container.db]
quiesce     = "mariadb"
exec-before = "sh -c 'dump \"$DB\" > \"/dump/my file.sql\"' # no comment"
exec-user   = "999:999"
[group.shop.container."web 1"]
hold = "lock --file /tmp/x"
`))
	if err != nil {
		t.Fatal(err)
	}
	l, err := ParseLabels(map[string]string{
		"snapd.quiesce": "postgres", "snapd.exec.before": "echo label", "snapd.exec.after": `rm "/dump/my file.sql"`,
		"snapd.hold": "from the image",
	}, map[string]string{"snapd.hold": "from the image"})
	if err != nil {
		t.Fatal(err)
	}
	got := c.Groups["shop"].Commands["db"].Over(l.Commands).WithDefaults()
	want := Commands{
		Quiesce: QuiesceMariaDB, Before: []string{"sh", "-c", `dump "$DB" > "/dump/my file.sql"`, "#", "no", "comment"},
		After: []string{"rm", "/dump/my file.sql"}, User: "999:999",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if got := c.Groups["shop"].Commands["web 1"].WithDefaults(); !got.Locks() || got.Hooks() || got.Quiesce != QuiesceNone {
		t.Errorf("%+v", got)
	}
	if (Commands{}).Any() || !l.Commands.Any() {
		t.Error("Any is wrong")
	}
}

func TestCommandsThatAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		`quiesce = "mysql"`:         `f:2: group.x.container.db.quiesce: "mysql" is not built in; take the recipe`,
		`quiesce = "postgre"`:       `f:2: group.x.container.db.quiesce: "postgre" is not one of none, postgres, mariadb; write "postgres", if that is meant`,
		`hold = "lock 'it"`:         `f:2: group.x.container.db.hold: "lock 'it" cannot be split into words`,
		`exec-before = " "`:         `f:2: group.x.container.db.exec-before: names no command`,
		`exec-after = "'' x"`:       `f:2: group.x.container.db.exec-after: names no command`,
		`exec-user = "root;reboot"`: `f:2: group.x.container.db.exec-user: "root;reboot" is not a user`,
		`exec.before = "x"`:         `f:2: group.x.container.db.exec.before: no such key`,
		`excc-before = "x"`:         `f:2: group.x.container.db.excc-before: no such key; write "exec-before", if that is meant`,
		`hold = ["a", "b"]`:         `f:2: group.x.container.db.hold: it is an array, and must be a string`,
	} {
		_, err := Parse("f", []byte("[group.x.container.db]\n"+text))
		if err == nil || !strings.HasPrefix(err.Error()+"; "+advice.Of(err), want) {
			t.Errorf("%s:\ngot  %v\nwant %s", text, err, want)
		}
	}
}
