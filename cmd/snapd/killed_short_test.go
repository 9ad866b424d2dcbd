//go:build host && !long

package main

// everyKill asks for a kill at every effect; here at some.
const everyKill = false
