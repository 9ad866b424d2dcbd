package fstest

import (
	"testing"

	"snapd/internal/fs"
)

// testHealth: of storage that is well nothing is said, nor of a dataset that is
// not here.
func testHealth(t *testing.T, h Harness) {
	teller, ok := h.Driver.(fs.HealthTeller)
	if !ok {
		return // a capability that this driver does not have
	}
	_, dataset := h.dataset(t, "well")
	gone := dataset
	gone.Name, gone.GUID, gone.Domain = "gone", "00000000-0000-0000-0000-00000000dead", ""
	for _, datasets := range [][]fs.Dataset{nil, {dataset}, {gone, dataset, dataset}, {gone}} {
		if found, err := teller.Health(t.Context(), datasets); len(found) > 0 || err != nil {
			t.Errorf("of %+v: %+v, %v", datasets, found, err)
		}
	}
}
