package workload

import "snapd/internal/fs"

// Item is one mount of a member, or one path of the configuration, and where it
// lies. What is mounted below it is none by itself.
type Item struct {
	Project string // of Docker Compose, or the Swarm stack
	Member  string // the service, which outlives its containers, or the container's name; "" for a path
	Mount   Mount  // of a member
	Target  string // path in the container, or the path of the configuration
	Source  string // where it lies on this host, without symbolic links
	Place   fs.Place
}

// Labels of what containers come and go for.
const (
	composeOneOff = "com.docker.compose.oneoff"
	swarmStack    = "com.docker.stack.namespace"
)

// itemOf is the item of a mount before it is known where it lies. What Compose
// runs once, beside its services, has none: it is not expected to be there again.
func itemOf(c Container, m Mount) *Item {
	i := &Item{Project: c.Project, Member: c.Name, Mount: m, Target: m.Target}
	switch {
	case c.Labels[composeOneOff] == "True":
		return nil
	case c.Project != "" && c.Service != "":
		i.Member = c.Service
	case c.Labels[swarmService] != "":
		i.Project, i.Member = c.Labels[swarmStack], c.Labels[swarmService]
	}
	return i
}

// lies notes where what is being looked at lies.
func (r *resolver) lies(place fs.Place, path string) {
	if r.item == nil {
		return
	}
	item := *r.item
	item.Place, item.Source = place, path
	r.out.Items = append(r.out.Items, item)
}
