package config

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"snapd/internal/advice"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// Error is a fault in the configuration file, at the line to correct. It is of
// the class advice.Usage.
type Error struct {
	File string
	Line int    // counted from 1; 0 when it concerns the whole file
	Key  string // dotted, such as group.shop.freeze
	Why  string
}

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
	return advice.With(advice.In(advice.Usage, &Error{File: file, Line: line, Key: key, Why: err.Error()}), "%s", do)
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
		settings, key, err := c.checkGroup(name, doc.Group[name])
		if err != nil {
			return nil, at(joinKey("group."+name, key), err)
		}
		c.Groups[name] = settings
	}
	return c, nil
}

func decodeStrict(file string, content []byte, into any) error {
	dec := toml.NewDecoder(bytes.NewReader(content)).DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return decodeError(file, err)
	}
	return nil
}

func decodeError(file string, err error) error {
	var missing *toml.StrictMissingError
	var decode *toml.DecodeError
	switch {
	case errors.As(err, &missing) && len(missing.Errors) > 0:
		e := missing.Errors[0]
		line, _ := e.Position()
		key := unknownPart(e.Key())
		return fault(file, line, strings.Join(key, "."), meant(errors.New("no such key"), key[len(key)-1], knownKeys(key)))
	case errors.As(err, &decode):
		line, _ := decode.Position()
		return fault(file, line, strings.Join(decode.Key(), "."), errors.New(plainly(strings.TrimPrefix(decode.Error(), "toml: "))))
	}
	return fault(file, 0, "", err)
}

// plainly says in TOML's words what the decoder says in Go's.
func plainly(why string) string {
	m := wrongKind.FindStringSubmatch(why)
	if m == nil {
		return why
	}
	wanted := map[string]string{
		"[]string": `a list of strings, such as ["a", "b"]`, "*[]string": `a list of strings, such as ["a", "b"]`,
		"bool": "true or false", "*bool": "true or false", "string": `a string, such as "a"`, "*string": `a string, such as "a"`,
	}[m[2]]
	article := "a "
	if strings.ContainsAny(m[1][:1], "aeiou") {
		article = "an "
	}
	if wanted == "" {
		return "it cannot be " + article + m[1]
	}
	return "it is " + article + m[1] + ", and must be " + wanted
}

var wrongKind = regexp.MustCompile(`^cannot decode TOML ([a-z ]+) into .*type (\S+)$`)

// unknownPart cuts a key after the first part that is wrong: in [groups.shop]
// that is groups.
func unknownPart(key []string) []string {
	if !slices.Contains(tomlKeys[document](), key[0]) {
		return key[:1]
	}
	return key
}

func knownKeys(key []string) []string {
	switch {
	case len(key) >= 3 && key[0] == "repository":
		return tomlKeys[repositoryDocument]()
	case len(key) >= 5 && key[0] == "group" && key[2] == "container":
		return tomlKeys[commandDocument]()
	case len(key) >= 3 && key[0] == "group":
		return tomlKeys[groupDocument]()
	}
	return tomlKeys[document]()
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

// tomlKeys are the keys that a struct decodes.
func tomlKeys[T any]() []string {
	var out []string
	for f := range reflect.TypeFor[T]().Fields() {
		if tag := f.Tag.Get("toml"); tag != "" {
			out = append(out, tag)
		}
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	return slices.Sorted(maps.Keys(m))
}
