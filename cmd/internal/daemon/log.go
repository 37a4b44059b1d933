package daemon

import (
	"context"
	"log/slog"
	"sync/atomic"

	"anodenet/cmd/internal/config"
)

// logSettings are the settings of the log. They can change while it is used.
type logSettings struct {
	level slog.LevelVar
	json  atomic.Bool
}

func (s *logSettings) set(c config.Log) {
	s.level.Set(c.Level)
	s.json.Store(c.Format == config.FormatJSON)
}

// either writes each line by one of two handlers. Loggers that are derived from one that
// has it follow the setting as well.
type either struct {
	text, json slog.Handler
	useJSON    *atomic.Bool
}

func (e *either) handler() slog.Handler {
	if e.useJSON.Load() {
		return e.json
	}
	return e.text
}

// Enabled reports whether a level is logged, which both handlers decide alike.
func (e *either) Enabled(ctx context.Context, l slog.Level) bool { return e.text.Enabled(ctx, l) }

// Handle writes a line.
func (e *either) Handle(ctx context.Context, r slog.Record) error { return e.handler().Handle(ctx, r) }

// WithAttrs adds attributes to both handlers.
func (e *either) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &either{e.text.WithAttrs(attrs), e.json.WithAttrs(attrs), e.useJSON}
}

// WithGroup opens a group in both handlers.
func (e *either) WithGroup(name string) slog.Handler {
	return &either{e.text.WithGroup(name), e.json.WithGroup(name), e.useJSON}
}
