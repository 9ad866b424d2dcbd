package agent

import (
	"context"
	"errors"

	"snapd/internal/fs"
	"snapd/internal/point"
)

// finish hands a restored dataset over to its target. What was there is moved
// aside in several steps, so that this host is not to go down in between.
func (a *Agent) finish(ctx context.Context, d point.Dataset, receiver fs.Receiver) (_ fs.Dataset, err error) {
	var released error
	release := a.stayUp("restore of "+d.Dataset+" takes its place", &released)
	made, err := receiver.Finish(ctx)
	release()
	return made, errors.Join(err, released)
}

// tellNotes passes on what a receiver has to say: what is locked, not mounted,
// or could not be set again.
func (a *Agent) tellNotes(receiver fs.Receiver) {
	if n, ok := receiver.(fs.Noter); ok {
		for _, note := range n.Notes() {
			a.warn("", "%s", note)
		}
	}
}
