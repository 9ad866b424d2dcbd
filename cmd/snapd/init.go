package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/config"
	"snapd/internal/ship"

	"github.com/spf13/cobra"
)

func (c *cli) initCommand() *cobra.Command {
	kit, encryption := "", string(config.EncryptionAge)
	cmd := &cobra.Command{
		Use:     "init",
		GroupID: "host",
		Short:   "Make what is missing: configuration, keys, repositories",
		Long: `Make what is missing and touch nothing that is there: a first configuration
(for --repository), the signing key, and the repositories that the configuration
names. The identity that can read is made with the configuration and is not
kept on this host: it is in the recovery kit, written to the file of --kit
or printed once.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 && c.where.config == "" {
				return agent.ErrNotRoot
			}
			o := agent.InitOptions{
				File: c.where.config, URL: c.where.repository, Endpoint: c.where.endpoint, Region: c.where.region,
				Encryption: config.Encryption(encryption),
				Store: func(_ context.Context, r config.Repository) (ship.Store, error) {
					return makeStore(r, c.screen.report)
				},
			}
			if o.File == "" {
				o.File = config.DefaultFile
			}
			o.Kit = c.keepKit(kit)
			return c.init(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&kit, "kit", "", "write the recovery kit to this new file instead of printing it")
	f.StringVar(&encryption, "encryption", encryption, `"age", or "none" only if you really mean it`)
	return cmd
}

// keepKit writes the recovery kit to a new file, or shows it this once when
// it holds an identity that lies nowhere else.
func (c *cli) keepKit(file string) func(text string, withIdentity bool) error {
	return func(text string, withIdentity bool) error {
		if file == "" {
			if withIdentity {
				fmt.Fprintf(c.stderr, "The recovery kit. It is shown this once: keep it, and away from this host.\n\n%s\n", text)
			}
			return nil
		}
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return advice.With(advice.In(advice.Usage, err), "name a file that does not exist yet with --kit")
		}
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Sync(), f.Close())
		if err == nil {
			c.say("made   recovery kit " + file + ": take it away from this host")
		}
		return err
	}
}

func (c *cli) init(ctx context.Context, o agent.InitOptions) error {
	if o.Encryption != config.EncryptionAge && o.Encryption != config.EncryptionNone {
		return advice.With(advice.Usagef("there is no encryption %q", o.Encryption), "say --encryption age or --encryption none")
	}
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	made, err := agent.Init(ctx, o, host, time.Now)
	c.result = made
	for _, m := range made.Made {
		c.say("made   " + m)
	}
	for _, t := range made.There {
		c.say("there  " + t)
	}
	return err
}
