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
that was signed. With --deep also decrypt, decompress and walk each stream to its
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
				needed := ""
				if n := len(p.Points); n > 0 {
					needed = fmt.Sprintf(" (needed by %s: %s)", plural(n, "point", "points"), joinIDs(p.Points))
				}
				c.print(2, "DAMAGED %s %s: %s%s", p.Repository, p.Object, p.Problem, needed)
			}
			for _, o := range verified.Orphans {
				c.print(2, "orphans in %s: %s, %s, of no restore point, such as %s", o.Repository, plural(o.Objects, "object", "objects"), size(o.Bytes), strings.Join(o.Examples, ", "))
			}
			for _, note := range verified.Notes {
				c.print(2, "note: %s", note)
			}
			n := verified.Checked
			if err != nil && n.Points == 0 && len(verified.Problems) == 0 {
				return err // nothing was looked at, which is no "0 problems"
			}
			c.print(2, "checked %s, %s, %s, %s: %s", plural(n.Points, "point", "points"), plural(n.Streams, "stream", "streams"),
				plural(n.Segments, "segment", "segments"), size(n.Bytes), plural(len(verified.Problems), "problem", "problems"))
			return err
		},
	}
	cmd.Flags().BoolVar(&o.Deep, "deep", false, "also decrypt, decompress and walk each stream")
	return cmd
}

func joinIDs(ids []point.ID) string {
	words := make([]string, len(ids))
	for i, id := range ids {
		words[i] = string(id)
	}
	return strings.Join(words, ", ")
}
