//go:build host && long

package main

// everyKill asks for a kill at every effect (make test-long).
const everyKill = true
