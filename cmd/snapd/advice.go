package main

import (
	"cmp"
	"context"
	"errors"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/freeze"
	"snapd/internal/fs"
	"snapd/internal/inside"
	"snapd/internal/ship"
)

// answer is what to do about one sentinel or class.
type answer struct {
	to error
	do string
}

// examplesOfTo are what people can write.
const examplesOfTo = "--to btrfs:/srv/restored, --to zfs:tank/restored or --to lvm:vg/restored"

// answers are what to do about errors that do not say it themselves, those
// first that know most of the case. This is the one place that knows which
// flags help: below cmd none is named.
func answers() []answer {
	return []answer{
		{context.Canceled, "run the same command again: it goes on where it stopped"},
		{agent.ErrNotRoot, "run it as root, for example with sudo"},
		{ship.ErrBusy, "wait for the other one; what it ships need not be shipped again"},
		{advice.Busy, "wait for the other one, or look at it with: snapd status"},
		{agent.NoTarget, "name the storage and the place, such as " + examplesOfTo},
		{agent.EitherOr, "say --beside or --replace, not both"},
		{agent.OneName, "restore all to lvm:GROUP or lvm:GROUP/POOL, each under its own name, or one of them with --dataset"},
		{agent.OneByOne, "restore the others one by one with --dataset; what was restored stays"},
		{agent.NotHere, "restore it, or one of its datasets (--dataset), to a new place, and look there: snapd restore POINT --to DRIVER:TARGET, such as " + examplesOfTo},
		{agent.NoCheck, "leave --check out"},
		{agent.FileThere, "edit that file, then run snapd init without --repository"},
		{agent.NotAccepted, "see what snapd repair says of it; if it is gone for good, run: snapd repair --accept-loss"},
		{agent.NotRemoved, "see what snapd repair says of it; if nothing needs it, run: snapd repair --remove-junk"},
		{agent.LastOfGroup, "say --last if it may go all the same"},
		{agent.NoRepository, "run: snapd init --repository s3://bucket/prefix --endpoint https://minio:9000 --kit kit.txt"},
		{agent.NoTmpfs, "mount a tmpfs on /run, as every systemd host has, or name another directory with --run-dir"},
		{ship.ErrNoIdentity, "name what opens it with --kit FILE (the recovery kit that snapd init made) or --identity FILE"},
		{ship.NoSigner, "name the signer's key with --signer KEY, or the recovery kit that holds it with --kit FILE"},
		{ship.OtherSigner, "give each host a prefix of its own; to read another host's, name its key with --signer KEY"},
		{fs.ErrDamaged, "restore an older point beside it, or repair this one with e2fsck or xfs_repair"},
		{agent.ErrNotThere, "name one of those that snapd list shows"},
		{inside.ErrExists, "name another place, or say --replace (what is there is kept under another name)"},
		{fs.ErrExists, "name another target, or say --beside (a new name next to it) or --replace (what is there is kept under another name)"},
		{fs.ErrNoSpace, "make room and run the same command again; what was there before is untouched"},
		{ship.ErrSignature, "take another point (snapd list shows them); snapd verify names what is damaged. If nothing there verifies, compare the signer's key with the recovery kit"},
		{ship.ErrDamaged, "take another point (snapd list shows them); run: snapd verify, which names every damaged object and the points that need it"},
		{ship.ErrDenied, "check the access key, the secret key and the rights of that user on the bucket; snapd doctor tests them one by one"},
		{ship.ErrNoBucket, "correct the address; if it is right and new, make the bucket (snapd never does), then run: snapd init"},
		{ship.ErrConflict, "give this host or its clone a signing key and a prefix of its own: another signing-key-file and url; then run there: snapd init"},
		{ship.ErrNotRepository, "if the address is right and nothing was ever shipped there, run: snapd init"},
		{ship.ErrUnavailable, "check the endpoint and the network; what was shipped so far is kept, and the next run goes on from there"},
		{ship.ErrNotFound, "take another point (snapd list shows them); snapd verify names what is gone, and snapd repair heals it from snapshots that are still here"},
		{freeze.ErrNeverFreeze, `take it out of the group, or set freeze = "none" if each dataset may be of an instant of its own`},
		{freeze.ErrChanged, "run the same command again"},
		{freeze.ErrDisturbed, "run the same command again"},
		{advice.Damaged, "count on other points than those named above; snapd repair heals what it can from the snapshots of this host; and find out at the repository why the objects changed"},
	}
}

// whatToDo is what the reader of an error should do, "" when nothing better is
// known than what the error itself says.
func whatToDo(err error) string {
	do := cmp.Or(advice.Of(err), known(err))
	if errors.Is(err, agent.SnapshotsHere) {
		do = also(do, "restore from this host's own snapshots with --local, as long as it has them")
	}
	return do
}

// whatToDoAbout is the same of a warning.
func whatToDoAbout(e agent.Event) string {
	var all []error
	for _, name := range e.Names {
		if err := agent.NamedError(name); err != nil {
			all = append(all, err)
		}
	}
	err := errors.Join(all...)
	if e.Do != "" {
		err = advice.With(cmp.Or(err, errors.New(e.Text)), "%s", e.Do)
	}
	return whatToDo(err)
}

func known(err error) string {
	for _, a := range answers() {
		if errors.Is(err, a.to) {
			return a.do
		}
	}
	return ""
}

func also(do, more string) string {
	if do == "" {
		return more
	}
	return do + "; or " + more
}

// inOneLine is an error with its advice, for logs.
func inOneLine(err error) string {
	if do := whatToDo(err); do != "" {
		return err.Error() + "; what to do: " + do
	}
	return err.Error()
}
