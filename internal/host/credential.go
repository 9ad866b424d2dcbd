package host

import (
	"os"
	"path/filepath"
)

// Credential returns the file that holds a credential which systemd handed to
// this service (LoadCredential=, LoadCredentialEncrypted=, ImportCredential=),
// "" when it was handed none of that name.
func Credential(name string) string {
	dir := os.Getenv("CREDENTIALS_DIRECTORY")
	if dir == "" || name != filepath.Base(name) {
		return ""
	}
	file := filepath.Join(dir, name)
	if info, err := os.Stat(file); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	return file
}
