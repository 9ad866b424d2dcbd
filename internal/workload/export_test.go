package workload

// NeverKnown makes a session one of which the engine did not say which process it is.
func NeverKnown(s *Session) {
	<-s.known
	s.process, s.known = process{}, make(chan struct{})
}
