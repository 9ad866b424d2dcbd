package api

import (
	"slices"

	"snapd/internal/agent"
	"snapd/internal/point"
	"snapd/internal/quote"
)

// public is a point as it may leave the agent. The definitions of its containers hold
// passwords, and root reads those from the record. Hooks are called with passwords
// and print them, so that a member does not see how and what; nor where a warning
// quotes it.
func public(p point.Point, who Caller) point.Point {
	p.Containers = nil
	if who.Root {
		return p
	}
	hidden := false
	hide := func(s string) string {
		out := quote.Hide(s)
		hidden = hidden || out != s
		return out
	}
	p.Hooks = slices.Clone(p.Hooks)
	for i := range p.Hooks {
		h := &p.Hooks[i]
		hidden = hidden || len(h.Command) > 0 || h.Output != ""
		h.Command, h.Output, h.Error = []string{}, "", hide(h.Error)
	}
	p.Quiesced = slices.Clone(p.Quiesced)
	for i := range p.Quiesced {
		q := &p.Quiesced[i]
		hidden = hidden || q.Said != ""
		q.Said = ""
	}
	p.Warnings = hideAll(p.Warnings, hide)
	p.Why = hide(p.Why)
	if hidden {
		p.Hidden = quote.Hidden
	}
	return p
}

func hideAll(texts []string, hide func(string) string) []string {
	texts = slices.Clone(texts)
	for i := range texts {
		texts[i] = hide(texts[i])
	}
	return texts
}

func publicPoints(points []point.Point, who Caller) []point.Point {
	points = slices.Clone(points)
	for i := range points {
		points[i] = public(points[i], who)
	}
	return points
}

// publicStatus is a status as its caller may see it: it repeats warnings of points.
func publicStatus(st agent.Status, who Caller) agent.Status {
	if who.Root {
		return st
	}
	st.Attention = hideAll(st.Attention, quote.Hide)
	st.Groups = slices.Clone(st.Groups)
	for i := range st.Groups {
		st.Groups[i].Attention = hideAll(st.Groups[i].Attention, quote.Hide)
		st.Groups[i].Failed = slices.Clone(st.Groups[i].Failed)
		for n := range st.Groups[i].Failed {
			st.Groups[i].Failed[n].What = quote.Hide(st.Groups[i].Failed[n].What)
		}
	}
	st.Repositories = slices.Clone(st.Repositories)
	for i := range st.Repositories {
		st.Repositories[i].Problems = hideAll(st.Repositories[i].Problems, quote.Hide)
	}
	return st
}

// publicEvent is what a caller may hear while a call goes on.
func publicEvent(e agent.Event, who Caller) agent.Event {
	if !who.Root {
		e.Text, e.Do = quote.Hide(e.Text), quote.Hide(e.Do)
	}
	return e
}

// publicFault is the error of a call as its caller may see it.
func publicFault(f *fault, who Caller) *fault {
	if f == nil || who.Root {
		return f
	}
	out := *f
	out.Why, out.Do = quote.Hide(f.Why), quote.Hide(f.Do)
	out.Parts = slices.Clone(f.Parts)
	for i, p := range out.Parts {
		out.Parts[i] = publicFault(p, who)
	}
	return &out
}
