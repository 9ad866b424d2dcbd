//go:build host

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"snapd/internal/doctor"
	"snapd/internal/ship/shiptest"
)

// protection is what doctor says of a bucket.
func (h *host) protection() doctor.Check {
	h.t.Helper()
	out, _, _ := h.snapd("--json", "doctor")
	var doc struct{ Checks []doctor.Check }
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		h.t.Fatalf("%v in %s", err, out)
	}
	for _, c := range doc.Checks {
		if c.Check == "  protection" {
			return c
		}
	}
	h.t.Fatal("doctor does not look at the protection")
	return doctor.Check{}
}

// TestABucketWithLocks: what a ship builds on is locked for as long as itself,
// doctor says until when, and which right lacks where it is not.
func TestABucketWithLocks(t *testing.T) {
	minio := shiptest.StartMinIO(t)
	minio.Bucket(t, "backups", true)
	minio.Lock(t, "backups", "COMPLIANCE", 30)
	t.Setenv("AWS_ACCESS_KEY_ID", minio.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", minio.SecretKey)
	h := newHost(t, "s3://backups/host1", "--endpoint", minio.Endpoint())
	data := h.subvolume("data of a shop@ä")
	random(t, filepath.Join(data, "file"), 2<<20)
	h.configure(fmt.Sprintf("[group.data]\npaths = [%q]", data))
	h.must("run", "data")
	if c := h.protection(); !c.OK || !strings.Contains(c.Why, "30 days (COMPLIANCE), and each ship locks what it builds on") {
		t.Errorf("doctor: %+v", c)
	}
	// A bucket that locks for longer than before: the base is behind at once.
	minio.Lock(t, "backups", "COMPLIANCE", 90)
	appendTo(t, filepath.Join(data, "file"), "more")
	h.must("run", "data")
	until := time.Now().UTC().Add(90 * 24 * time.Hour).Format("2006-01-02")
	if c := h.protection(); !c.OK || !strings.Contains(c.Why, "the oldest stream that restore points build on") || !strings.Contains(c.Why, "is locked until "+until) {
		t.Errorf("doctor: %+v", c)
	}

	v := minio.Limited(t, "s3:PutObject", "s3:GetObject", "s3:ListBucket", "s3:DeleteObject",
		"s3:GetObjectRetention", "s3:GetBucketObjectLockConfiguration", "s3:GetBucketVersioning", "s3:GetBucketLocation")
	h.env = append(h.env, "AWS_ACCESS_KEY_ID="+v.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+v.SecretAccessKey, "AWS_SESSION_TOKEN="+v.SessionToken)
	minio.Lock(t, "backups", "COMPLIANCE", 200)
	_, says, status := h.snapd("run", "data")
	if status != 0 || !strings.Contains(says, "locks cannot be extended") || !strings.Contains(says, "s3:PutObjectRetention") {
		t.Errorf("without the right: exit status %d", status)
	}
	if _, says, status := h.snapd("run", "data"); status != 0 || strings.Contains(says, "locks cannot") {
		t.Errorf("told twice, or exit status %d", status)
	}
	c := h.protection()
	if c.OK || c.Level != doctor.Warn || !strings.Contains(c.Why, "cannot extend locks; the oldest stream that restore points build on, of ") ||
		!strings.Contains(c.Do, "s3:PutObjectRetention") || !strings.Contains(c.Do, `full-every = "100d"`) {
		t.Errorf("doctor: %+v", c)
	}
}

// TestAllWasDeletedBehindDeleteMarkers: it once was "not a repository, run snapd
// init".
func TestAllWasDeletedBehindDeleteMarkers(t *testing.T) {
	minio := shiptest.StartMinIO(t)
	minio.Bucket(t, "backups", true)
	minio.Lock(t, "backups", "GOVERNANCE", 30)
	t.Setenv("AWS_ACCESS_KEY_ID", minio.AccessKey)
	t.Setenv("AWS_SECRET_ACCESS_KEY", minio.SecretKey)
	h := newHost(t, "s3://backups/hosts/one", "--endpoint", minio.Endpoint())
	data := h.subvolume("data")
	random(t, filepath.Join(data, "file"), 2<<20)
	want, err := os.ReadFile(filepath.Join(data, "file"))
	if err != nil {
		t.Fatal(err)
	}
	h.configure(fmt.Sprintf("[group.data]\npaths = [%q]", data))
	h.must("run", "data")
	minio.HideAll(t, "backups")

	for _, command := range []string{"verify", "run"} {
		words := []string{command}
		if command == "run" {
			words = append(words, "data")
		}
		out, says, status := h.snapd(words...)
		if text := out + says; status == 0 || strings.Contains(text, "not a repository") || strings.Contains(text, "snapd init") ||
			!strings.Contains(text, "hidden behind a delete marker") || !strings.Contains(text, "versions below the prefix are there") || !strings.Contains(text, "remove the delete markers") {
			t.Errorf("%s: exit status %d", command, status)
		}
	}
	for _, words := range [][]string{{"list"}, {"--kit", h.path("kit"), "list"}} {
		out, says, status := h.snapd(words...)
		if status != 0 || !strings.Contains(out, "data") || !strings.Contains(says, "hidden behind a delete marker") {
			t.Errorf("%v: exit status %d", words, status)
		}
	}
	if out := h.must("status"); !strings.Contains(out, "hidden behind a delete marker") {
		t.Error("status does not say it")
	}
	target := filepath.Join(h.btrfs, "back again")
	h.must("--kit", h.path("kit"), "restore", "latest", "--to", "btrfs:"+target)
	if got, err := os.ReadFile(filepath.Join(target, "file")); err != nil || !bytes.Equal(got, want) {
		t.Errorf("restored %d bytes, %v", len(got), err)
	}
}
