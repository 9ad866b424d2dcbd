// Package packaging is the Debian package of the agent. There is no code of the
// product in it: its tests install the package in a guest machine and use it as
// people do.
package packaging
