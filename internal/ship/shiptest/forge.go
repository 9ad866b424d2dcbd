package shiptest

import (
	"fmt"
	"math/rand/v2"
	"strings"

	"snapd/internal/ship"
)

// invent makes a key that sorts and parses like one of ours, or does not
// parse at all.
func invent(prefix string, objects []ship.Object, r *rand.Rand) ship.Object {
	o := ship.Object{Key: prefix + "junk", Size: int64(r.IntN(3000))}
	if len(objects) > 0 {
		o = objects[r.IntN(len(objects))]
	}
	if key := Forge(o.Key, r); strings.HasPrefix(key, prefix) {
		o.Key = key
	} else {
		o.Key = prefix + junkName(r)
	}
	return o
}

func junkName(r *rand.Rand) string {
	names := []string{"0", "zzz", "9999999999", "junk", "0000000000", "x.y.z", "-1", "00000000000", "meta", "%2e%2e"}
	return names[r.IntN(len(names))]
}

// Forge turns a key of ours into another one that looks as good.
func Forge(key string, r *rand.Rand) string {
	dir, name := key[:strings.LastIndexByte(key, '/')+1], key[strings.LastIndexByte(key, '/')+1:]
	switch dir {
	case "meta/points/", "meta/ledger/":
		numbers := []int64{0, 1, 2, 3, int64(r.IntN(30)), 4_000_000_000, 9_999_999_998, 9_999_999_999}
		return fmt.Sprintf("%s%010d", dir, numbers[r.IntN(len(numbers))])
	case "meta/streams/":
		parts := strings.Split(name, ".")
		if len(parts) != 6 {
			return dir + junkName(r)
		}
		switch r.IntN(5) {
		case 0: // it hides the base of an incremental stream, and sorts late
			parts[3], parts[5] = "full", "0"
		case 1: // it sorts first
			parts[1] = "0"
		case 2: // it names a base that never was
			parts[3], parts[5] = "0000000000000000", "1"
		case 3:
			parts[0] = "0000000000000000"
		default:
			parts[2] = "zz"
		}
		return dir + strings.Join(parts, ".")
	case "meta/leases/":
		id, _, _ := strings.Cut(name, ".")
		return fmt.Sprintf("%s%s.%06d", dir, id, r.IntN(1000))
	}
	if n := len(name); n > 16 && strings.HasPrefix(dir, "data/") {
		return dir + name[:n-4] + "0000"
	}
	return dir + junkName(r)
}
