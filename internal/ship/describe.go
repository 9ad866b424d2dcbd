package ship

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"snapd/internal/advice"
	"snapd/internal/point"
)

// Maker is what a Store may also be, if its place can be made: a directory.
// Make may be called again.
type Maker interface {
	Make() error
}

// Description is what a repository says of itself. It is information for
// people and proves nothing: every user who may write to the bucket can write it.
type Description struct {
	ID         string
	Signer     PublicKey
	Encryption string
	Created    time.Time
}

// Describe tells whether there is a repository, and what it says of itself,
// without asking which key signed it. ErrNotRepository when there is none.
func Describe(ctx context.Context, s Store) (Description, error) {
	var object bytes.Buffer
	if err := fetch(ctx, s, keyRepository, maxSigned, &object); err != nil {
		if errors.Is(err, ErrNotFound) && !errors.Is(err, ErrDeleted) { // on top of hidden versions none is made
			return Description{}, fmt.Errorf("look for a repository: %w: %w", ErrNotRepository, err)
		}
		if errors.Is(err, ErrDamaged) {
			err = advice.In(Undescribed, err)
		}
		return Description{}, fmt.Errorf("look for a repository: %w", err)
	}
	_, body, err := split(object.Bytes())
	var doc struct { // as much as every version of the format has
		Repository string    `json:"repository"`
		Created    time.Time `json:"created"`
		Encryption string    `json:"encryption"`
		Signer     string    `json:"signer"`
	}
	if err == nil {
		err = json.Unmarshal(body, &doc)
	}
	d := Description{ID: doc.Repository, Encryption: doc.Encryption, Created: doc.Created}
	if err == nil {
		d.Signer, err = ParsePublicKey(doc.Signer)
	}
	if err != nil {
		return Description{}, advice.In(Undescribed, fmt.Errorf("look for a repository: the object %q is there and describes none: %w: %w", keyRepository, ErrDamaged, err))
	}
	return d, nil
}

// TryWrite tells whether objects can be put, by putting a small one. It makes
// the store's place if that can be made, and removes the object again, if it
// may.
func TryWrite(ctx context.Context, s Store) error {
	if m, ok := s.(Maker); ok {
		if err := m.Make(); err != nil {
			return err
		}
	}
	var chance [8]byte
	rand.Read(chance[:])
	key := "probe/" + hex.EncodeToString(chance[:])
	if err := s.Put(ctx, key, []byte("snapd asks whether it may write here\n"), false); err != nil {
		return fmt.Errorf("try to write: %w", err)
	}
	if err := s.Delete(ctx, key); err != nil && !errors.Is(err, ErrDenied) {
		return fmt.Errorf("try to write: %w", err)
	}
	return nil
}

// unreadable is how many damaged points OpenNewest passes over.
const unreadable = 16

// OpenNewest opens the encrypted part of the newest point that can be read,
// which proves the identities by something that the repository really holds.
// "" when there are no points; ErrNoIdentity when the identities do not open it.
func (r *Repository) OpenNewest(ctx context.Context) (point.ID, error) {
	v, err := r.View(ctx, nil, Whole)
	if err != nil {
		return "", err
	}
	var damaged error
	for i, p := range slices.Backward(v.Points) {
		err := r.openPoint(ctx, p.Number)
		switch {
		case err == nil:
			return p.ID, nil
		case !isDamage(err) || len(v.Points)-i >= unreadable:
			return p.ID, fmt.Errorf("open restore point %s: %w", p.ID, err)
		}
		damaged = fmt.Errorf("open restore point %s: %w", p.ID, err)
	}
	if damaged != nil {
		return "", damaged
	}
	for _, p := range v.Problems { // a point that does not verify is not in the view
		if p.Kind == KindDamaged && strings.HasPrefix(p.Object, prefixPoints) {
			return "", fmt.Errorf("open a restore point: %w: %s", ErrDamaged, p.Problem)
		}
	}
	return "", nil
}

// openPoint fetches a point and opens its encrypted part.
func (r *Repository) openPoint(ctx context.Context, number int64) error {
	doc, _, _, err := r.fetchPoint(ctx, number)
	if err != nil {
		return err
	}
	if !r.canUnseal() {
		return ErrNoIdentity
	}
	var secret Secret
	return r.openSecret(doc.Sealed, &secret)
}
