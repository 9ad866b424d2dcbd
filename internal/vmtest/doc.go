// Package vmtest is a disposable guest machine for tests: a Debian 13 host with
// systemd as PID 1, D-Bus and logind, ZFS, LVM with thin pools, Btrfs, Docker
// and databases, run by QEMU, which can be killed, cut off from power, filled
// up and thrown away.
//
// It has two doors. From inside, ordinary Go tests (build tag guest, files
// *_guest_test.go) are compiled here and run in the guest through
// `go test -exec`; they begin with [Inside]. From outside, [Boot] gives a
// [Guest] that a test commands, resets, reboots and cuts off from power.
//
// The image is made by scripts/guest/build and kept in the user's cache
// directory with the memory of a booted guest beside it, so that a guest is
// there in seconds. The first use builds both.
//
// It is no general virtual machine library, no part of the product, and never
// imported by it: it knows one image, one network plan and this module's tests.
// It may start programs itself, and imports nothing else of this module.
//
// # The network
//
// Every guest sees QEMU's user network without a default route. 10.0.2.2 there
// is this host's loopback, so a server on 127.0.0.1:9000 here is reached as
// 10.0.2.2:9000 from every guest. Guests that share a [Network] also reach each
// other. Nothing leaves this machine.
package vmtest
