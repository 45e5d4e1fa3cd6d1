package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
)

// logger writes lines as Fluent Bit does, so that they read as one log:
//
//	[2026/11/23 02:05:25.137] [ info] [output:audit_s3:NAME] message key=value
type logger struct{ *slog.Logger }

func newLogger(w io.Writer, name, level string) *logger {
	least := slog.LevelInfo
	// An unknown level was refused by conf; info serves until then.
	_ = least.UnmarshalText([]byte(level))
	return &logger{slog.New(&handler{mu: &sync.Mutex{}, w: w, name: name, least: least, now: time.Now})}
}

// handler is a slog.Handler. Every line is one Write, so that lines of several
// goroutines do not mix.
type handler struct {
	mu    *sync.Mutex
	w     io.Writer
	name  string
	least slog.Level
	attrs string // already formatted
	now   func() time.Time
}

func (h *handler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.least }

func (h *handler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	fmt.Fprintf(&b, "[%s] [%s] [output:%s] %s", h.now().Format("2006/01/02 15:04:05.000"), levelName(r.Level), h.name, oneLine(r.Message))
	b.WriteString(h.attrs)
	r.Attrs(func(a slog.Attr) bool { appendAttr(&b, a); return true })
	b.WriteByte('\n')
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := io.WriteString(h.w, b.String())
	return err
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var b strings.Builder
	for _, a := range attrs {
		appendAttr(&b, a)
	}
	clone := *h
	clone.attrs += b.String()
	return &clone
}

// WithGroup is not used in this program; keys stay flat.
func (h *handler) WithGroup(string) slog.Handler { return h }

func levelName(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "error"
	case l >= slog.LevelWarn:
		return " warn"
	case l >= slog.LevelInfo:
		return " info"
	}
	return "debug"
}

func appendAttr(b *strings.Builder, a slog.Attr) {
	value := a.Value.Resolve().String()
	if value == "" || strings.ContainsAny(value, " \"=") || value != oneLine(value) {
		value = strconv.Quote(value)
	}
	b.WriteString(" " + a.Key + "=" + value)
}

// oneLine keeps a message from looking like several, and from steering a terminal.
func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, s)
}
