package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/demo"

	"github.com/spf13/cobra"
)

// Exit statuses, as they stand in the manual.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2 // wrong usage or configuration
	exitPartial     = 3 // for example the snapshot is taken, the ship waits for another
	exitDamaged     = 4 // verification found damage
	exitBusy        = 5
	exitInterrupted = 130
)

func status(ctx context.Context, err error) int {
	if ctx.Err() != nil {
		return exitInterrupted
	}
	exits := map[advice.Class]int{
		advice.Partial: exitPartial, advice.Damaged: exitDamaged, advice.Usage: exitUsage, advice.Busy: exitBusy,
	}
	for _, class := range advice.Classes() {
		if errors.Is(err, class) {
			return exits[class]
		}
	}
	return exitFailed
}

// end prints what is left to print, the result as JSON or the error for
// people, and returns the exit status.
func (c *cli) end(ctx context.Context, called *cobra.Command, err error) int {
	var fault *agent.Fault
	if err != nil {
		fault = &agent.Fault{What: strings.TrimSpace(called.CommandPath()), Why: why(ctx, err), Do: whatToDo(err), Parts: parts(ctx, err)}
	}
	if c.json {
		c.printDocument(fault)
	} else if fault != nil {
		c.printFault(fault)
	}
	if err == nil {
		return exitDone
	}
	return status(ctx, err)
}

// parts are the errors of a call with what to do about each, nil when there is
// one only, or nothing to say of any that is not to be said of all.
func parts(ctx context.Context, err error) []agent.FaultPart {
	all := advice.Parts(err)
	if len(all) < 2 || ctx.Err() != nil {
		return nil
	}
	out, advised := make([]agent.FaultPart, len(all)), false
	for i, p := range all {
		out[i] = agent.FaultPart{Why: joined(p.Error()), Do: whatToDo(p)}
		advised = advised || out[i].Do != ""
	}
	if !advised {
		return nil
	}
	return out
}

func (c *cli) printFault(f *agent.Fault) {
	if f.Parts == nil {
		for i, line := range strings.Split(f.Why, "\n") {
			c.printPart(f.What, i, line)
		}
		if f.Do != "" {
			c.errs("What to do: %s", f.Do)
		}
		return
	}
	said := false
	for i, p := range f.Parts {
		c.printPart(f.What, i, p.Why)
		said = said || p.Do == f.Do
		if same := i+1 < len(f.Parts) && f.Parts[i+1].Do == p.Do; p.Do != "" && !same {
			c.errs("    to do: %s", joined(p.Do))
		}
	}
	if !said && f.Do != "" { // it is of all of them
		c.errs("What to do: %s", f.Do)
	}
}

// printPart prints a line of an error: what looks like a line of ours is not where
// one can be.
func (c *cli) printPart(what string, i int, line string) {
	if i == 0 {
		c.errs("%s: %s", what, line)
		return
	}
	c.errs("  %s", line)
}

func why(ctx context.Context, err error) string {
	if ctx.Err() != nil && !errors.Is(err, demo.ErrInterrupted) {
		return "interrupted; nothing is frozen, and what was done so far is kept"
	}
	return err.Error()
}

// printDocument prints the one JSON document of a call: the result, and
// beside it the error, if there are both.
func (c *cli) printDocument(fault *agent.Fault) {
	document := map[string]json.RawMessage{}
	if c.result != nil {
		text, err := json.Marshal(c.result)
		if err == nil {
			err = json.Unmarshal(text, &document)
		}
		if err != nil {
			fault = &agent.Fault{What: "print the result", Why: err.Error()}
		}
	}
	if fault != nil {
		document["error"] = mustMarshal(fault)
	}
	if len(document) == 0 {
		return // help, completion
	}
	enc := json.NewEncoder(c.stdout)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(document); err != nil {
		c.errs("print the result: %v", err)
	}
}

func mustMarshal(f *agent.Fault) json.RawMessage {
	text, err := json.Marshal(f)
	if err != nil {
		return json.RawMessage(`{}`) // three strings always marshal
	}
	return text
}
