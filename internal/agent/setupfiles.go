package agent

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"snapd/internal/config"
	"snapd/internal/durable"
	"snapd/internal/ship"
)

// compose writes a first configuration.
func compose(repositories []config.Repository) string {
	var b strings.Builder
	b.WriteString("# snapd configuration; every key is described in docs/snapd.toml.md.\n")
	for _, r := range repositories {
		name := r.Name
		if strings.Contains(name, ".") {
			name = strconv.Quote(name)
		}
		fmt.Fprintf(&b, "\n[repository.%s]\nurl        = %q\n", name, r.URL)
		if r.Endpoint != "" {
			fmt.Fprintf(&b, "endpoint   = %q\n", r.Endpoint)
		}
		if r.Region != "" {
			fmt.Fprintf(&b, "region     = %q\n", r.Region)
		}
		if r.Encryption == config.EncryptionNone {
			b.WriteString("encryption = \"none\"\n")
		} else {
			quoted := make([]string, len(r.Recipients))
			for i, recipient := range r.Recipients {
				quoted[i] = strconv.Quote(recipient)
			}
			fmt.Fprintf(&b, "recipients = [%s]   # the keys that can read; this host cannot\n", strings.Join(quoted, ", "))
		}
		fmt.Fprintf(&b, "signing-key-file = %q\n", r.SigningKeyFile)
	}
	b.WriteString(`
# One group of containers or paths that belong together. Containers can also
# say it themselves with the label snapd.enable=true.
#
# [group.shop]
# compose-project = "shop"       # or containers = ["a", "b"], or paths = ["/srv/data"]
# keep-local      = "24h"
# keep            = "24 hourly, 7 daily, 4 weekly, 12 monthly"
`)
	return b.String()
}

// writeConfiguration is the last step: what stands in it is there by then.
func (s *setup) writeConfiguration(context.Context) error {
	what := "configuration " + s.File
	if !s.fresh {
		s.out.note(&s.out.There, what)
		return nil
	}
	repositories := make([]config.Repository, len(s.places))
	for i, p := range s.places {
		repositories[i] = p.Repository
	}
	text := compose(repositories)
	_, err := config.Parse(s.File, []byte(text))
	if err == nil {
		err = os.MkdirAll(filepath.Dir(s.File), 0o700)
	}
	if err == nil {
		err = durable.Create(s.File, []byte(text), 0o600)
	}
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	s.out.note(&s.out.Made, what)
	return nil
}

// saveSigner keeps a signing key in a new file.
func saveSigner(signer *ship.Signer, file string) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	return signer.Save(file)
}
