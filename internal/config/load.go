package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"snapd/internal/advice"

	"github.com/pelletier/go-toml/v2/unstable"
)

// Error is a fault in the configuration file, at the line to correct. It is of
// the class advice.Usage.
type Error struct {
	File string
	Line int    // counted from 1; 0 when it concerns the whole file
	Key  string // dotted, such as group.shop.freeze
	Why  string
	err  error // that it was made of, nil when it was none
}

func (e *Error) Unwrap() error { return e.err }

func (e *Error) Error() string {
	where := e.File
	if e.Line > 0 {
		where = fmt.Sprintf("%s:%d", e.File, e.Line)
	}
	if e.Key == "" {
		return where + ": " + e.Why
	}
	return fmt.Sprintf("%s: %s: %s", where, e.Key, e.Why)
}

// fault makes an Error of what is wrong at a place, with advice.
func fault(file string, line int, key string, err error) error {
	do := advice.Of(err)
	switch {
	case do != "":
	case line > 0:
		do = "correct that line; the keys are described in docs/snapd.toml.md"
	default:
		do = "correct the file; its keys are described in docs/snapd.toml.md"
	}
	return advice.With(advice.In(advice.Usage, &Error{File: file, Line: line, Key: key, Why: err.Error(), err: err}), "%s", do)
}

// Parse reads a configuration file's content; file is its name for errors.
func Parse(file string, content []byte) (*Config, error) {
	var doc document
	if err := decodeStrict(file, content, &doc); err != nil {
		return nil, err
	}
	lines := lineIndex(content)
	at := func(key string, err error) error { return fault(file, lines.of(key), key, err) }
	c := &Config{File: file, Repositories: map[string]Repository{}, Groups: map[string]Settings{}}
	for _, name := range sortedKeys(doc.Repository) {
		r, key, err := doc.Repository[name].check(name)
		if err != nil {
			return nil, at(joinKey("repository."+name, key), err)
		}
		c.Repositories[name] = r
	}
	for _, name := range sortedKeys(doc.Group) {
		key, err := c.checkGroup(name, doc.Group[name])
		if err != nil {
			return nil, at(joinKey("group."+name, key), err)
		}
		c.Groups[name] = doc.Group[name]
	}
	return c, nil
}

// lines maps dotted keys and tables to the line they are written in.
type lines map[string]int

func (l lines) of(key string) int {
	for key != "" {
		if n, ok := l[key]; ok {
			return n
		}
		i := strings.LastIndexByte(key, '.')
		key = key[:max(i, 0)]
	}
	return 0
}

func lineIndex(content []byte) lines {
	out := lines{}
	var p unstable.Parser
	p.Reset(content)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind != unstable.Table && e.Kind != unstable.KeyValue {
			continue
		}
		key, line := "", 0
		for it := e.Key(); it.Next(); {
			line = p.Shape(it.Node().Raw).Start.Line
			key = joinKey(key, string(it.Node().Data))
		}
		if e.Kind == unstable.Table {
			table = key
		} else {
			key = joinKey(table, key)
		}
		if _, seen := out[key]; !seen {
			out[key] = line
		}
	}
	return out
}

func joinKey(a, b string) string {
	return strings.Trim(a+"."+b, ".")
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
