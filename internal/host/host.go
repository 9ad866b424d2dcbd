// Package host is this host's systemd: the socket that was passed in, readiness
// and watchdog, the journal, inhibitor locks, credentials, timers, and the user
// at the other end of a socket. It is the only package that knows D-Bus. It decides
// nothing about snapshots, and every function says in its error when there is no
// systemd, so that work can go on without.
package host
