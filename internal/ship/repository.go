package ship

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"snapd/internal/advice"
	"snapd/internal/point"

	"filippo.io/age"
)

const (
	keyRepository = "repository"

	// defaultSlice is how much of a stream goes into one segment.
	defaultSlice = 16 << 20
	// maxSlice bounds what a reader takes into memory for one segment.
	maxSlice = 64 << 20
)

// Repository is a bucket or folder and prefix that describes itself, bound to
// one signing key. Its methods may be called from several goroutines at once.
type Repository struct {
	ID         string    // 32 hexadecimal digits, random
	Encryption string    // EncryptionAge or EncryptionNone
	Created    time.Time // UTC
	SliceBytes int       // of a stream, in one segment

	store      Store
	signer     *Signer // nil: read only
	readOnly   bool
	trusted    PublicKey
	recipients []age.Recipient
	identities []age.Identity
	memory     *Memory
	host       string // opaque id of this host
	baseAgain  time.Duration

	description []byte // the object as it was read

	hidden *hiddenStore // of a reader that also reads what was deleted; nil of others

	// numbering keeps two groups of one process from taking one number.
	numbering sync.Mutex
	newest    Link // the newest point that this process put

	held leaseCounts
}

type repositoryDoc struct {
	header
	Created    time.Time `json:"created"`
	Encryption string    `json:"encryption"`
	Signer     string    `json:"signer"`
	SliceBytes int       `json:"slice_bytes"`
}

// CreateOptions say what a new repository is.
type CreateOptions struct {
	Signer     *Signer
	Encryption string // EncryptionAge or EncryptionNone
	Now        time.Time
	SliceBytes int // 16 MiB if 0; small ones are for tests
	// ID is that of a repository that lies here and whose description is gone,
	// see FindRemains. A new one if "".
	ID string
}

// Create makes a repository, and is the only thing that ever does. ErrExists
// when there is one.
func Create(ctx context.Context, s Store, o CreateOptions) (*Repository, error) {
	if o.Signer == nil {
		return nil, errors.New("create repository: a signing key is needed")
	}
	object, doc, err := describe(o)
	if err != nil {
		return nil, fmt.Errorf("create repository: %w", err)
	}
	// One that was deleted in a bucket with versions is hidden, and not gone: a
	// second one on top of it would make it hard to get back.
	switch err := fetch(ctx, s, keyRepository, maxSigned, &bytes.Buffer{}); {
	case errors.Is(err, ErrDeleted):
		return nil, fmt.Errorf("create repository: an earlier one is hidden here: %w", err)
	case err != nil && !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrDamaged):
		return nil, fmt.Errorf("create repository: %w", err)
	}
	if _, err := putOnce(ctx, s, keyRepository, object); err != nil {
		if errors.Is(err, ErrExists) {
			return nil, fmt.Errorf("create repository: a repository %w here", ErrExists)
		}
		return nil, fmt.Errorf("create repository: %w", err)
	}
	return newRepository(s, doc, OpenOptions{Signer: o.Signer}), nil
}

// describe makes the signed description of a repository.
func describe(o CreateOptions) (object []byte, doc *repositoryDoc, err error) {
	if o.SliceBytes == 0 {
		o.SliceBytes = defaultSlice
	}
	if o.ID == "" {
		var id [16]byte
		rand.Read(id[:])
		o.ID = hex.EncodeToString(id[:])
	}
	doc = &repositoryDoc{
		header:     header{Format: formatVersion, Type: typeRepository, Repository: o.ID},
		Created:    o.Now.UTC().Truncate(time.Second),
		Encryption: o.Encryption,
		Signer:     o.Signer.Public().String(),
		SliceBytes: o.SliceBytes,
	}
	if err := doc.check(); err != nil {
		return nil, nil, err
	}
	object, err = sign(o.Signer, typeRepository, doc.Repository, keyRepository, doc)
	return object, doc, err
}

