package point

import (
	"strings"
	"testing"
	"time"
)

func TestAChangeMovesNoCursor(t *testing.T) {
	was := Item{Kind: ItemBind, Member: "web", Target: "/a\x1b[2J\nö \"b\" \\", Place: Place{Driver: "btrfs", Dataset: "/srv", Origin: "o", Path: "."}}
	c := Change{Item: was.String(), What: ItemLost, Was: was, Since: Since{Point: "p", Time: time.Unix(0, 0)}}
	want := `/a\x1b[2J\nö "b" \ of web (btrfs /srv) is not in the group any more, since point p of 1970-01-01 00:00 UTC`
	if got := c.String(); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestItemsAreKnownAgain(t *testing.T) {
	bind := Item{Kind: ItemBind, Project: "shop", Member: "db", Target: "/data"}
	volume := Item{Kind: ItemVolume, Project: "shop", Member: "db", Target: "/data", Volume: strings.Repeat("0f", 32)}
	if bind.Key() != volume.Key() || bind.Anonymous() || !volume.Anonymous() {
		t.Errorf("%+v %+v", bind.Key(), volume.Key())
	}
	if path := (Item{Kind: ItemPath, Target: "/data"}); path.Key() == (Item{Kind: ItemBind, Target: "/data"}).Key() {
		t.Error("a path is taken for a mount")
	}
}
