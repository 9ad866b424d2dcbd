//go:build host && !long

package dockertest_test

// long asks for the whole of each matrix; here a sample of it is taken.
const long = false
