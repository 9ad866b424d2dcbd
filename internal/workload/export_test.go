package workload

// NeverKnown makes a session one of which the engine did not say which process it is.
func NeverKnown(s *Session) {
	<-s.known
	s.process, s.known = process{}, make(chan struct{})
}

// PassedAs is a container of which the engine last said that it runs as a process, and
// whose mounts could not be read then.
func PassedAs(c Container, pid int) Container {
	c.Running, c.Pid, c.seen, c.passed = true, pid, nil, true
	return c
}
