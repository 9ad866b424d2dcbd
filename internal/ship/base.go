package ship

import (
	"context"
	"fmt"
	"time"

	"snapd/internal/point"
)

// UnfitBase says why a stream cannot build on a base although it fits by its
// snapshot. Another base can be tried, or a full stream. errors.AsType finds
// it.
type UnfitBase struct {
	Base   point.ID
	Why    string
	Damage []Damage // what was found damaged or missing of it; empty when it is whole
}

func (e *UnfitBase) Error() string { return fmt.Sprintf("base %s: %s", e.Base, e.Why) }

// unfit makes it of objects that are lacking.
func unfit(base point.ID, lacking []lack) *UnfitBase {
	e := &UnfitBase{Base: base, Why: fmt.Sprintf("%s: %s", lacking[0].key, lacking[0].why)}
	if n := len(lacking); n > 1 {
		e.Why += fmt.Sprintf(" (and %d more like it)", n-1)
	}
	for _, l := range lacking {
		e.Damage = append(e.Damage, Damage{Stream: base, Object: l.key, Problem: l.why})
	}
	return e
}

// base fetches what a stream shall build on, and proves that it can: it makes
// what it should, those users that can decrypt the new stream can decrypt it, and all that
// its manifest names is there.
func (r *Repository) base(ctx context.Context, head Head) (*Manifest, error) {
	base, err := r.Manifest(ctx, *head.Base)
	if isDamage(err) {
		return nil, unfit(head.Base.ID, []lack{{head.Base.Key, err.Error()}})
	}
	if err != nil {
		return nil, fmt.Errorf("check the base: %w", err)
	}
	switch {
	case base.Origin != head.Origin:
		return nil, fmt.Errorf("base %s is of dataset %s, not of %s", base.ID, base.Origin, head.Origin)
	case base.GUID == head.GUID:
		return nil, fmt.Errorf("base %s already is snapshot %s", base.ID, head.GUID)
	case base.Depth+1 != head.Depth:
		return nil, fmt.Errorf("base %s has depth %d, so this has not depth %d", base.ID, base.Depth, head.Depth)
	case head.OneFormat && base.Format != head.Format:
		return nil, fmt.Errorf("base %s is %s, and the stream will be %s: %w", base.ID, base.Format, head.Format, ErrOtherFormat)
	case base.Driver != head.Driver:
		return nil, fmt.Errorf("base %s is of driver %s, not of %s", base.ID, base.Driver, head.Driver)
	}
	if why := r.otherReaders(base.Recipients); why != "" {
		return nil, &UnfitBase{Base: base.ID, Why: why}
	}
	lacking, err := r.lacks(ctx, base)
	if err != nil {
		return nil, fmt.Errorf("check the base: %w", err)
	}
	if len(lacking) > 0 {
		return nil, unfit(base.ID, lacking)
	}
	return base, nil
}

// otherReaders says why users that can decrypt what is shipped now may not be able
// to open a stream with that tag, "" if they are.
func (r *Repository) otherReaders(tag string) string {
	switch {
	case r.Encryption == EncryptionNone:
		return ""
	case tag == "":
		return "it does not say to whom it is encrypted, as streams of format 1 never do"
	case tag != r.RecipientsTag():
		return "it is encrypted to other recipients than are configured now"
	}
	return ""
}

// checkBaseIsThere asks once more for what the stream builds on, with all that
// it names, where the upload was long: it can last days, in which a keeper that
// did not see the lease may have pruned. In a short one a prune is found by its
// event, which PutPoint looks for after the point is put.
func (u *upload) checkBaseIsThere(ctx context.Context) error {
	if u.head.Base == nil || !u.began.longerThan(u.repo.baseAgain) {
		return nil
	}
	base, err := u.repo.Manifest(ctx, *u.head.Base)
	if isDamage(err) {
		return fmt.Errorf("meanwhile: %w: %w", unfit(u.ref.Base, []lack{{u.head.Base.Key, err.Error()}}), err)
	}
	if err != nil {
		return err
	}
	lacking, err := u.repo.lacks(ctx, base)
	if err != nil {
		return fmt.Errorf("check the base: %w", err)
	}
	if len(lacking) > 0 {
		return fmt.Errorf("meanwhile: %w", unfit(u.ref.Base, lacking))
	}
	return nil
}

// instant is when something began, by both clocks of the host: the one that
// cannot be set does not count the time in which the machine slept.
type instant struct{ time.Time }

// longerThan tells whether one of the clocks says that more time has passed.
func (i instant) longerThan(d time.Duration) bool {
	now := time.Now()
	return now.Sub(i.Time) > d || now.Round(0).Sub(i.Round(0)).Abs() > d
}
