package config

import (
	"encoding"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"strconv"
	"strings"

	"snapd/internal/advice"
)

// LabelPrefix starts every label that concerns us.
const LabelPrefix = "snapd."

// Labels are what the labels of one container say.
type Labels struct {
	Enable   *bool  // nil when there is no snapd.enable
	Group    string // "" means by compose project or container name
	Settings Settings
	Commands Commands // what is run in this container
}

// LabelError is what is wrong with one label.
type LabelError struct {
	Label string
	Err   error
}

func (e *LabelError) Error() string { return "label " + e.Label + ": " + e.Err.Error() }
func (e *LabelError) Unwrap() error { return e.Err }

// ParseLabels reads the labels of a container. A label that the image has
// with the same value is ignored: a pulled image must not enrol itself. The
// error is a *LabelError. A label that asks for what this version cannot do is
// an error too: a point would silently lack it.
func ParseLabels(container, image map[string]string) (Labels, error) {
	var out Labels
	for _, key := range sortedKeys(container) {
		text := container[key]
		name, ours := strings.CutPrefix(key, LabelPrefix)
		if from, inImage := image[key]; !ours || inImage && from == text {
			continue
		}
		if err := out.set(name, text); err != nil {
			return Labels{}, &LabelError{Label: key, Err: err}
		}
	}
	return out, nil
}

func (l *Labels) set(name, text string) error {
	switch name {
	case "enable":
		on, err := strconv.ParseBool(text)
		if err != nil {
			return advice.With(fmt.Errorf("%q is neither true nor false", text), "write true or false")
		}
		l.Enable = &on
		return nil
	case "group":
		l.Group = text
		return CheckGroupName(text)
	case "volumes":
		return mounts(&l.Settings.Volumes, text)
	case "exclude":
		return mounts(&l.Settings.Exclude, text)
	}
	fields := labelled(&l.Settings)
	maps.Copy(fields, labelled(&l.Commands))
	if field, known := fields[name]; known {
		return field.UnmarshalText([]byte(text))
	}
	return meant(errors.New("no such label"), name, append(sortedKeys(fields), "enable", "exclude", "group", "volumes"))
}

func mounts(into *[]string, text string) error {
	for v := range strings.SplitSeq(text, ",") {
		if v = strings.TrimSpace(v); v != "" {
			*into = append(*into, v)
		}
	}
	if len(*into) == 0 {
		return advice.With(errors.New("names no volume"), "list volumes or paths in the container, separated by commas")
	}
	return nil
}

// labelled are the fields that labels set, by the label in the field's tag.
func labelled[T any](into *T) map[string]encoding.TextUnmarshaler {
	out := map[string]encoding.TextUnmarshaler{}
	for f, value := range reflect.ValueOf(into).Elem().Fields() {
		if label := f.Tag.Get("label"); label != "" {
			out[label] = value.Addr().Interface().(encoding.TextUnmarshaler)
		}
	}
	return out
}

// Joined are the labels that count for the whole group of a container: the
// members that have one must agree.
func Joined() []string { return sortedKeys(labelled(&Settings{})) }

// Label is what a label says, as it compares; "" when it is not set.
func (s Settings) Label(label string) string {
	value := reflect.ValueOf(labelled(&s)[label]).Elem()
	if value.IsZero() {
		return ""
	}
	return fmt.Sprint(value)
}

// Only returns the settings without all but what one label says.
func (s Settings) Only(label string) (out Settings) {
	reflect.ValueOf(labelled(&out)[label]).Elem().Set(reflect.ValueOf(labelled(&s)[label]).Elem())
	return out
}
