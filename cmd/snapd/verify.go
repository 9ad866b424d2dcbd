package main

import (
	"fmt"
	"strings"

	"snapd/internal/agent"
	"snapd/internal/point"

	"github.com/spf13/cobra"
)

func (c *cli) verifyCommand() *cobra.Command {
	var o agent.VerifyOptions
	cmd := &cobra.Command{
		Use:     "verify [POINT...]",
		GroupID: "back",
		Short:   "Read what lies in the repositories and check it",
		Long: `Read what lies in the repositories and check every object against the digest
that was signed. With --deep also unseal, decompress and walk each stream to its
end; that needs an identity. Exit status 4 means damage was found.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			a, err := c.agent(false)
			if err != nil {
				return err
			}
			o.Points = args
			o.Check = checkStream
			verified, err := a.Verify(cmd.Context(), o)
			c.result = verified
			if c.json {
				return err
			}
			for _, p := range verified.Problems {
				fmt.Fprintf(c.stdout, "DAMAGED %s %s: %s (needed by %d points: %s)\n", p.Repository, p.Object, printable(p.Problem), len(p.Points), joinIDs(p.Points))
			}
			for _, o := range verified.Orphans {
				fmt.Fprintf(c.stdout, "orphans in %s: %d objects, %s, belong to no restore point, such as %s\n", o.Repository, o.Objects, size(o.Bytes), printable(strings.Join(o.Examples, ", ")))
			}
			for _, note := range verified.Notes {
				fmt.Fprintln(c.stdout, "note:", printable(note))
			}
			n := verified.Checked
			fmt.Fprintf(c.stdout, "checked %d points, %d streams, %d segments, %s: %d problems\n", n.Points, n.Streams, n.Segments, size(n.Bytes), len(verified.Problems))
			return err
		},
	}
	cmd.Flags().BoolVar(&o.Deep, "deep", false, "also unseal, decompress and walk each stream")
	return cmd
}

func joinIDs(ids []point.ID) string {
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = string(id)
	}
	return strings.Join(words, ", ")
}
