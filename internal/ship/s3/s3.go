// Package s3 is a ship.Store on MinIO or any other S3, by minio-go. Each
// object is one request of a known size with a signed digest: no multipart
// uploads, no chunked signatures, which not every server takes. It does not
// try again by itself; ship.Retry does, so that there is one policy and people
// hear of it.
package s3

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"snapd/internal/advice"
	"snapd/internal/ship"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
	"github.com/minio/minio-go/v7/pkg/s3utils"
)

// Options say where the bucket is and by which account it is asked.
type Options struct {
	Endpoint string // "https://minio.example:9000"; without a scheme https is meant
	Bucket   string
	Prefix   string // of all keys, without slashes at the ends; may be empty
	Region   string // asked from the server if empty

	// Keys. If AccessKey is empty they come from the environment (AWS_*, then
	// MINIO_*), then from CredentialsFile in the form of the AWS tools.
	AccessKey       string
	SecretKey       string
	SessionToken    string
	CredentialsFile string // $AWS_SHARED_CREDENTIALS_FILE or ~/.aws/credentials if empty

	Timeouts Timeouts
}

// Store keeps objects in a bucket below a prefix.
type Store struct {
	core     *minio.Core
	endpoint string
	bucket   string
	prefix   string // empty, or ends in a slash

	checksums bool // the server takes x-amz-checksum headers
}

// New makes a store. It asks the server nothing.
func New(o Options) (*Store, error) {
	host, secure, err := parseEndpoint(o.Endpoint)
	if err != nil {
		return nil, err
	}
	prefix := strings.Trim(o.Prefix, "/")
	if prefix != "" {
		if err := ship.CheckKey(prefix); err != nil {
			return nil, fmt.Errorf("prefix: %w", err)
		}
		prefix += "/"
	}
	if o.Bucket == "" {
		return nil, errors.New("bucket: its name is missing")
	}
	core, err := minio.NewCore(host, &minio.Options{
		Creds:      o.credentials(),
		Secure:     secure,
		Region:     o.Region,
		Transport:  answers{newTransport(o.Timeouts)},
		MaxRetries: 1,
	})
	if err != nil {
		return nil, fmt.Errorf("endpoint %s: %w", o.Endpoint, err)
	}
	return &Store{
		core: core, endpoint: o.Endpoint, bucket: o.Bucket, prefix: prefix,
		checksums: !s3utils.IsGoogleEndpoint(*core.EndpointURL()),
	}, nil
}

func parseEndpoint(s string) (host string, secure bool, err error) {
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", false, fmt.Errorf("endpoint: %w", err)
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
		return "", false, advice.With(fmt.Errorf("endpoint %q is not of the form https://host:port", s), "put bucket and prefix into url = \"s3://bucket/prefix\"")
	}
	return u.Host, u.Scheme == "https", nil
}

func (o Options) credentials() *credentials.Credentials {
	if o.AccessKey != "" {
		return credentials.NewStaticV4(o.AccessKey, o.SecretKey, o.SessionToken)
	}
	return credentials.NewChainCredentials([]credentials.Provider{
		&credentials.EnvAWS{},
		&credentials.EnvMinio{},
		&credentials.FileAWSCredentials{Filename: o.credentialsFile()},
	})
}

// credentialsFile is never "": minio-go would look into a home directory by
// its own rules, and fail where there is none.
func (o Options) credentialsFile() string {
	if o.CredentialsFile != "" {
		return o.CredentialsFile
	}
	if f := os.Getenv("AWS_SHARED_CREDENTIALS_FILE"); f != "" {
		return f
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "/nonexistent"
	}
	return filepath.Join(home, ".aws", "credentials")
}

// Put is as ship.Store says.
func (s *Store) Put(ctx context.Context, key string, body []byte, ifAbsent bool) error {
	_, err := s.PutDigest(ctx, key, body, ifAbsent, sha256.Sum256(body))
	return err
}

// PutDigest is as ship.DigestPutter says. Status 200 alone is not believed: a
// page of a proxy has it too.
func (s *Store) PutDigest(ctx context.Context, key string, body []byte, ifAbsent bool, sum ship.Digest) (etag string, err error) {
	info, err := s.put(ctx, key, body, ifAbsent, sum, ship.Lock{})
	return info.ETag, err
}

// put sends a checksum with every object: a bucket that locks what is put
// refuses one without.
func (s *Store) put(ctx context.Context, key string, body []byte, ifAbsent bool, sum ship.Digest, lock ship.Lock) (minio.UploadInfo, error) {
	if err := ship.CheckKey(key); err != nil {
		return minio.UploadInfo{}, err
	}
	o := minio.PutObjectOptions{DisableMultipart: true, DisableContentSha256: true}
	if ifAbsent {
		o.SetMatchETagExcept("*")
	}
	if !lock.Until.IsZero() {
		o.Mode, o.RetainUntilDate = minio.RetentionMode(lock.Mode), lock.Until
	}
	contentMD5 := ""
	if s.checksums {
		o.UserMetadata = map[string]string{checksumHeader: base64.StdEncoding.EncodeToString(sum[:])}
	} else {
		contentMD5 = base64.StdEncoding.EncodeToString(md5Of(body))
	}
	// The digest is signed with the request, so that the server refuses what
	// changed on its way; given beforehand, the body need not be sent in
	// signed chunks.
	guarded := &bodyReader{rest: body}
	defer guarded.close()
	info, err := s.core.PutObject(ctx, s.bucket, s.prefix+key, guarded, int64(len(body)), contentMD5, sum.String(), o)
	if err != nil && !lock.Until.IsZero() {
		return info, s.explainLock(ctx, "put "+key, err)
	}
	if err != nil {
		return info, s.explain(ctx, "put "+key, err)
	}
	if err := s.proved(info, body, sum); err != nil {
		return info, fmt.Errorf("put %s: %w", key, err)
	}
	return info, nil
}

