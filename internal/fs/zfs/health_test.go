package zfs

import (
	"slices"
	"strings"
	"testing"
)

// statusOf is what zpool status -pv prints, as its source has it.
func statusOf(state, devices, errors string) string {
	return "  pool: tank\n state: " + state + "\nstatus: One or more devices has been taken offline: see\n\tthe manual.\naction: Online the device.\n" +
		"  scan: scrub repaired 0B in 00:00:01 with 0 errors on Sun Nov  8 00:24:02 2026\nconfig:\n\n" +
		"\tNAME        STATE     READ WRITE CKSUM\n" + devices + "\nerrors: " + errors + "\n"
}

func TestHealthOfAPool(t *testing.T) {
	const sound = "\ttank        ONLINE       0     0     0\n\t  mirror-0  ONLINE       0     0     0\n\t    sdb     ONLINE       0     0     0\n\t    sdc     ONLINE       0     0     0\n\tspares\n\t  sdd       AVAIL\n"
	const none = "No known data errors"
	for name, c := range map[string]struct {
		text string
		want []string
	}{
		"sound": {statusOf("ONLINE", sound, none), nil},
		"one device of a mirror is away": {
			statusOf("DEGRADED", strings.NewReplacer("    sdc     ONLINE ", "    sdc     OFFLINE", "mirror-0  ONLINE ", "mirror-0  DEGRADED", "tank        ONLINE ", "tank        DEGRADED").Replace(sound), none),
			[]string{"grave: it is DEGRADED: sdc is OFFLINE"},
		},
		"errors that were repaired": {
			statusOf("ONLINE", strings.Replace(sound, "sdb     ONLINE       0     0     0", "sdb     ONLINE       1     0    12", 1), none),
			[]string{"devices had errors: sdb is ONLINE with errors (1 of reading, 0 of writing, 12 of checksums)"},
		},
		"one that fails": {
			statusOf("DEGRADED", strings.Replace(sound, "sdb     ONLINE       0     0     0", "sdb     FAULTED      3     0     0  too many errors", 1), none),
			[]string{"grave: it is DEGRADED: sdb is FAULTED with errors (3 of reading, 0 of writing, 0 of checksums)"},
		},
		"damage": {
			statusOf("ONLINE", sound, "Permanent errors have been detected in the following files:\n\n        /tank/a b/f: x\n"),
			[]string{"grave: data is damaged, and ZFS has no whole copy of it"},
		},
		"damage without names": {statusOf("ONLINE", sound, "1 data errors, use '-v' for a list"), []string{"grave: data is damaged, and ZFS has no whole copy of it"}},
	} {
		var got []string
		for _, f := range parseStatus(c.text).findings("tank") {
			text := f.What
			if f.Grave {
				text = "grave: " + text
			}
			got = append(got, text)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestDamagedFiles(t *testing.T) {
	st := parseStatus(statusOf("ONLINE", "", "Permanent errors have been detected in the following files:\n\n"+
		"        /mnt/a b/f\n        tank/a@snapd_x:/state: old\n        tank/a:<0x1>\n        tank/ab:/other\n        <0x4d>:<0x2>\n"))
	want := []string{"/mnt/a b/f", "tank/a@snapd_x:/state: old", "tank/a:<0x1>", "<0x4d>:<0x2>"}
	if got := st.of("tank/a"); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	if got := few(want); got != "/mnt/a b/f, tank/a@snapd_x:/state: old, tank/a:<0x1>, and 1 more" {
		t.Errorf("got %q", got)
	}
}
