package host

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"snapd/internal/show"

	"github.com/coreos/go-systemd/v22/journal"
)

// fieldPrefix starts every field of ours in the journal: SNAPD_GROUP, ….
const fieldPrefix = "SNAPD_"

// Logger writes to the journal with fields when standard error is connected to
// it, and lines to other otherwise.
func Logger(other io.Writer) *slog.Logger {
	if ok, err := journal.StderrIsJournalStream(); err == nil && ok {
		return slog.New(&journalHandler{fallback: other})
	}
	return slog.New(slog.NewTextHandler(other, nil))
}

// journalHandler sends records by the journal's own protocol.
type journalHandler struct {
	fallback io.Writer
	attrs    []slog.Attr
}

func (*journalHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }

func (h *journalHandler) Handle(_ context.Context, r slog.Record) error {
	message, fields := h.entry(r)
	if err := journal.Send(message, priority(r.Level), fields); err != nil {
		_, err = fmt.Fprintf(h.fallback, "<%d>%s\n", priority(r.Level), show.Text(r.Message))
		return err
	}
	return nil
}

// entry is what the journal gets of a record. Lines stay: they are one entry.
func (h *journalHandler) entry(r slog.Record) (message string, fields map[string]string) {
	fields = map[string]string{"SYSLOG_IDENTIFIER": "snapd-agent"}
	add := func(a slog.Attr) bool {
		if v := a.Value.String(); v != "" {
			fields[fieldName(a.Key)] = show.Lines(v)
		}
		return true
	}
	for _, a := range h.attrs {
		add(a)
	}
	r.Attrs(add)
	return show.Lines(r.Message), fields
}

func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journalHandler{fallback: h.fallback, attrs: append(slices.Clip(h.attrs), attrs...)}
}

// WithGroup leaves names as they are: the journal's fields have no groups.
func (h *journalHandler) WithGroup(string) slog.Handler { return h }

// fieldName makes a name that the journal takes: upper case, digits, underscores.
func fieldName(key string) string {
	return fieldPrefix + strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
			return r
		}
		return '_'
	}, key)
}

func priority(l slog.Level) journal.Priority {
	switch {
	case l >= slog.LevelError:
		return journal.PriErr
	case l >= slog.LevelWarn:
		return journal.PriWarning
	case l >= slog.LevelInfo:
		return journal.PriInfo
	}
	return journal.PriDebug
}
