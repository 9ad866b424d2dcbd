package vmtest

import (
	"testing"
)

// New boots a guest for one test and ends it with the test. When the test
// fails, the last lines of the console are shown.
func New(t testing.TB, spec Spec) *Guest {
	t.Helper()
	g, err := Boot(t.Context(), spec)
	if err != nil {
		t.Fatalf("boot a guest: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the guest's console, last lines:\n%s", g.console().tail(25))
		}
		if err := g.Close(); err != nil {
			t.Errorf("end the guest: %v", err)
		}
	})
	return g
}

// Sh runs one shell line that must succeed and returns its standard output.
func (g *Guest) Sh(t testing.TB, line string) string {
	t.Helper()
	out, err := g.Must(t.Context(), line)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
