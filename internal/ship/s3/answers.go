package s3

import (
	"bytes"
	"crypto/md5" //nolint:gosec // the ETag of an object is its MD5, by the protocol
	"encoding/base64"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/ship"

	"github.com/minio/minio-go/v7"
)

// checksumHeader asks the server to compare the body with a digest. It says
// the same in its answer.
const checksumHeader = "x-amz-checksum-sha256"

// proved asks for what only a server says that has these bytes: the checksum,
// or where it knows none, an ETag that is their MD5.
func (s *Store) proved(info minio.UploadInfo, body []byte, sum ship.Digest) error {
	if echo := info.ChecksumSHA256; echo != "" {
		if echo == base64.StdEncoding.EncodeToString(sum[:]) {
			return nil
		}
		return fmt.Errorf("%s: %w: it was put with SHA-256 %s, and the server stored another object (%s)", s.endpoint, ship.ErrDamaged, sum, echo)
	}
	if strings.EqualFold(info.ETag, hex.EncodeToString(md5Of(body))) {
		return nil
	}
	return advice.With(
		fmt.Errorf("%s: %w: it took the object without an error, but did not say its checksum, nor its MD5 as ETag", s.endpoint, ship.ErrNotAStore),
		"check the endpoint, and what stands before the server: a proxy, a firewall, or the login page of a network")
}

func md5Of(body []byte) []byte {
	sum := md5.Sum(body) //nolint:gosec // as above
	return sum[:]
}

// refusedError is an answer that must not be taken for one of an object store.
// Its text says nothing of what came, because minio-go looks into texts.
type refusedError struct {
	why     string
	deleted bool // a delete marker: of an object store, and still no answer
}

func (*refusedError) Error() string { return "the answer is refused" }

func refusef(format string, args ...any) error {
	return &refusedError{why: fmt.Sprintf(format, args...)}
}

// answers lets only pass what an object store can answer. It sits below
// minio-go, which decodes a login page as an empty listing, and takes a 404 of
// a proxy for a missing object.
type answers struct{ next http.RoundTripper }

// RoundTrip is as http.RoundTripper says.
func (a answers) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := a.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if err := check(req, resp); err != nil {
		return nil, errors.Join(err, resp.Body.Close())
	}
	return resp, nil
}

// maxAnswer bounds what is read of an answer that is looked into: a page of a
// listing has up to 1,000 keys.
const maxAnswer = 16 << 20 // bytes

func check(req *http.Request, resp *http.Response) error {
	if resp.StatusCode >= 500 || resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout {
		return nil // it is away, whichever server says so: worth trying again
	}
	if resp.Header.Get("x-amz-delete-marker") == "true" && (resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed) {
		return &refusedError{deleted: true}
	}
	if resp.StatusCode/100 == 3 && !strings.Contains(resp.Header.Get("Content-Type"), "xml") && resp.Header.Get("x-amz-bucket-region") == "" {
		return refusef("it answered %s %s with another address (status %s)", req.Method, req.URL.Path, resp.Status)
	}
	if req.Method == http.MethodHead {
		return nil
	}
	if page, err := isPage(resp); err != nil || page {
		return errors.Join(err, refusef("it answered %s %s with a page (status %s)", req.Method, req.URL.Path, resp.Status))
	}
	switch {
	case resp.StatusCode == http.StatusNotFound:
		return checkNotFound(req, resp)
	case resp.StatusCode == http.StatusOK && req.Method == http.MethodGet && req.URL.Query().Get("list-type") == "2":
		want, ok := req.Context().Value(listingKey{}).(*listing)
		if !ok {
			return nil
		}
		body, err := readBack(resp)
		if err != nil {
			return err
		}
		return want.check(body)
	}
	return nil
}

