package host

import (
	"errors"
	"testing"
)

func TestWithoutLogind(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+t.TempDir()+"/no-bus")
	if _, err := Inhibit("a test"); !errors.Is(err, ErrNoLogind) {
		t.Errorf("got %v", err)
	}
	if err := (*Inhibitor)(nil).Release(); err != nil {
		t.Error(err)
	}
}
