package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/config"
	"snapd/internal/ship"
	"snapd/internal/ship/dir"

	"github.com/spf13/cobra"
)

// A directory is made by init, and by nothing else.
var _ ship.Maker = (*dir.Store)(nil)

// initFlags are those that only init has, or that mean something else there.
type initFlags struct {
	kit, fromKit string
	encryption   string
	identities   []string
	signingKey   bool
}

func (c *cli) initCommand() *cobra.Command {
	w := initFlags{encryption: string(config.EncryptionAge)}
	cmd := &cobra.Command{
		Use:     "init",
		GroupID: "host",
		Short:   "Make what is missing: configuration, keys, repositories, a recovery kit",
		Long: `Make what is missing and touch nothing that is there: a first configuration
(for --repository), the signing key, and the repositories that the configuration
names. The repositories are asked before anything is written, and the same
command again ends what one that failed or was killed began.

The identity that can read is made with the configuration and is not kept on
this host: it is in the recovery kit, written to the file of --kit or printed
once. The kit is called one after it has opened what it says it opens. On a host
that is configured already, a kit needs the identity (--identity FILE, which may
be an older kit); without it and without --kit an address card is printed, which
opens nothing by itself.

With --from-kit a host goes on with the repository of another one that is gone, or
with its own after /etc was lost: an old kit is read, and nothing is written to it.
That needs the signing key in the kit (--with-signing-key when it was written). Where
another host has put points there, snapd adopt then says that this one goes on.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if os.Geteuid() != 0 && c.where.config == "" {
				return agent.ErrNotRoot
			}
			if err := w.check(cmd); err != nil {
				return err
			}
			return c.init(cmd.Context(), w, cmd.Flags().Changed("encryption"))
		},
	}
	f := cmd.Flags()
	f.StringVar(&w.kit, "kit", "", "write the recovery kit to this new file instead of printing it")
	f.StringVar(&w.fromKit, "from-kit", "", "go on with the repositories of this old recovery kit, where configuration or signing key are missing")
	f.StringVar(&w.encryption, "encryption", w.encryption, `"age", or "none" only if you really mean it`)
	f.StringArrayVar(&w.identities, "identity", nil, "file with an age identity, or a kit that has one, for the kit of a configured host; may be repeated")
	f.BoolVar(&w.signingKey, "with-signing-key", false, "keep the signing key in the kit, encrypted, so that another host can go on with the repository")
	return cmd
}

func (w initFlags) check(cmd *cobra.Command) error {
	switch {
	case config.Encryption(w.encryption) != config.EncryptionAge && config.Encryption(w.encryption) != config.EncryptionNone:
		return advice.With(advice.Usagef("there is no encryption %q", w.encryption), "say --encryption age or --encryption none")
	case w.fromKit != "" && w.kit != "":
		return advice.With(advice.Usagef("--from-kit reads an old kit, and --kit writes a new one: not both at once"), "leave --kit out; then: snapd init --kit NEW-FILE --identity %s", w.fromKit)
	case w.fromKit != "" && (w.signingKey || cmd.Flags().Changed("encryption")):
		return advice.With(advice.Usagef("--encryption and --with-signing-key do not go with --from-kit, which takes both from the old kit and the repository"), "leave them out")
	case w.signingKey && w.kit == "":
		return advice.With(advice.Usagef("--with-signing-key is for a kit in a file"), "name a new file with --kit FILE")
	}
	return nil
}

func (c *cli) init(ctx context.Context, w initFlags, encryptionSaid bool) error {
	host, err := os.Hostname()
	if err != nil {
		return err
	}
	o := agent.InitOptions{
		File: cmp.Or(c.where.config, config.DefaultFile), State: c.where.state,
		URL: c.where.repository, Endpoint: c.where.endpoint, Region: c.where.region,
		Encryption: config.Encryption(w.encryption), EncryptionSaid: encryptionSaid,
		KitFile: cmp.Or(w.fromKit, w.kit), SigningKey: w.signingKey, IdentityFiles: w.identities, FromKit: w.fromKit != "",
		Commands: kitCommands(w.signingKey), CardCommands: cardCommands(),
		Store: func(_ context.Context, r config.Repository) (ship.Store, error) {
			return storeOfInit(r, c.screen.report)
		},
	}
	say := c.say
	if o.KitFile == "" {
		o.Show = c.showKit
		say = func(text string) { // standard output is the kit's
			if !c.json {
				c.errs("%s", text)
			}
		}
	}
	made, err := agent.Init(ctx, o, host, time.Now)
	c.result = made
	for _, m := range made.Made {
		say("made   " + m)
	}
	for _, t := range made.There {
		say("there  " + t)
	}
	if made.Kit != nil {
		for _, p := range made.Kit.Proved {
			for _, line := range p.Lines() {
				say("tried  " + line)
			}
		}
		if made.Kit.File != "" && !o.FromKit {
			say("Take " + made.Kit.File + " away from this host: a kit that is lost with its host restores nothing.")
		}
	}
	if o.FromKit && slices.Contains(made.Made, "configuration "+o.File) {
		say("Groups are not in a kit: name in " + o.File + " what belongs together.")
	}
	return c.initAdvice(w, o, err)
}

// showKit prints a kit or an address card, this once. With --json standard
// output is the document's.
func (c *cli) showKit(text string, recovery bool) error {
	out := c.stdout
	if c.json {
		out = c.stderr
	}
	if recovery {
		c.errs("The recovery kit. It is printed this once: keep it, and away from this host.")
	}
	if _, err := io.WriteString(out, text); err != nil { // its lines are those of the file
		return fmt.Errorf("print the recovery kit: %w", err)
	}
	return nil
}

func kitCommands(signingKey bool) []string {
	commands := []string{
		"snapd --kit THIS-FILE list",
		"snapd --kit THIS-FILE restore latest --to btrfs:/srv/restored   (or zfs:, lvm:)",
		"snapd --kit THIS-FILE verify --deep                             (try it before you need it)",
	}
	if signingKey {
		commands = append(commands, "snapd init --from-kit THIS-FILE                                 (a new host that goes on where the old one ended)")
	}
	return commands
}

func cardCommands() []string {
	return []string{
		"snapd --kit THIS-FILE --identity IDENTITY-FILE list",
		"snapd init --kit NEW-FILE --identity IDENTITY-FILE   (on the host: makes a recovery kit)",
	}
}

// initAdvice says with flags what helps against an obstacle.
func (c *cli) initAdvice(w initFlags, o agent.InitOptions, err error) error {
	met, ok := errors.AsType[*agent.Obstacle](err)
	if !ok {
		return err
	}
	server := ""
	if o.Endpoint != "" {
		server = " --endpoint " + o.Endpoint
	}
	anew := "name a prefix where no repository is with --repository, and a new file with --kit"
	if met.Free != "" {
		anew = "snapd init --repository " + met.Free + server + " --kit NEW-FILE"
	}
	switch met.Kind {
	case agent.KitThere:
		return advice.With(err, "name a file that does not exist yet with --kit, and on a configured host what opens the repositories with --identity FILE (an older kit will do)")
	case agent.KitOfOtherKey:
		return advice.With(err, "to go on with its repository on this host: snapd init --from-kit %s; to begin anew, name a file that does not exist yet with --kit", w.kit)
	case agent.NeedsIdentity:
		return advice.With(err, "name the identity with --identity FILE: a file with the line AGE-SECRET-KEY-…, or a recovery kit that was made earlier")
	case agent.ForeignRepository:
		return advice.With(err, "to go on with it, if it was this host's before: snapd init --from-kit OLD-KIT; to begin anew beside it: %s", anew)
	case agent.PointsThere:
		return advice.With(err, "go on with the recovery kit that opens it: snapd init --from-kit OLD-KIT")
	case agent.RemainsThere:
		return advice.With(err, "if it was this host's: snapd init --from-kit OLD-KIT, with the signing key in that kit; to begin anew beside it: %s", anew)
	case agent.RepositoryGone:
		return advice.With(err, "mount its disk, or correct the address, and run the same command again; to begin anew, take another address (%s is free), or first remove what this host remembers of the old one: %s", met.Free, met.Memory)
	case agent.NoSigningKey:
		return advice.With(err, "begin at a new prefix: %s; what is at the old one is restored with the old kit as before: snapd --kit %s list", anew, o.KitFile)
	}
	return err
}
