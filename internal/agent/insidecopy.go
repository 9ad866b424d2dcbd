package agent

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"

	"snapd/internal/advice"
	"snapd/internal/fs"
	"snapd/internal/inside"
	"snapd/internal/point"
)

// CopiedInside is one thing that was copied out of a point.
type CopiedInside struct {
	Point point.ID `json:"point"`
	From  string   `json:"from"`
	inside.Copied
}

// CopyInside copies files and folders out of points to a place on this host: into dest
// if that is a folder, else to that name. What exists there is refused, or, with replace,
// kept under another name. What was copied whole before a failure is returned with it.
func (a *Agent) CopyInside(ctx context.Context, places []string, dest string, replace bool) ([]CopiedInside, error) {
	spots, targets, err := a.planCopy(ctx, places, dest)
	if err != nil {
		return nil, err
	}
	o := inside.CopyOptions{}
	if replace {
		o.Aside = inside.AsideNow(a.Now())
	}
	var out []CopiedInside
	for i, s := range spots {
		from := path.Join(topOf(s.point, s.dataset), s.path)
		o.Progress = func(n int64) { a.Report(Event{Kind: Progress, Text: from, Bytes: n}) }
		err := a.within(ctx, s, func(t inside.Tree) error {
			done, err := t.Copy(ctx, s.path, targets[i], o)
			if err == nil {
				out = append(out, CopiedInside{s.point.ID, from, done})
			}
			return err
		})
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
			err = fmt.Errorf("%w: %w", fs.ErrNoSpace, err)
		}
		if err != nil && len(out) > 0 {
			err = advice.In(advice.Partial, err)
		}
		if err != nil {
			return out, err
		}
		a.tellCopied(out[len(out)-1])
	}
	return out, nil
}

// planCopy finds what is copied and where to, and refuses what would meet there.
func (a *Agent) planCopy(ctx context.Context, places []string, dest string) (spots []spotInside, targets []string, err error) {
	dest, err = filepath.Abs(dest)
	if err != nil {
		return nil, nil, err
	}
	info, err := os.Stat(dest)
	folder := err == nil && info.IsDir()
	if len(places) > 1 && !folder {
		return nil, nil, advice.With(advice.Usagef("%s is no folder, and %d things are to be copied there", dest, len(places)), "make it first, or copy one at a time")
	}
	for _, where := range places {
		s, err := a.findInside(ctx, where)
		if err == nil {
			err = s.needPath()
		}
		if err != nil {
			return nil, nil, err
		}
		to := dest
		if folder {
			to = filepath.Join(dest, path.Base(path.Join(topOf(s.point, s.dataset), s.path)))
		}
		if slices.Contains(targets, to) {
			return nil, nil, advice.With(advice.Usagef("two of the things named would both be %s", to), "copy them one at a time, to names of their own")
		}
		spots, targets = append(spots, s), append(targets, to)
	}
	return spots, targets, nil
}

// tellCopied warns of what a copy has not.
func (a *Agent) tellCopied(c CopiedInside) {
	for _, name := range c.Absent {
		a.warn("", "%s is empty: a dataset of its own, and not in point %s", filepath.Join(c.To, name), c.Point)
	}
	for _, what := range c.Lost {
		a.warn("", "%s: %s could not be kept, the filesystem there refuses it", c.To, what)
	}
}

// MountInside shows a dataset of a point at an empty folder of this host, read-only,
// until it is unmounted there. It returns the dataset's name.
func (a *Agent) MountInside(ctx context.Context, where, dir string) (shown point.Dataset, err error) {
	s, err := a.findInside(ctx, where)
	if err == nil {
		err = s.needPath()
	}
	if err != nil {
		return shown, err
	}
	if s.path != "." {
		return shown, advice.With(advice.Usagef("only a whole dataset is mounted, and %s is a part of one", path.Join(topOf(s.point, s.dataset), s.path)),
			"name the dataset: %s:%s", s.point.ID, topOf(s.point, s.dataset))
	}
	at, err := emptyFolder(dir)
	if err != nil {
		return shown, err
	}
	defer func() { err = errors.Join(err, at.Close()) }()
	o, err := a.openInside(ctx, s.point, s.dataset)
	if err != nil {
		return shown, err
	}
	return *s.dataset, errors.Join(o.Attach(at), o.Close())
}

// emptyFolder opens a folder in which nothing is that a mount would hide.
func emptyFolder(dir string) (*os.File, error) {
	at, err := os.Open(dir)
	if err != nil {
		return nil, advice.With(err, "make it first: mkdir %s", dir)
	}
	names, err := at.Readdirnames(1)
	if len(names) > 0 {
		err = advice.With(advice.Usagef("%s is not empty, and what is in it would be hidden", dir), "name an empty folder")
		return nil, errors.Join(err, at.Close())
	}
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, errors.Join(advice.Usagef("%s is no folder", dir), at.Close())
	}
	return at, nil
}
