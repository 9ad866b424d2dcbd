package config

import (
	"errors"
	"fmt"
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
	Commands CommandSettings // what is run in this container
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
// error is a *LabelError; a label that asks for what this version cannot do
// is an error too, because a point that silently lacks it would be a lie.
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
	known := []string{"enable", "group", "freeze", "max-window", "volumes", "schedule"}
	if ours, err := l.Commands.set(name, text); ours {
		return err
	}
	switch name {
	case "enable":
		on, err := strconv.ParseBool(text)
		if err != nil {
			return advice.With(fmt.Errorf("%q is neither true nor false", text), "write true or false")
		}
		l.Enable = &on
	case "group":
		l.Group = text
		return CheckGroupName(text)
	case "freeze":
		l.Settings.Freeze = new(Freeze)
		return l.Settings.Freeze.UnmarshalText([]byte(text))
	case "max-window":
		l.Settings.MaxWindow = new(Duration)
		return l.Settings.MaxWindow.UnmarshalText([]byte(text))
	case "schedule":
		l.Settings.Schedule = new(Schedule)
		return l.Settings.Schedule.UnmarshalText([]byte(text))
	case "volumes":
		for v := range strings.SplitSeq(text, ",") {
			if v = strings.TrimSpace(v); v != "" {
				l.Settings.Volumes = append(l.Settings.Volumes, v)
			}
		}
		if len(l.Settings.Volumes) == 0 {
			return advice.With(errors.New("names no volume"), "list volumes or paths in the container, separated by commas")
		}
	default:
		return meant(errors.New("no such label"), name, append(known, commandLabels()...))
	}
	return nil
}
