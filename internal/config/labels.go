package config

import (
	"fmt"
	"strconv"
	"strings"
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

// ParseLabels reads the labels of a container. A label that the image has
// with the same value is ignored: a pulled image must not enrol itself. The
// error names the label; a label that asks for what this version cannot do
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
			return Labels{}, fmt.Errorf("label %s: %w", key, err)
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
			return fmt.Errorf("%q is neither true nor false", text)
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
			return fmt.Errorf("names no volume: list volumes or paths in the container, separated by commas")
		}
	default:
		return fmt.Errorf("no such label%s", didYouMean(name, append(known, commandLabels()...)))
	}
	return nil
}
