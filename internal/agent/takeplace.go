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
