package api

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"snapd/internal/advice"
	"snapd/internal/agent"
	"snapd/internal/point"
	"snapd/internal/quote"
)

const secret = "hunter2"

// telling is an agent whose every answer holds a secret wherever one can be.
func telling() calls {
	p := func() point.Point {
		return point.Point{
			ID: "0000000000000001", Group: "shop", Why: "several domains; db held its lock (hold command)",
			Containers: json.RawMessage(`{"db":{"Env":["PASSWORD=` + secret + `"]}}`),
			Warnings:   []string{"checkpoint of container db (postgres): status 1; " + quote.Said("password "+secret), "container x is paused"},
			Quiesced:   []point.Quiet{{Container: "db", By: "command", Said: "locked with " + secret, HeldUS: 5}},
			Hooks: []point.Hook{{
				When: "before", Container: "db", Command: []string{"dump", "-p" + secret}, Exit: 3, Seconds: 1,
				Output: "using " + secret, Error: "it ended; " + quote.Said(secret),
			}},
		}
	}
	fault := advice.With(fmt.Errorf("hook before the point in container db: it ended with status 7; %s", quote.Said(secret)), "correct it; %s", quote.Ran([]string{secret}))
	return calls{
		do: func(_ context.Context, report agent.Report, _ []string, _ agent.Steps) (agent.Done, error) {
			report(agent.Event{Kind: agent.Warning, Group: "shop", Text: "the hook was run; " + quote.Ran([]string{"x", secret}), Do: quote.Said(secret)})
			report(agent.Event{Kind: agent.Step, Text: "a step; " + quote.Said(secret)})
			return agent.Done{Points: []point.Point{p()}}, fault
		},
		list: func(context.Context, string) ([]point.Point, error) { return []point.Point{p()}, fault },
		show: func(string) (point.Point, error) { return p(), nil },
		status: func() (agent.Status, error) {
			return agent.Status{
				Attention: []string{"a; " + quote.Said(secret)}, Groups: []agent.GroupStatus{{Group: "shop", Attention: p().Warnings}},
				Repositories: []agent.RepositoryStatus{{Repository: "main", Problems: []string{quote.Said(secret)}}},
			}, nil
		},
	}
}

// TestMembersSeeNoSecrets: on every way on which something leaves the agent. Root sees
// all of it, but for the definitions of containers.
func TestMembersSeeNoSecrets(t *testing.T) {
	for _, user := range []string{"root", "member-1000"} {
		t.Run(user, func(t *testing.T) {
			p := newSocket(t)
			p.serve(telling(), func(o *Options) { o.Caller = callerByName })
			said := map[string]string{}
			ask := func(name string, call func(c *Client) (any, error)) {
				var heard []agent.Event
				c := &Client{path: p.path, report: func(e agent.Event) { heard = append(heard, e) }}
				if user != "root" {
					c.first = p.as(user)
				}
				result, err := call(c)
				text, merr := json.Marshal(result)
				if merr != nil {
					t.Fatal(merr)
				}
				said[name] = fmt.Sprintf("%s %v %s %+v", text, err, advice.Of(err), heard)
			}
			ask("do", func(c *Client) (any, error) {
				return c.Do(t.Context(), []string{"shop"}, agent.Steps{Snapshot: true})
			})
			ask("list", func(c *Client) (any, error) { return c.List(t.Context(), "") })
			ask("show", func(c *Client) (any, error) { return c.Show(t.Context(), "latest") })
			ask("status", func(c *Client) (any, error) { return c.Status(t.Context()) })
			for name, text := range said {
				if got := strings.Contains(text, secret); got != (user == "root") {
					t.Errorf("%s: %s", name, text)
				}
				if got := strings.Contains(text, quote.Hidden); got != (user != "root") {
					t.Errorf("%s does not say whether something is hidden: %s", name, text)
				}
				if strings.Contains(text, "PASSWORD") {
					t.Errorf("%s: the environment of a container: %s", name, text)
				}
			}
			if text := said["show"]; !strings.Contains(text, `"hidden":"(hidden: ask as root)"`) && user != "root" || !strings.Contains(text, "container x is paused") || !strings.Contains(text, `"exit":3`) {
				t.Errorf("what a member may see: %s", text)
			}
		})
	}
}
