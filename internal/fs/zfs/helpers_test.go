package zfs

import "time"

// testTime is when the snapshots of tests were taken, by their names.
var testTime = time.Date(2026, 11, 21, 10, 11, 12, 0, time.UTC)
