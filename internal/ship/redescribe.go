package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"snapd/internal/advice"
)

// Redescribed says how the description of a repository was put back.
type Redescribed struct {
	ID   string // of the repository
	Same bool   // byte for byte what it was; false: it was made anew for the same repository
}

// Redescribe puts the description of a repository back where it is gone or does not
// verify. remembered is the object as it was read there once, nil when it is not
// known: then one is made for the repository that everything there was signed for.
// Nothing is put where another key's repository lies, where nothing of a repository
// lies (a disk that is not mounted), or where what lies there was signed for
// another one. With dry nothing is put. It may be repeated.
func Redescribe(ctx context.Context, s Store, o CreateOptions, remembered []byte, dry bool) (Redescribed, error) {
	out, object, replace, err := redescription(ctx, s, o, remembered)
	if err == nil && object != nil && !dry {
		if err = s.Put(ctx, keyRepository, object, !replace); errors.Is(err, ErrExists) {
			err = fmt.Errorf("%w since it was looked for", err)
		}
	}
	if err != nil {
		return out, fmt.Errorf("put the description of the repository back: %w", err)
	}
	return out, nil
}

// redescription is what is put; nil when a description that verifies is there.
func redescription(ctx context.Context, s Store, o CreateOptions, remembered []byte) (out Redescribed, object []byte, replace bool, err error) {
	trusted := o.Signer.Public()
	var there bytes.Buffer
	err = fetch(ctx, s, keyRepository, maxSigned, &there)
	switch {
	case err == nil:
		var doc repositoryDoc
		err := open(trusted, there.Bytes(), typeRepository, "", keyRepository, &doc)
		if errors.Is(err, ErrNewer) {
			return out, nil, false, err
		}
		if err == nil && doc.check() == nil {
			return Redescribed{ID: doc.Repository, Same: true}, nil, false, nil
		}
		if err := ofOtherKey(there.Bytes(), trusted); err != nil {
			return out, nil, false, err
		}
		replace = true
	case errors.Is(err, ErrNotFound): // also what was deleted: the very same goes on top
	case errors.Is(err, ErrDamaged):
		replace = true
	default:
		return out, nil, false, err
	}
	left, err := FindRemains(ctx, s, trusted)
	if err != nil {
		return out, nil, false, err
	}
	if left.ID == "" {
		return out, nil, false, unclaimed(left)
	}
	var doc repositoryDoc
	if open(trusted, remembered, typeRepository, "", keyRepository, &doc) == nil && doc.check() == nil {
		if doc.Repository != left.ID {
			return out, nil, false, fmt.Errorf("this host remembers repository %s, and what lies there was signed for %s", doc.Repository, left.ID)
		}
		return Redescribed{ID: left.ID, Same: true}, remembered, replace, nil
	}
	o.ID, o.SliceBytes = left.ID, left.SliceBytes
	object, _, err = describe(o)
	return Redescribed{ID: left.ID}, object, replace, err
}

// unclaimed is why no description fits what lies there.
func unclaimed(left Remains) error {
	if left.Objects == 0 {
		return advice.With(fmt.Errorf("%w: nothing of one lies there", ErrNotRepository), "check that its disk is mounted and that the address is right; nothing was put there")
	}
	return fmt.Errorf("%w: of the objects that lie there none that was read was signed by this host's key, or not all for one repository", ErrNotRepository)
}

// ofOtherKey is the error of a description that another key has signed.
func ofOtherKey(object []byte, trusted PublicKey) error {
	_, body, err := split(object)
	var doc repositoryDoc
	if err != nil || decode(body, &doc) != nil {
		return nil //nolint:nilerr // it says nothing
	}
	key, err := ParsePublicKey(doc.Signer)
	if err != nil || key.Equal(trusted) || open(key, object, typeRepository, "", keyRepository, &doc) != nil {
		return nil //nolint:nilerr // what it says is not signed
	}
	return advice.In(OtherSigner, fmt.Errorf("%w: it belongs to the key %s, not to %s", ErrSignature, key, trusted))
}
