package config

import (
	"bytes"
	"encoding"
	"errors"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// decodeStrict decodes what into has fields for, and nothing else.
func decodeStrict[T any](file string, content []byte, into *T) error {
	root := reflect.TypeFor[T]()
	if err := checkTexts(file, content, root); err != nil {
		return err
	}
	dec := toml.NewDecoder(bytes.NewReader(content)).DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return decodeError(file, root, err)
	}
	return nil
}

func decodeError(file string, root reflect.Type, err error) error {
	var missing *toml.StrictMissingError
	var decode *toml.DecodeError
	switch {
	case errors.As(err, &missing) && len(missing.Errors) > 0:
		e := missing.Errors[0]
		line, _ := e.Position()
		key := e.Key()
		if !slices.Contains(tomlKeys(root), key[0]) { // in [groups.shop], groups is what is wrong
			key = key[:1]
		}
		last := len(key) - 1
		return fault(file, line, strings.Join(key, "."), meant(errors.New("no such key"), key[last], tomlKeys(nearestTable(root, key[:last]))))
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
		"bool": "true or false", "*bool": "true or false", "string": wantedText, "*string": wantedText,
	}[m[2]]
	if wanted == "" {
		return "it cannot be " + withArticle(m[1])
	}
	return "it is " + withArticle(m[1]) + ", and must be " + wanted
}

var wrongKind = regexp.MustCompile(`^cannot decode TOML ([a-z ]+) into .*type (\S+)$`)

const wantedText = `a string, such as "a"`

func withArticle(kind string) string {
	if strings.ContainsAny(kind[:1], "aeiou") {
		return "an " + kind
	}
	return "a " + kind
}

// checkTexts reads every value of a type that is written as text, before the
// decoder does. The decoder would put a number into a duration, and a list into
// the words of a command. And it keeps only the text of an error.
func checkTexts(file string, content []byte, root reflect.Type) error {
	var p unstable.Parser
	p.Reset(content)
	var table []string
	for p.NextExpression() { // the decoder finds what is no TOML
		e := p.Expression()
		at := func(key []string, err error) error {
			it := e.Key()
			it.Next()
			return fault(file, p.Shape(it.Node().Raw).Start.Line, strings.Join(key, "."), err)
		}
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = keyOf(e)
			if reader(root, table) != nil {
				return at(table, errors.New("it is a table, and must be "+wantedText))
			}
		case unstable.KeyValue:
			if key, err := checkText(root, table, e); err != nil {
				return at(key, err)
			}
		}
	}
	return nil
}

// checkText checks one key and its value below a table, or all of an inline one.
func checkText(root reflect.Type, table []string, e *unstable.Node) (key []string, err error) {
	key = append(slices.Clone(table), keyOf(e)...)
	value := e.Value()
	if into := reader(root, key); into != nil {
		if value.Kind != unstable.String {
			return key, errors.New("it is " + withArticle(kindName(value.Kind)) + ", and must be " + wantedText)
		}
		return key, into.UnmarshalText(value.Data)
	}
	if value.Kind != unstable.InlineTable {
		return key, nil
	}
	for it := value.Children(); it.Next(); {
		if key, err := checkText(root, key, it.Node()); err != nil {
			return key, err
		}
	}
	return key, nil
}

func keyOf(e *unstable.Node) (key []string) {
	for it := e.Key(); it.Next(); {
		key = append(key, string(it.Node().Data))
	}
	return key
}

// kindName is what the decoder calls a kind of values.
func kindName(k unstable.Kind) string {
	return map[unstable.Kind]string{
		unstable.Array: "array", unstable.Bool: "boolean", unstable.Float: "float", unstable.Integer: "integer", unstable.InlineTable: "inline table",
		unstable.DateTime: "datetime", unstable.LocalDate: "local date", unstable.LocalTime: "local time", unstable.LocalDateTime: "local datetime",
	}[k]
}

// reader is what reads the value of a key from a text, or of the key that it
// lies below; nil when the decoder does that by itself.
func reader(root reflect.Type, key []string) encoding.TextUnmarshaler {
	at := root
	for _, part := range key {
		if at = child(at, part); at == nil {
			return nil
		}
		if into, ok := reflect.TypeAssert[encoding.TextUnmarshaler](reflect.New(at)); ok {
			return into
		}
	}
	return nil
}

// nearestTable is the table that a key is in, as far as the way there is known.
func nearestTable(root reflect.Type, key []string) reflect.Type {
	for _, part := range key {
		next := child(root, part)
		if next == nil || next.Kind() != reflect.Struct && next.Kind() != reflect.Map {
			break
		}
		root = next
	}
	return root
}

// child is what the decoder decodes a key of a table into, nil when the table has
// no such key. Like the decoder, it takes capitals for small letters.
func child(table reflect.Type, key string) reflect.Type {
	switch table.Kind() {
	case reflect.Map:
		return table.Elem()
	case reflect.Struct:
		for f := range table.Fields() {
			if strings.EqualFold(f.Tag.Get("toml"), key) {
				if f.Type.Kind() == reflect.Pointer {
					return f.Type.Elem()
				}
				return f.Type
			}
		}
	}
	return nil
}

// tomlKeys are the keys that a table decodes.
func tomlKeys(table reflect.Type) []string {
	var out []string
	if table.Kind() != reflect.Struct {
		return nil
	}
	for f := range table.Fields() {
		if tag := f.Tag.Get("toml"); tag != "" {
			out = append(out, tag)
		}
	}
	return out
}
