package fstest

import (
	"path/filepath"
	"strings"
	"testing"

	"snapd/internal/fs"
)

// TestContract: the driver in memory keeps the whole contract, and so do the
// richer streams and receivers that it can have.
func TestContract(t *testing.T) {
	t.Run("plain", func(t *testing.T) { Run(t, memoryHarness(t, &Memory{})) })
	t.Run("with all", func(t *testing.T) {
		m := &Memory{Fixed: true, Resumes: true, Continues: true, StreamNotes: []string{"a note"}}
		h := memoryHarness(t, m)
		h.Driver = struct {
			*Memory
			*Marks
			*Resuming
		}{m, NewMarks(m), NewResuming(m)}
		RunSome(t, h, "delete", "skipped increments", "wrong base", "cut stream", "reader fails", "receive is cancelled", "send is closed early", "replace")
	})
}

// memoryHarness makes the datasets of a driver in memory.
func memoryHarness(t testing.TB, m *Memory) Harness {
	t.Helper()
	dir := t.TempDir()
	full := t.TempDir()
	m.Room = map[string]int64{full: 40 << 20}
	return Harness{
		Driver: struct {
			*Memory
			*Owning
			*Opening
		}{m, NewOwning(m), NewOpening(m)},
		Names: []string{
			"plain", "with space", "a@b", "ünïcödé 漢字", "new\nline", "tab\t", "back\\slash 040", "not utf-8 \xff", "#hash", "[brackets]",
			strings.Repeat("n", 255),
		},
		NewDataset: func(t testing.TB, name string) string {
			d, err := m.Add(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := m.Remove(d.GUID, true); err != nil {
					t.Error(err)
				}
			})
			return d.Name
		},
		NewTarget:  func(_ testing.TB, name string) string { return filepath.Join(dir, "target "+name) },
		FullTarget: func(testing.TB) string { return filepath.Join(full, "target") },
		Show:       func(_ testing.TB, dataset fs.Dataset) string { return dataset.Name },
		Exists:     func(t testing.TB, target string) bool { return newMaker(t, "", 0).exists(target) },
		Leftovers:  func(_ testing.TB, target string) []string { return m.Leftovers(target) },
	}
}
