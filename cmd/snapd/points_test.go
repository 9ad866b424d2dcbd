package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"snapd/internal/point"
	"snapd/internal/ship"
	"snapd/internal/ship/dir"

	"github.com/rogpeppe/go-internal/testscript"
)

// makePoints is the script command
//
//	points REPOSITORY KEY GROUP [AGE...]
//
// It ships a restore point of that age, such as 3h or -8760h, for each, the first
// one full and the others increments of it, and puts their ids into $P1, $P2, …
// No storage is needed.
func makePoints(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 3 {
		ts.Fatalf("usage: points REPOSITORY KEY GROUP [AGE...]")
	}
	store, err := dir.New(ts.MkAbs(args[0]))
	ts.Check(err)
	signer, err := ship.LoadSigner(ts.MkAbs(args[1]))
	ts.Check(err)
	ctx := context.Background()
	repo, err := ship.Open(ctx, store, ship.OpenOptions{Signer: signer})
	ts.Check(err)
	records, err := ship.OpenRecords(ts.MkAbs("uploads"))
	ts.Check(err)
	var base *ship.StreamRef
	for i, age := range args[3:] {
		old, err := time.ParseDuration(age)
		ts.Check(err)
		rec := ship.PointRecord{
			ID: point.NewID(time.Now().Add(time.Duration(i) * time.Millisecond)), Host: "host", Time: time.Now().Add(-old).UTC(), Consistency: point.Crash,
			Secret: ship.Secret{Group: args[2], Host: "host", Datasets: []point.Dataset{{Driver: "btrfs", Dataset: "/srv", Origin: "origin", GUID: fmt.Sprint("guid", i)}}},
		}
		head := ship.Head{Point: rec.ID, Driver: "btrfs", Format: "btrfs-2", Origin: "origin", GUID: fmt.Sprint("guid", i), Base: base, Number: i, Host: "host"}
		if base != nil {
			head.Depth = base.Depth + 1
		}
		open := func(context.Context) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(bytes.Repeat([]byte(fmt.Sprint("stream ", i, "\n")), 1000))), nil
		}
		s, err := repo.Upload(ctx, head, open, records, nil)
		ts.Check(err)
		in, err := s.InPoint("btrfs")
		ts.Check(err)
		rec.Streams = []ship.PointStream{in}
		_, err = repo.PutPoint(ctx, rec, nil)
		ts.Check(err)
		ts.Check(repo.EndLease(ctx, s.ID))
		base = &s.StreamRef
		ts.Setenv(fmt.Sprint("P", i+1), string(rec.ID))
		ts.Setenv(fmt.Sprint("S", i+1), string(s.ID))
	}
}

// spoil is the script command that changes the last byte of each object that a
// pattern names.
func spoil(ts *testscript.TestScript, _ bool, args []string) {
	for _, pattern := range args {
		names, err := filepath.Glob(ts.MkAbs(pattern))
		ts.Check(err)
		if len(names) == 0 {
			ts.Fatalf("nothing is called %s", pattern)
		}
		for _, name := range names {
			text, err := os.ReadFile(name)
			ts.Check(err)
			text[len(text)-1] ^= 1
			ts.Check(os.Chmod(name, 0o600))
			ts.Check(os.WriteFile(name, text, 0o600))
		}
	}
}
