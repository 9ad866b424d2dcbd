package main

import (
	"cmp"
	"slices"
	"strings"
	"unicode/utf8"

	"snapd/internal/point"
	"snapd/internal/show"
)

// What is left of a column before another one is cut.
const leastGroup, leastState = 9, 9

// gap is how many blanks lie between two columns.
const gap = 2

func cellWidth(cell string) int { return max(1, utf8.RuneCountInString(show.Text(cell))) }

// columnWidths is how many characters each column takes.
func columnWidths(heading []string, rows [][]string) []int {
	widths := make([]int, len(heading))
	for _, row := range slices.Concat([][]string{heading}, rows) {
		for i, cell := range row {
			widths[i] = max(widths[i], cellWidth(cell))
		}
	}
	return widths
}

// tableWidth is how many characters the longest line of a table can take.
func tableWidth(heading []string, rows [][]string) int {
	sum := gap * (len(heading) - 1)
	for _, w := range columnWidths(heading, rows) {
		sum += w
	}
	return sum
}

// narrowPoints are restore points for a terminal that has no room for all: when, how
// well, what is wrong, and how much was stored. show and --json tell the rest.
func narrowPoints(points []point.Point, width int) (heading []string, rows [][]string) {
	heading = []string{"POINT", "GROUP", "TIME", "AS", "STATE", "STORED"}
	rows = make([][]string, len(points))
	for i, p := range points {
		rows[i] = []string{string(p.ID), groupOf(p), p.Time.Local().Format("2006-01-02 15:04"), string(p.Consistency), statesInShort(p), stored(p)}
	}
	const group, state = 1, 4
	for _, cut := range []struct{ column, least int }{{group, leastGroup}, {state, leastState}, {group, 1}} {
		over := tableWidth(heading, rows) - width
		if over <= 0 {
			break
		}
		most := max(cut.least, columnWidths(heading, rows)[cut.column]-over)
		for _, row := range rows {
			row[cut.column] = clipped(row[cut.column], most)
		}
	}
	return heading, rows
}

// gravest are the states of a point in the order in which they matter.
func gravest() []string {
	return []string{point.Damaged, point.Lost, point.Changed, point.Future, point.OnlyHere, point.Removed, point.Pinned}
}

// statesInShort are those of a point without their places, the gravest first.
func statesInShort(p point.Point) string {
	var words []string
	for _, s := range p.States {
		if !slices.Contains(words, s.State) {
			words = append(words, s.State)
		}
	}
	order := gravest()
	slices.SortStableFunc(words, func(a, b string) int { return cmp.Compare(slices.Index(order, a), slices.Index(order, b)) })
	return cmp.Or(strings.Join(words, ", "), "ok")
}

// clipped is a cell of at most so many characters.
func clipped(cell string, most int) string {
	runes := []rune(show.Text(cell))
	if len(runes) <= most {
		return cell
	}
	return string(runes[:max(most-1, 0)]) + "…"
}

// stored is what a point takes in all repositories together.
func stored(p point.Point) string {
	var bytes int64
	full, there := false, false
	for _, s := range p.Shipped {
		bytes += s.StoredBytes
		full = full || s.Base == nil
		there = there || p.InRepository(s.Repository)
	}
	switch {
	case !there:
		return "no"
	case full:
		return size(bytes) + " full"
	}
	return size(bytes)
}
