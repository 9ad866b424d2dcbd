package main

import (
	"bufio"
	"cmp"
	"fmt"
	"strings"
	"text/tabwriter"

	"snapd/internal/point"
	"snapd/internal/show"
)

// table prints rows under a heading, in columns.
func (c *cli) table(heading []string, rows [][]string) {
	out := bufio.NewWriter(c.stdout) // the table writes cell by cell
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, strings.Join(heading, "\t"))
	for _, row := range rows {
		clean := make([]string, len(row))
		for i, cell := range row {
			if clean[i] = show.Text(cell); cell == "" {
				clean[i] = "-" // else the column would end here
			}
		}
		fmt.Fprintln(w, strings.Join(clean, "\t"))
	}
	_, _ = w.Flush(), out.Flush() // a closed standard output is noticed by the program that closed it
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// points prints restore points as a table, of fewer columns where the terminal is too
// narrow for all.
func (c *cli) points(points []point.Point) {
	heading, rows := []string{"POINT", "GROUP", "TIME", "CONSISTENCY", "WINDOW", "DATASETS", "STATE", "SHIPPED"}, make([][]string, len(points))
	for i, p := range points {
		rows[i] = []string{
			string(p.ID), groupOf(p), p.Time.Local().Format("2006-01-02 15:04:05"), string(p.Consistency),
			window(p.WindowUS), fmt.Sprint(max(len(p.Datasets), len(p.Shipped))), states(p), shipped(p),
		}
	}
	if c.width > 0 && tableWidth(heading, rows) > c.width {
		heading, rows = narrowPoints(points, c.width)
	}
	c.table(heading, rows)
}

func groupOf(p point.Point) string { return cmp.Or(p.Group, "(encrypted)") }

// states is what there is to know of a point, the places of each together.
func states(p point.Point) string {
	var words []string
	at := map[string][]string{}
	for _, s := range p.States {
		if _, known := at[s.State]; !known {
			words = append(words, s.State)
		}
		at[s.State] = append(at[s.State], s.Repository)
	}
	if len(words) == 0 {
		return "ok"
	}
	for i, w := range words {
		if places := strings.Join(at[w], " and "); places != "" {
			words[i] = w + " in " + places
			if w == point.Lost || w == point.Removed {
				words[i] = w + " from " + places
			}
		}
	}
	return strings.Join(words, ", ")
}

func shipped(p point.Point) string {
	type sum struct {
		sent, stored int64
		full         bool
	}
	var names []string
	sums := map[string]*sum{}
	for _, s := range p.Shipped {
		t, known := sums[s.Repository]
		if !known {
			t = &sum{}
			sums[s.Repository] = t
			names = append(names, s.Repository)
		}
		t.sent += s.SentBytes
		t.stored += s.StoredBytes
		t.full = t.full || s.Base == nil
	}
	var out []string
	for _, n := range names {
		kind := "increment"
		if sums[n].full {
			kind = "full"
		}
		text := fmt.Sprintf("%s: %s (%s, %s of stream)", n, size(sums[n].stored), kind, size(sums[n].sent))
		if !p.InRepository(n) {
			text += " not whole yet"
		}
		out = append(out, text)
	}
	if len(out) == 0 {
		return "no"
	}
	return strings.Join(out, ", ")
}
