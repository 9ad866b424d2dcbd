package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"

	"snapd/internal/point"
	"snapd/internal/ship"
)

// repositoryPoint is a point as a repository keeps it: names encrypted, streams
// by id.
func repositoryPoint(p point.Point, o *opened) (ship.PointRecord, error) {
	rec := ship.PointRecord{
		ID: p.ID, Host: HostID(o.repo.ID), Time: p.Time, Consistency: p.Consistency,
		WindowUS: p.WindowUS, HeldUS: p.HeldUS, Timings: p.Timings,
		Secret: secretOf(p),
	}
	for _, d := range p.Datasets {
		s := p.ShippedTo(o.name, d.Dataset)
		if s == nil {
			return rec, fmt.Errorf("dataset %s of point %s was not shipped", d.Dataset, p.ID)
		}
		if placed, known := o.placed[s.Stream]; known {
			rec.Streams = append(rec.Streams, placed)
			continue
		}
		digest, err := ship.ParseDigest(s.Digest)
		if err != nil {
			return rec, fmt.Errorf("dataset %s of point %s: %w", d.Dataset, p.ID, err)
		}
		rec.Streams = append(rec.Streams, ship.PointStream{
			Stream: s.Stream, Driver: d.Driver, Origin: d.Origin, GUID: d.GUID, Base: s.Base,
			SentBytes: s.SentBytes, StoredBytes: s.StoredBytes, Segments: s.Segments, Digest: digest,
		})
	}
	return rec, nil
}

// secretOf is the part of a point that only holders of a key may read.
func secretOf(p point.Point) ship.Secret {
	return ship.Secret{
		Group: p.Group, Host: p.Host, Datasets: p.Datasets, Freeze: p.Freeze, Why: p.Why,
		Members: p.Members, Warnings: p.Warnings, Containers: p.Containers, Quiesced: p.Quiesced, Hooks: p.Hooks,
		Properties: p.Properties, Items: p.Items, Changed: p.Changed,
	}
}

// pointOf is a point of a repository as this program shows it. Without an
// identity its names stay hidden.
func pointOf(r ship.PointRecord) point.Point {
	p := point.Point{
		ID: r.ID, Group: r.Secret.Group, Host: r.Secret.Host, Time: r.Time, Consistency: r.Consistency,
		WindowUS: r.WindowUS, HeldUS: r.HeldUS, Timings: r.Timings, Datasets: r.Secret.Datasets,
		Freeze: r.Secret.Freeze, Why: r.Secret.Why, Members: r.Secret.Members,
		Warnings: r.Secret.Warnings, Containers: r.Secret.Containers, Quiesced: r.Secret.Quiesced, Hooks: r.Secret.Hooks,
		Properties: r.Secret.Properties, Items: r.Secret.Items, Changed: r.Secret.Changed,
	}
	if r.Sealed {
		p.Host = r.Host
		for _, s := range r.Streams {
			p.Datasets = append(p.Datasets, point.Dataset{Driver: s.Driver, Dataset: s.Origin, GUID: s.GUID, Origin: s.Origin})
		}
	}
	return p
}

func shippedFrom(name string, r ship.PointRecord, datasets []point.Dataset) []point.Shipped {
	names := map[string]string{}
	for _, d := range datasets {
		names[d.GUID] = d.Dataset
	}
	out := make([]point.Shipped, 0, len(r.Streams))
	for _, s := range r.Streams {
		dataset := names[s.GUID]
		if dataset == "" {
			dataset = s.Origin
		}
		out = append(out, point.Shipped{
			Repository: name, Dataset: dataset, Stream: s.Stream, Base: s.Base, SentBytes: s.SentBytes,
			StoredBytes: s.StoredBytes, Segments: s.Segments, Digest: s.Digest.String(),
		})
	}
	return out
}

// HostID tells hosts apart without naming them: it tells readers of the
// bucket nothing, and is another one in each repository.
func HostID(repository string) string {
	id, err := os.ReadFile("/etc/machine-id")
	if err != nil {
		id = []byte("no machine-id")
	}
	sum := sha256.Sum256([]byte("snapd host " + repository + " " + strings.TrimSpace(string(id))))
	return hex.EncodeToString(sum[:8])
}