// bodyReader lets no reader look at the body after Put returned: a transport
// that was cancelled may go on reading a moment longer, and the caller uses
// the memory again.
type bodyReader struct {
	mu   sync.Mutex
	rest []byte
	done bool
}

func (b *bodyReader) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done {
		return 0, errors.New("the put is over")
	}
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

func (b *bodyReader) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.done, b.rest = true, nil
}

// Get is as ship.Store says.
func (s *Store) Get(ctx context.Context, key string) (io.ReadCloser, error) {
	if err := ship.CheckKey(key); err != nil {
		return nil, err
	}
	return s.get(ctx, key, minio.GetObjectOptions{})
}

func (s *Store) get(ctx context.Context, key string, o minio.GetObjectOptions) (io.ReadCloser, error) {
	body, info, _, err := s.core.GetObject(ctx, s.bucket, s.prefix+key, o)
	if err != nil {
		return nil, s.explain(ctx, "get "+key, err)
	}
	return &getBody{body: body, left: info.Size, explain: func(err error) error { return s.explain(ctx, "get "+key, err) }}, nil
}

// getBody ends in io.EOF only after as many bytes as the server announced.
type getBody struct {
	body    io.ReadCloser
	left    int64
	explain func(error) error
}

func (g *getBody) Read(p []byte) (int, error) {
	n, err := g.body.Read(p)
	g.left -= int64(n)
	if err == io.EOF { //nolint:errorlint // only the bare one is an end
		if g.left != 0 {
			return n, g.explain(io.ErrUnexpectedEOF)
		}
		return n, io.EOF
	}
	if err != nil {
		err = g.explain(err)
	}
	return n, err
}

func (g *getBody) Close() error { return g.body.Close() }

// Stat is as ship.ObjectStater says.
func (s *Store) Stat(ctx context.Context, key string) (ship.Object, error) {
	if err := ship.CheckKey(key); err != nil {
		return ship.Object{}, err
	}
	info, err := s.core.StatObject(ctx, s.bucket, s.prefix+key, minio.StatObjectOptions{})
	if err != nil {
		return ship.Object{}, s.explain(ctx, "stat "+key, err)
	}
	return ship.Object{Key: key, Size: info.Size, Time: info.LastModified.UTC(), ETag: info.ETag}, nil
}

// List is as ship.Store says. Each answer is checked to be a listing of this
// bucket and prefix, by the transport.
func (s *Store) List(ctx context.Context, prefix string, each func(ship.Object) error) error {
	return s.list(ctx, prefix, "", each)
}

// ListAfter is as ship.RangeLister says.
func (s *Store) ListAfter(ctx context.Context, prefix, after string, each func(ship.Object) error) error {
	return s.list(ctx, prefix, s.prefix+after, each)
}

func (s *Store) list(ctx context.Context, prefix, after string, each func(ship.Object) error) error {
	noOwner := false
	o := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true, FetchOwner: &noOwner, StartAfter: after}
	wanted := &listing{bucket: s.bucket, prefix: o.Prefix}
	expected := context.WithValue(ctx, listingKey{}, wanted)
	for info := range s.core.ListObjectsIter(expected, s.bucket, o) {
		if info.Err != nil {
			return s.explain(ctx, "list "+prefix, info.Err)
		}
		if err := wanted.lists(info.Key); err != nil {
			return s.explain(ctx, "list "+prefix, err)
		}
		key := strings.TrimPrefix(info.Key, s.prefix)
		if ship.CheckKey(key) != nil {
			continue // a folder's marker, or another program's
		}
		if err := each(ship.Object{Key: key, Size: info.Size, Time: info.LastModified.UTC(), ETag: info.ETag}); err != nil {
			return err
		}
	}
	// A listing that was cancelled between two pages just ends, without an
	// error: it must not look complete.
	return ctx.Err()
}

// Delete is as ship.Store says. In a bucket with versioning the object stays,
// and is hidden.
func (s *Store) Delete(ctx context.Context, key string) error {
	if err := ship.CheckKey(key); err != nil {
		return err
	}
	err := s.explain(ctx, "delete "+key, s.core.RemoveObject(ctx, s.bucket, s.prefix+key, minio.RemoveObjectOptions{}))
	if errors.Is(err, ship.ErrNotFound) {
		return nil
	}
	return err
}