// putOnce puts an object that no caller may put twice. When something lies there
// that is byte for byte ours, an answer was lost and all is well. Otherwise
// it returns what lies there with ErrExists.
func putOnce(ctx context.Context, s Store, key string, object []byte) (there []byte, err error) {
	err = s.Put(ctx, key, object, true)
	if !errors.Is(err, ErrExists) {
		return nil, err
	}
	var buf bytes.Buffer
	if ferr := fetch(ctx, s, key, maxSigned, &buf); errors.Is(ferr, ErrDamaged) {
		return []byte{}, err // too long, or no file: nothing of ours, and no reason to stop
	} else if ferr != nil {
		return nil, errors.Join(err, ferr)
	}
	if bytes.Equal(buf.Bytes(), object) {
		return nil, nil
	}
	return buf.Bytes(), err
}

func (d *repositoryDoc) check() error {
	if id, err := hex.DecodeString(d.Repository); err != nil || len(id) != 16 {
		return fmt.Errorf("%w: repository id %q", ErrDamaged, d.Repository)
	}
	if d.Encryption != EncryptionAge && d.Encryption != EncryptionNone {
		return fmt.Errorf("encryption %q is neither %q nor %q", d.Encryption, EncryptionAge, EncryptionNone)
	}
	if d.SliceBytes < 1<<10 || d.SliceBytes > maxSlice {
		return fmt.Errorf("slices of %d bytes are not between 1 KiB and %d MiB", d.SliceBytes, maxSlice>>20)
	}
	return nil
}

// OpenOptions say with which keys a repository is opened.
type OpenOptions struct {
	Signer     *Signer         // nil: read only
	Trusted    PublicKey       // whose signatures count; the signer's own if zero
	Recipients []age.Recipient // to whom an upload is encrypted
	Identities []age.Identity  // what decrypts; none: names stay hidden and nothing can be restored
	Memory     *Memory         // shared by repositories of one process; its own if nil
	// Hidden reads what was deleted from a bucket that keeps versions, where
	// nothing else lies under its key. Such a repository is for reading only.
	Hidden bool
	// Host names this host in leases and events, opaquely, in the repository
	// whose id it is given. nil: the host is called unknown.
	Host func(repository string) string
	// BaseAgain is how long an upload may take before its base is checked once
	// more; the time after which a lease is renewed if 0, and always if below.
	BaseAgain time.Duration
}

// Open reads the description of a repository and checks that it was signed by
// the trusted key. ErrNotRepository when there is none, ErrSignature when it
// belongs to another key.
func Open(ctx context.Context, s Store, o OpenOptions) (*Repository, error) {
	if o.Trusted.IsZero() && o.Signer != nil {
		o.Trusted = o.Signer.Public()
	}
	if o.Trusted.IsZero() {
		return nil, advice.In(NoSigner, errors.New("open repository: no signer's key is known, and one found in the bucket would prove nothing"))
	}
	if o.Signer != nil && !o.Trusted.Equal(o.Signer.Public()) {
		return nil, fmt.Errorf("open repository: the trusted key %s is not that of the signing key, %s", o.Trusted, o.Signer.Public())
	}
	var hidden *hiddenStore
	if o.Hidden {
		s, hidden = readingHidden(s, func(key string, object []byte) bool { return isGenuine(o.Trusted, key, object) })
	}
	var object bytes.Buffer
	if err := fetch(ctx, s, keyRepository, maxSigned, &object); err != nil {
		if errors.Is(err, ErrDeleted) {
			// Its own advice says how to get at the versions; init would make a
			// second repository on top of them.
			return nil, hiddenRepository(ctx, s, err)
		}
		if errors.Is(err, ErrNotFound) {
			return nil, advice.With(fmt.Errorf("open repository: %w: %w", ErrNotRepository, err),
				"check the address for a mistake, and whether its disk is mounted; if it is right and nothing was ever shipped there, run: snapd init")
		}
		if errors.Is(err, ErrDamaged) {
			return nil, foreign(err, nil, o.Trusted)
		}
		return nil, fmt.Errorf("open repository: %w", err)
	}
	var doc repositoryDoc
	if err := open(o.Trusted, object.Bytes(), typeRepository, "", keyRepository, &doc); err != nil {
		return nil, foreign(err, object.Bytes(), o.Trusted)
	}
	if err := checkHeader(doc.header, typeRepository, doc.Repository); err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	if err := doc.check(); err != nil {
		return nil, fmt.Errorf("open repository: %w", err)
	}
	if doc.Encryption == EncryptionNone && len(o.Recipients) > 0 {
		return nil, advice.With(errors.New("open repository: it is not encrypted, but recipients are configured"),
			"take the recipients away and set encryption = \"none\", or make a new repository")
	}
	if doc.Encryption == EncryptionAge && o.Signer != nil && len(o.Recipients) == 0 {
		return nil, advice.With(errors.New("open repository: it is encrypted, but no recipients are configured"),
			"set recipients = [\"age1…\"] for it")
	}
	r := newRepository(s, &doc, o)
	r.hidden, r.readOnly, r.description = hidden, o.Hidden, object.Bytes()
	return r, nil
}

