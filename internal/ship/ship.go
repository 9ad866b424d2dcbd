// Package ship carries a stream of a storage system to encrypted segments in an
// object store and back: it makes and opens repositories, uploads streams
// with bounded memory, goes on with an upload that was interrupted, signs
// what it writes and checks everything it reads, and removes what nothing
// needs any more. docs/FORMAT.md says what lies in a repository, byte by
// byte; DESIGN.md beside this file says why, and what a crash leaves.
//
// It knows nothing of storages, containers, retention or S3: streams are
// readers, and a Store is what it is given. It decides neither when something
// is shipped nor what is kept.
package ship
