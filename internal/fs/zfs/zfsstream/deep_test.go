package zfsstream

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/ship/shiptest"
)

// TestDeep: streams that were cut or reordered before they were encrypted are as
// good as any by their digests. A deep look finds each by its structure, and
// names the points that need it.
func TestDeep(t *testing.T) {
	store := shiptest.NewMemory()
	signer, err := ship.NewSigner()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ship.Create(t.Context(), store, ship.CreateOptions{Signer: signer, Encryption: ship.EncryptionNone, Now: time.Now()}); err != nil {
		t.Fatal(err)
	}
	repo, err := ship.Open(t.Context(), store, ship.OpenOptions{Signer: signer})
	if err != nil {
		t.Fatal(err)
	}
	put := func(format string, data []byte) point.ID {
		t.Helper()
		id := point.NewID(time.Now())
		guid := string(id)
		s, err := repo.Upload(t.Context(), ship.Head{Point: id, Driver: "zfs", Format: format, Origin: "origin-" + guid, GUID: guid, Host: "host"},
			func(context.Context) (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		in, err := s.InPoint("zfs")
		if err != nil {
			t.Fatal(err)
		}
		rec := ship.PointRecord{ID: id, Host: "host", Time: time.Now(), Consistency: point.Crash, Streams: []ship.PointStream{in}}
		if _, err := repo.PutPoint(t.Context(), rec, nil); err != nil {
			t.Fatal(err)
		}
		return id
	}
	bad := map[point.ID]string{}
	good := 0
	for name, format := range map[string]string{"full": "zfs-1", "volume": "zfs-1", "raw": "zfs-raw-1"} {
		data := recorded(t, name)
		rs := recordsOf(t, data)
		put(format, data)
		good++
		last, middle := len(rs)-1, len(rs)/2
		bad[put(format, data[:len(data)-len(rs[last])])] = name + " without its end"
		bad[put(format, data[:len(data)/2])] = name + " cut in half"
		bad[put(format, bytes.Join(slices.Concat(rs[:middle], rs[middle+1:middle+2], rs[middle:middle+1], rs[middle+2:]), nil))] = name + " with two records swapped"
		bad[put(format, bytes.Join(slices.Concat(rs[:middle], rs[middle+1:]), nil))] = name + " without a record"
	}
	check := func(deep bool) []ship.Problem {
		t.Helper()
		checked, problems, err := repo.Verify(t.Context(), ship.VerifyOptions{Deep: deep, Check: CheckFormat}, nil)
		if err != nil || checked.Points != len(bad)+good {
			t.Fatal(checked, err)
		}
		return problems
	}
	if problems := check(false); len(problems) > 0 {
		t.Errorf("by digests alone: %+v", problems)
	}
	for _, p := range check(true) {
		what, known := bad[p.Points[0]]
		if !known || len(p.Points) != 1 || !strings.HasPrefix(p.Object, "meta/streams/") {
			t.Errorf("%+v is called damaged (%s)", p, what)
		}
		delete(bad, p.Points[0])
	}
	for _, what := range bad {
		t.Errorf("not found: %s", what)
	}
}
