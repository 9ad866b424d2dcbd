package ship

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"snapd/internal/advice"
)

// Store keeps whole objects under keys. Keys are slash-separated paths that
// satisfy CheckKey; a store puts them below its own prefix. All methods may
// be called from several goroutines at once, and every one may be repeated
// after a failure. Errors wrap the sentinels below wherever one fits;
// ErrUnavailable means that trying again later may help.
type Store interface {
	// Put stores body as one object, whole or not at all: when it returns
	// nil, the object is durable; when it returns an error, the object is
	// there whole or is not there. With ifAbsent an object that lies under
	// key stays as it is and ErrExists is returned (also to the caller that put
	// it, when a first answer was lost and the call is repeated). Without, an
	// existing object is replaced. body is not looked at after Put returned.
	Put(ctx context.Context, key string, body []byte, ifAbsent bool) error

	// Get opens an object. ErrNotFound when there is none. A reader that is
	// cut short ends with an error other than io.EOF. The caller closes it.
	Get(ctx context.Context, key string) (io.ReadCloser, error)

	// List calls each for every object whose key begins with prefix (which
	// need not end at a slash), ascending by key as bytes. An error of each
	// ends the listing and is returned. A prefix without objects, and a store
	// that was never written to, list nothing and are no error. What a server
	// lists may lack keys, repeat them or be in another order all the same:
	// that a key is not listed proves nothing.
	List(ctx context.Context, prefix string, each func(Object) error) error

	// Delete removes an object. One that is not there is no error.
	Delete(ctx context.Context, key string) error
}

// DigestPutter is what a Store may also be, if it needs the SHA-256 of what it
// puts: the caller knows it already, and hashing is much of the work of an
// upload. sum must be that of body. etag is what a listing will say of these
// bytes as long as they lie there, "" when the store cannot tell.
type DigestPutter interface {
	PutDigest(ctx context.Context, key string, body []byte, ifAbsent bool, sum Digest) (etag string, err error)
}

// putDigest puts an object whose digest is known.
func putDigest(ctx context.Context, s Store, key string, body []byte, ifAbsent bool, sum Digest) (etag string, err error) {
	if d, ok := s.(DigestPutter); ok {
		return d.PutDigest(ctx, key, body, ifAbsent, sum)
	}
	return "", s.Put(ctx, key, body, ifAbsent)
}

// ObjectStater is what a Store may also be, if it can tell of one object what a
// listing would, without reading it. ErrNotFound when there is none.
type ObjectStater interface {
	Stat(ctx context.Context, key string) (Object, error)
}

// statObject asks for one object by its name. What Stat does not find is asked
// for once more with Get: the answer to a HEAD has no body that could show
// whether an object store gave it.
func statObject(ctx context.Context, s Store, key string) (Object, error) {
	if st, ok := s.(ObjectStater); ok {
		o, err := st.Stat(ctx, key)
		if !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, ErrNotFound) {
			return o, err
		}
	}
	_, size, err := hashObject(ctx, s, key, anyLength)
	return Object{Key: key, Size: size}, err
}

// AnewLister is what a Store may also be, if it repeats a listing that breaks: such a
// one must keep a listing until it is whole. One of data/ has millions of keys.
type AnewLister interface {
	// ListAnew is List that keeps nothing. It calls begin before the first key and
	// after each fault: what each was told before does not count. It neither sorts
	// nor leaves out what comes twice.
	ListAnew(ctx context.Context, prefix string, begin func(), each func(Object) error) error
}

// listAnew lists what is too long to be kept.
func listAnew(ctx context.Context, s Store, prefix string, begin func(), each func(Object) error) error {
	if a, ok := s.(AnewLister); ok {
		return a.ListAnew(ctx, prefix, begin, each)
	}
	begin()
	return s.List(ctx, prefix, each)
}

// Spacer is what a Store may also be, if it knows how much room there is.
type Spacer interface {
	// Space counts bytes; errors.ErrUnsupported when the store cannot tell.
	Space(ctx context.Context) (free, total int64, err error)
}

// Space asks a store, or the one behind Retry, for its room in bytes.
func Space(ctx context.Context, s Store) (free, total int64, err error) {
	if sp, ok := s.(Spacer); ok {
		return sp.Space(ctx)
	}
	return 0, 0, fmt.Errorf("ask for room: %w", errors.ErrUnsupported)
}

// Space is how much room, in bytes, the store of the repository has.
// errors.ErrUnsupported when it does not tell.
func (r *Repository) Space(ctx context.Context) (free, total int64, err error) {
	return Space(ctx, r.store)
}

// Object is an entry of a listing.
type Object struct {
	Key  string
	Size int64     // bytes, as stored
	Time time.Time // when it was put, by the store's clock
	ETag string    // as PutDigest told of these bytes; "" when the store has none
}

// Errors that stores and repositories wrap, so that callers can tell them
// apart with errors.Is.
var (
	ErrNotFound      = errors.New("not found")
	ErrExists        = errors.New("already exists")
	ErrDenied        = errors.New("access denied")
	ErrDeleted       = errors.New("it was deleted, and earlier versions of it may be there") // beside ErrNotFound
	ErrNoBucket      = errors.New("no such bucket or directory")
	ErrNotAStore     = errors.New("what answered is no object store")
	ErrUnavailable   = errors.New("store does not answer")
	ErrDamaged       = errors.New("damaged")
	ErrSignature     = errors.New("signature does not verify")
	ErrNotRepository = errors.New("not a repository")
	ErrConflict      = errors.New("another host writes into this prefix with the same key")
	ErrReadOnly      = errors.New("opened for reading only")
	ErrNoIdentity    = errors.New("no identity opens it")
	ErrBusy          = advice.In(advice.Busy, errors.New("in use"))
	ErrNewer         = errors.New("a newer snapd wrote it")
)

// Causes that have no words of their own: what helps against them depends on
// how the caller was told the value.
const (
	NoSigner    advice.Class = "no-signer"    // no signer's key is known
	OtherSigner advice.Class = "other-signer" // another host's key signed it
	Undescribed advice.Class = "undescribed"  // the description of a repository is there and cannot be used
)

// maxKey is what a key may measure, so that prefix and key together stay
// under S3's 1024 bytes, and each part under a file name's 255.
const (
	maxKey     = 512
	maxKeyPart = 255
)

// CheckKey tells whether key can name an object: parts of letters, digits,
// '-', '_' and '.', none of them empty or beginning with a dot, joined by
// slashes. Such a key is the same on every store and cannot leave a folder.
func CheckKey(key string) error {
	if key == "" || len(key) > maxKey {
		return fmt.Errorf("object key %q: must be 1 to %d bytes long", key, maxKey)
	}
	for part := range strings.SplitSeq(key, "/") {
		if part == "" || part[0] == '.' || len(part) > maxKeyPart {
			return fmt.Errorf("object key %q: a part is empty, begins with a dot or is longer than %d bytes", key, maxKeyPart)
		}
		for i := range len(part) {
			if c := part[i]; !isAlnum(c) && c != '-' && c != '_' && c != '.' {
				return fmt.Errorf("object key %q: byte %q is not allowed", key, c)
			}
		}
	}
	return nil
}

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
