package s3

import (
	"context"
	"fmt"
	"io"
	"strings"

	"snapd/internal/ship"

	"github.com/minio/minio-go/v7"
)

var _ ship.Versioner = (*Store)(nil)

// versionsPage is how many versions one request lists.
const versionsPage = 1000

// Versions is as ship.Versioner says.
func (s *Store) Versions(ctx context.Context, key string, limit int) ([]string, error) {
	if err := ship.CheckKey(key); err != nil {
		return nil, err
	}
	var ids []string
	err := s.eachVersion(ctx, key, func(v minio.ObjectInfo) bool {
		if v.Key == s.prefix+key && !v.IsDeleteMarker {
			ids = append(ids, v.VersionID)
		}
		return v.Key == s.prefix+key && len(ids) < limit
	})
	if err != nil {
		return nil, fmt.Errorf("list the versions of %s: %w", key, err)
	}
	return ids, nil
}

// GetVersion is as ship.Versioner says.
func (s *Store) GetVersion(ctx context.Context, key, version string) (io.ReadCloser, error) {
	if err := ship.CheckKey(key); err != nil {
		return nil, err
	}
	return s.get(ctx, key, minio.GetObjectOptions{VersionID: version})
}

// CountHidden is as ship.Versioner says.
func (s *Store) CountHidden(ctx context.Context, prefix string, limit int) (versions int, more bool, err error) {
	hidden := map[string]bool{}
	stored := map[string]int{}
	seen := 0
	err = s.eachVersion(ctx, prefix, func(v minio.ObjectInfo) bool {
		if seen++; seen > limit {
			more = true
			return false
		}
		if v.IsDeleteMarker {
			hidden[v.Key] = hidden[v.Key] || v.IsLatest
		} else {
			stored[v.Key]++
		}
		return true
	})
	if err != nil {
		return 0, false, fmt.Errorf("list versions: %w", err)
	}
	for key, n := range stored {
		if hidden[key] {
			versions += n
		}
	}
	return versions, more, nil
}

// eachVersion lists versions and delete markers, of each key the newest first,
// until each returns false.
func (s *Store) eachVersion(ctx context.Context, prefix string, each func(minio.ObjectInfo) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	o := minio.ListObjectsOptions{Prefix: s.prefix + prefix, Recursive: true, WithVersions: true, MaxKeys: versionsPage}
	for v := range s.core.ListObjectsIter(ctx, s.bucket, o) {
		if v.Err != nil {
			return s.explain(ctx, "list below "+prefix, v.Err)
		}
		if !strings.HasPrefix(v.Key, s.prefix+prefix) {
			return fmt.Errorf("list below %s: %w: it listed the key %q", prefix, ship.ErrNotAStore, v.Key)
		}
		if !each(v) {
			return nil
		}
	}
	return ctx.Err()
}