// foreign says whose the repository is, when another key has signed it. What no
// key that it names has signed is damaged.
func foreign(err error, object []byte, trusted PublicKey) error {
	if errors.Is(err, ErrNewer) {
		return fmt.Errorf("open repository: %w", err)
	}
	if other := ofOtherKey(object, trusted); other != nil {
		return fmt.Errorf("open repository: %w", other)
	}
	return advice.With(advice.In(Undescribed, fmt.Errorf("open repository: %w", err)),
		"put the object %q back from another version or a copy of it: nothing else there can be opened before, and nothing else is changed", keyRepository)
}

func newRepository(s Store, d *repositoryDoc, o OpenOptions) *Repository {
	if o.Memory == nil {
		o.Memory = NewMemory()
	}
	r := &Repository{
		ID: d.Repository, Encryption: d.Encryption, Created: d.Created, SliceBytes: d.SliceBytes,
		store: s, signer: o.Signer, trusted: o.Trusted, memory: o.Memory, host: "unknown", baseAgain: o.BaseAgain,
	}
	if r.baseAgain == 0 {
		r.baseAgain = leaseEvery
	}
	if o.Host != nil {
		r.host = o.Host(r.ID)
	}
	if r.trusted.IsZero() {
		r.trusted = o.Signer.Public()
	}
	if d.Encryption == EncryptionAge {
		r.recipients = o.Recipients
		r.identities = o.Identities
	}
	return r
}

// Description is the signed object that describes the repository, as it was read
// when it was opened; nil of one that was just made.
func (r *Repository) Description() []byte { return r.description }

// canUnseal tells whether this process can read what is encrypted.
func (r *Repository) canUnseal() bool {
	return r.Encryption == EncryptionNone || len(r.identities) > 0
}

func (r *Repository) checkWritable() error {
	if r.signer == nil || r.readOnly {
		return fmt.Errorf("repository %s: %w", r.ID, ErrReadOnly)
	}
	if r.Encryption == EncryptionAge && len(r.recipients) == 0 {
		return fmt.Errorf("repository %s is encrypted, but no recipients are known", r.ID)
	}
	return nil
}

// signedObject fetches and checks one signed object, and says its digest and
// how many bytes it has.
func (r *Repository) signedObject(ctx context.Context, typ, key string, doc document) (Digest, int64, error) {
	return r.signedObjectAs(ctx, typ, key, key, doc)
}

// signedObjectAs is for an object that was signed for another name than its
// key, because the key holds its digest.
func (r *Repository) signedObjectAs(ctx context.Context, typ, key, name string, doc document) (Digest, int64, error) {
	var object bytes.Buffer
	if err := fetch(ctx, r.store, key, maxSigned, &object); err != nil {
		return Digest{}, 0, err
	}
	if err := open(r.trusted, object.Bytes(), typ, r.ID, name, doc); err != nil {
		return Digest{}, 0, err
	}
	return digestOf(object.Bytes()), int64(object.Len()), nil
}

// checkWord tells whether a storage's guid, a host's id or a driver's name can
// stand in a key and before any user's eyes.
func checkWord(what, s string) error {
	if len(s) == 0 || len(s) > 64 {
		return fmt.Errorf("%s %q must be 1 to 64 characters long", what, s)
	}
	if i := strings.IndexFunc(s, func(c rune) bool { return c > 127 || !isAlnum(byte(c)) && c != '-' }); i >= 0 {
		return fmt.Errorf("%s %q has characters other than letters, digits and '-'", what, s)
	}
	return nil
}

// parseStored is ParseID for what lies in a repository.
func parseStored(s point.ID) error {
	if _, err := point.ParseID(string(s)); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}
