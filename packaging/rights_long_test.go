//go:build outside && long

package packaging_test

import "testing"

// TestEachRight takes every right of the agent's unit away, one at a time, and sees
// what fails without it.
func TestEachRight(t *testing.T) {
	h := setUpHost(t, ofOthers+`
truncate -s 1G /srv/z.img
zpool create -O mountpoint=/srv/z z /srv/z.img
chown 999 /srv/z
printf '[group.pool]\npaths = ["/srv/z"]\nrepositories = []\n' >>/etc/snapd-agent/snapd.toml
`)
	for _, c := range trials() {
		if c.works == "" {
			continue // nothing is known that shows it: see there
		}
		t.Run(c.setting+" "+c.value, func(t *testing.T) {
			h := &host{Guest: h.Guest, t: t}
			h.tried(c.works)
			h.without(c)
		})
	}
}
