//go:build outside && long

package lvm

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"snapd/internal/vmtest"
)

// wholeVolumes are three that belong together, and what is on them.
const wholeVolumes = `set -e
group() {
    truncate -s $2 /srv/$1.img
    loop=$(losetup -f --show /srv/$1.img)
    vgcreate -q $1 $loop
}
group vg 2G
group back 2G
group plain 3G
lvcreate -q -y -L 1G --poolmetadatasize 16M -T vg/pool
lvcreate -q -y -L 1G --poolmetadatasize 16M -T back/pool
lvcreate -q -y -V 200M -T vg/pool -n thin-ext4
lvcreate -q -y -V 320M -T vg/pool -n thin-xfs
lvcreate -q -y -L 200M -n classic vg
mkfs.ext4 -q /dev/vg/thin-ext4
mkfs.xfs -q /dev/vg/thin-xfs
mkfs.ext4 -q /dev/vg/classic
mkdir /srv/kept /srv/shown
for v in thin-ext4 thin-xfs classic; do
    mkdir /srv/$v
    mount /dev/vg/$v /srv/$v
    dd if=/dev/urandom of="/srv/$v/stays ü" bs=1M count=8 status=none
    dd if=/dev/urandom of=/srv/$v/goes bs=1M count=8 status=none
done
snapd init --repository file:///srv/repo --kit /root/kit
cat >>/etc/snapd-agent/snapd.toml <<'X'
[group.three]
paths = ["/srv/thin-ext4", "/srv/thin-xfs", "/srv/classic"]
max-window = "5m"

[group.raw]
paths = ["/dev/vg/classic"]
X
snapd run three
for v in thin-ext4 thin-xfs classic; do
    rm /srv/$v/goes
    dd if=/dev/urandom of="/srv/$v/stays ü" bs=1M seek=3 count=1 conv=notrunc status=none
    dd if=/dev/urandom of=/srv/$v/new bs=1M count=3 status=none
    sync -f /srv/$v
    [ $v = classic ] || fstrim /srv/$v
    cp -a /srv/$v /srv/kept/
done
snapd run three
snapd --json show latest:three >/root/point.json
jq -c '[.consistency, .why, .warnings, (.shipped[] | [.dataset, .base != null, .sent_bytes, .why])]' /root/point.json`

// wholeBack restores everything into another thin pool, and one of them into a
// group without a pool, and has it checked.
const wholeBack = `set -e
same() { # a volume holds what it should
    lvchange -q -a y -K $1
    mount -o ro $([ $2 = thin-xfs ] && echo -o nouuid) /dev/$1 /srv/shown
    diff -r /srv/kept/$2 /srv/shown
    umount /srv/shown
    lvchange -q -a n $1
}
snapd --json --kit /root/kit restore latest:three --to lvm:back/pool --check >/root/restored.json
jq -c . /root/restored.json
[ "$(jq -r '[.restored[].checked] | join(" ")' /root/restored.json)" = "sound sound sound" ]
for v in thin-ext4 thin-xfs classic; do same back/$v $v; done
for v in thin-ext4 thin-xfs; do
    snapd --json --kit /root/kit restore latest:three --dataset vg/$v --to lvm:plain/$v --check >/root/restored.json
    [ "$(jq -r '.restored[].checked' /root/restored.json)" = sound ]
    same plain/$v $v
done
[ -z "$(lvs --noheadings -o lv_name -S 'lv_name=~"^snapd_restore_"')" ]`

// wholeByHand does it with the bucket, plain tools and a page of Python.
const wholeByHand = `set -e
mv /usr/bin/snapd /root/away
trap 'mv /root/away /usr/bin/snapd' EXIT
signer=$(sed -n 's/^signer *= *"\(.*\)"/\1/p' /root/kit)
sed -n 's/^identity *= *"\(.*\)"/\1/p' /root/kit >/root/identity
for v in thin-ext4 thin-xfs classic; do
    stream=$(jq -r --arg d vg/$v '.shipped[] | select(.dataset == $d) | .stream' /root/point.json)
    mkdir /srv/$v.streams
    /root/restore-by-hand.sh extract dir:/srv/repo "$signer" /root/identity $stream /srv/$v.streams
    lvcreate -q -y -W n -Z n -L $(blockdev --getsize64 /dev/vg/$v)b -n hand-$v plain
    dd if=/dev/urandom of=/dev/plain/hand-$v bs=1M count=60 oflag=direct status=none # as another user left it
    python3 /root/lvm-apply.py /dev/plain/hand-$v /srv/$v.streams/*
    mount -o ro $([ $v = thin-xfs ] && echo -o nouuid) /dev/plain/hand-$v /srv/shown
    diff -r /srv/kept/$v /srv/shown
    umount /srv/shown
    lvremove -q -f -y plain/hand-$v
done`

// wholeDamage ships a volume whose filesystem is damaged, by its node: what is
// restored is what was there, and the check says so.
const wholeDamage = `set -e
umount /srv/classic
dd if=/dev/urandom of=/dev/vg/classic bs=4k seek=1 count=40 oflag=direct status=none
snapd run raw
set +e
snapd --json --kit /root/kit restore latest:raw --to lvm:plain/damaged --check >/root/restored.json
status=$?
cat /root/restored.json
[ $status = 4 ] && [ "$(jq -r '.restored[].checked' /root/restored.json)" = damaged ] &&
    lvchange -q -a y -K plain/damaged && cmp /dev/vg/classic /dev/plain/damaged`

// TestLongWholeWay is what a person does: three volumes of one group, taken at
// one instant, shipped twice, restored and checked; the same without snapd.
func TestLongWholeWay(t *testing.T) {
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "snapd"), "../../../cmd/snapd")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	g := vmtest.New(t, vmtest.Spec{})
	docs := "../../../docs/"
	if err := g.CopyIn(t.Context(), "/root", filepath.Join(dir, "snapd"), docs+"restore-by-hand.sh", docs+"lvm-apply.py"); err != nil {
		t.Fatal(err)
	}
	g.Sh(t, "mv /root/snapd /usr/bin/snapd")
	for _, step := range []string{wholeVolumes, wholeBack, wholeByHand, wholeDamage} {
		t.Log(g.Sh(t, step))
	}
}