// isPage tells whether the body is a page for people. Some servers say
// text/html of an empty one.
func isPage(resp *http.Response) (bool, error) {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind != "text/html" && kind != "application/xhtml+xml" {
		return false, nil
	}
	var first [512]byte
	n, err := io.ReadFull(resp.Body, first[:])
	if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, err
	}
	resp.Body = &prefixed{Reader: io.MultiReader(bytes.NewReader(first[:n]), resp.Body), Closer: resp.Body}
	return bytes.HasPrefix(bytes.TrimSpace(first[:n]), []byte("<")), nil
}

type prefixed struct {
	io.Reader
	io.Closer
}

// readBack reads a body and puts it back, to be read again.
func readBack(resp *http.Response) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	resp.Body = &prefixed{Reader: bytes.NewReader(body), Closer: resp.Body}
	return body, err
}

// checkNotFound wants the document that an object store sends with a 404. A
// proxy whose server is not there yet says 404 as well.
func checkNotFound(req *http.Request, resp *http.Response) error {
	body, err := readBack(resp)
	if err != nil {
		return err
	}
	var said struct {
		XMLName xml.Name
		Code    string
	}
	if err := xml.Unmarshal(body, &said); err != nil || said.XMLName.Local != "Error" || said.Code == "" {
		return refusef("it answered %s %s with status 404 and without the reason that an object store gives", req.Method, req.URL.Path)
	}
	return nil
}

type listingKey struct{}

// listing is what the answers to one List must be. It travels with the
// context of the requests that minio-go makes for it, one after the other.
type listing struct {
	bucket, prefix string
	token          string // of the page before
}

// listingPage is what is looked at before minio-go decodes a page. It decodes the
// keys, which List then looks at: decoding a thousand of them twice would cost as
// much as all else that a look at a large repository computes.
type listingPage struct {
	XMLName               xml.Name
	Name                  string
	Prefix                string
	EncodingType          string
	IsTruncated           bool
	NextContinuationToken string
}

func (l *listing) check(body []byte) error {
	var page listingPage
	if err := xml.Unmarshal(withoutContents(body), &page); err != nil {
		if syntax, ok := errors.AsType[*xml.SyntaxError](err); ok && strings.HasPrefix(strings.TrimSpace(string(body[:min(len(body), 512)])), "<?xml") {
			return fmt.Errorf("the listing broke off: %w", syntax)
		}
		return refusef("its answer to a listing is no XML")
	}
	plain := func(s string) string {
		if page.EncodingType != "url" {
			return s
		}
		if t, err := url.QueryUnescape(s); err == nil {
			return t
		}
		return s
	}
	switch {
	case page.XMLName.Local != "ListBucketResult":
		return refusef("its answer to a listing is a document of type %q", page.XMLName.Local)
	case page.Name != "" && page.Name != l.bucket:
		return refusef("it listed bucket %q instead of %q", page.Name, l.bucket)
	case plain(page.Prefix) != l.prefix:
		return refusef("it listed what begins with %q instead of %q", plain(page.Prefix), l.prefix)
	case page.IsTruncated && page.NextContinuationToken == "":
		return refusef("it said that its listing goes on, and not where")
	case page.IsTruncated && page.NextContinuationToken == l.token:
		return refusef("its listing goes on where it was before")
	}
	l.token = page.NextContinuationToken
	return nil
}

// withoutContents is a page without the elements that name objects. One that is not
// closed stays, so that it is found to be broken off.
func withoutContents(page []byte) []byte {
	const begin, end = "<Contents>", "</Contents>"
	var rest []byte
	for {
		at := bytes.Index(page, []byte(begin))
		if at < 0 {
			return append(rest, page...)
		}
		length := bytes.Index(page[at:], []byte(end))
		if length < 0 {
			return append(rest, page...)
		}
		rest = append(rest, page[:at]...)
		page = page[at+length+len(end):]
	}
}

// lists refuses a key that no listing of the prefix has.
func (l *listing) lists(key string) error {
	if !strings.HasPrefix(key, l.prefix) {
		return refusef("it listed the key %q, which does not begin with %q", key, l.prefix)
	}
	return nil
}
