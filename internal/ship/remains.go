package ship

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
)

// Remains is what lies where a repository was whose description is gone.
type Remains struct {
	Objects int // that only a repository has; 0: there is nothing of one
	// ID is that of the repository, as everything that was read and that the key
	// signed says. "" when nothing was signed by it, or not all for one
	// repository: then no description can be made anew.
	ID         string
	SliceBytes int // as its streams say, 0 when none was read
}

// remainsRead is how many objects of each kind are asked which repository they
// were signed for.
const remainsRead = 4

// FindRemains looks for what a repository leaves behind when its description is
// removed. A new description with another id would make all of it worthless,
// because each object is signed for the repository that it lies in.
func FindRemains(ctx context.Context, s Store, trusted PublicKey) (Remains, error) {
	var out Remains
	keys := map[string][]string{} // by prefix, the newest last
	err := s.List(ctx, prefixMeta, func(o Object) error {
		out.Objects++
		for _, prefix := range []string{prefixPoints, prefixLedger, prefixStreams} {
			if strings.HasPrefix(o.Key, prefix) {
				keys[prefix] = append(keys[prefix], o.Key)
				keys[prefix] = keys[prefix][max(0, len(keys[prefix])-remainsRead):]
			}
		}
		return nil
	})
	if err == nil && out.Objects == 0 {
		err = listAnew(ctx, s, prefixData, func() { out.Objects = 0 }, func(Object) error { out.Objects++; return nil })
	}
	if err != nil {
		return out, fmt.Errorf("look for what is left of a repository: %w", err)
	}
	ids := map[string]bool{}
	for prefix, some := range keys {
		for _, key := range some {
			id, slice, err := signedFor(ctx, s, trusted, prefix, key)
			if err != nil {
				return out, fmt.Errorf("look for what is left of a repository: %w", err)
			}
			if id != "" {
				ids[id] = true
			}
			out.SliceBytes = max(out.SliceBytes, slice)
		}
	}
	if len(ids) == 1 {
		for id := range ids {
			out.ID = id
		}
	}
	return out, nil
}

// signedFor is the repository for which the key signed an object; "" when it
// did not, or when the object is damaged.
func signedFor(ctx context.Context, s Store, trusted PublicKey, prefix, key string) (id string, slice int, err error) {
	var object bytes.Buffer
	err = fetch(ctx, s, key, maxSigned, &object)
	if isDamage(err) || errors.Is(err, ErrNotFound) {
		return "", 0, nil
	}
	if err != nil {
		return "", 0, err
	}
	typ, doc := typePoint, document(&pointDoc{})
	switch prefix {
	case prefixLedger:
		typ, doc = typeEvent, &eventDoc{}
	case prefixStreams:
		typ, doc = typeStream, &streamDoc{}
	}
	if open(trusted, object.Bytes(), typ, "", key, doc) != nil {
		return "", 0, nil //nolint:nilerr // it does not count
	}
	id = doc.head().Repository
	if id == "" || open(trusted, object.Bytes(), typ, id, key, doc) != nil {
		return "", 0, nil //nolint:nilerr // it was signed for another key or repository
	}
	if m, ok := doc.(*streamDoc); ok {
		slice = m.SliceBytes
	}
	return id, slice, nil
}
