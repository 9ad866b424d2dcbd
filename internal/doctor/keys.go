package doctor

import (
	"bytes"
	"net/url"
	"os"
	"path/filepath"

	"snapd/internal/config"
)

// Where systemd and Debian keep what the agent is handed.
const (
	environmentFile = "/etc/default/snapd-agent"
	credentialName  = "snapd-agent.s3" //nolint:gosec // the name of one
)

func credentialDirs() []string {
	return []string{"/etc/credstore", "/etc/credstore.encrypted", "/run/credstore", "/run/credstore.encrypted", "/usr/lib/credstore", "/usr/lib/credstore.encrypted"}
}

// checkKeys: what a caller has in the environment, the agent does not have.
func checkKeys(r config.Repository) []Check {
	u, err := url.Parse(r.URL)
	if err != nil || u.Scheme != "s3" {
		return nil
	}
	name := "  keys of the agent"
	if r.CredentialsFile != "" {
		return nil // the check of the repository has used it
	}
	for _, dir := range credentialDirs() {
		for _, credential := range []string{credentialName + "." + r.Name, credentialName} {
			if _, err := os.Stat(filepath.Join(dir, credential)); err == nil {
				return []Check{{Check: name, OK: true, Why: "come from " + filepath.Join(dir, credential)}}
			}
		}
	}
	if text, err := os.ReadFile(environmentFile); err == nil && (bytes.Contains(text, []byte("AWS_ACCESS_KEY_ID=")) || bytes.Contains(text, []byte("MINIO_ACCESS_KEY="))) {
		return []Check{{Check: name, OK: true, Why: "come from " + environmentFile}}
	}
	return []Check{{
		Check: name, Why: "the agent has no keys for repository " + r.Name + ": the environment of a shell does not reach it",
		Do: "name credentials-file in the configuration, or put such a file into /etc/credstore/" + credentialName + " (root only; systemd-creds encrypt makes an encrypted one for /etc/credstore.encrypted), or the variables into " + environmentFile,
	}}
}
