//go:build host

package hold_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"snapd/internal/point"
)

var allTables = []string{"count_innodb", "count_myisam", "count_aria"}

func TestMariaDBIsQuiesced(t *testing.T) {
	b := newBench(t)
	m := b.newMaria()
	w := m.write(allTables...)
	eventually(t, 10*time.Second, "the writer writes", func() bool { n, _, _ := w.state(); return n > 20 })
	for i := range 3 {
		before, _, _ := w.state()
		w.forget()
		p := b.take()
		_, _, longest := w.state()
		t.Logf("point %d: held %d µs, window %d µs, lock had after %d µs; the writer waited %v at the longest",
			i, p.HeldUS, p.WindowUS, p.Timings.Hold, longest)
		if p.Consistency != point.Quiesced || p.WindowUS == 0 || p.HeldUS <= p.WindowUS || p.Timings.Hold == 0 {
			t.Errorf("%s, window %d, held %d, hold %d", p.Consistency, p.WindowUS, p.HeldUS, p.Timings.Hold)
		}
		if len(p.Quiesced) != 1 || p.Quiesced[0].By != "mariadb" || !strings.Contains(p.Why, "BACKUP STAGE") {
			t.Errorf("%+v, why %s", p.Quiesced, p.Why)
		}
		if err := b.checkMaria("copy", b.restore(p, "copy"+string(rune('0'+i))), before); err != nil {
			t.Error(err)
		}
		p.Containers = nil // what the engine says of them has the environment, and is sealed
		if text, _ := json.Marshal(p); strings.Contains(string(text), "secret") {
			t.Error("the password stands in the record")
		}
	}
}
