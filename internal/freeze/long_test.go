//go:build (host || guest) && long

package freeze

// long asks for the whole of each matrix (make test-long).
const long = true
