package dir

import (
	"errors"
	"strings"
	"syscall"
	"testing"

	"snapd/internal/advice"
	"snapd/internal/ship"
)

// TestReadOnlyToTheAgent: right after init the agent's unit does not know the
// repository's directory yet, and owner and mode are not to blame.
func TestReadOnlyToTheAgent(t *testing.T) {
	s := &Store{root: "/srv/snap d"}
	err := s.explain(syscall.EROFS)
	if do := advice.Of(err); !errors.Is(err, ship.ErrDenied) || !strings.Contains(do, "snapd schedule") || strings.Contains(do, "owner") {
		t.Errorf("%v; %s", err, do)
	}
	if do := advice.Of(s.explain(syscall.EACCES)); !strings.Contains(do, "owner") {
		t.Errorf("no right: %s", do)
	}
}
