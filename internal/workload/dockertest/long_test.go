//go:build host && long

package dockertest_test

// long asks for the whole of each matrix (make test-long).
const long = true
