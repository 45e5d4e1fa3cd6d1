package main

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"
)

// logAt returns a logger with a fixed clock, and what it wrote.
func logAt(level string) (*logger, *bytes.Buffer) {
	var buf bytes.Buffer
	log := newLogger(&buf, "audit_s3:NAME", level)
	h := log.Handler().(*handler)
	h.now = func() time.Time { return time.Date(2026, 11, 23, 2, 5, 25, 137_999_999, time.UTC) }
	return log, &buf
}

// TestLogLines are Fluent Bit's, byte for byte.
func TestLogLines(t *testing.T) {
	const at = "[2026/11/23 02:05:25.137] "
	tests := []struct {
		name string
		log  func(l *logger)
		want string
	}{
		{"info", func(l *logger) { l.Info("started") }, at + "[ info] [output:audit_s3:NAME] started\n"},
		{"warn", func(l *logger) { l.Warn("careful") }, at + "[ warn] [output:audit_s3:NAME] careful\n"},
		{"error", func(l *logger) { l.Error("broken") }, at + "[error] [output:audit_s3:NAME] broken\n"},
		{"debug", func(l *logger) { l.Debug("detail") }, at + "[debug] [output:audit_s3:NAME] detail\n"},
		{"values", func(l *logger) { l.Info("m", "n", 7, "s", "word", "d", 90*time.Second, "b", true) }, at + "[ info] [output:audit_s3:NAME] m n=7 s=word d=1m30s b=true\n"},
		{"values in need of quotes", func(l *logger) {
			l.Info("m", "empty", "", "space", "a b", "quote", `a"b`, "equals", "a=b", "tab", "a\tb")
		},
			at + `[ info] [output:audit_s3:NAME] m empty="" space="a b" quote="a\"b" equals="a=b" tab="a\tb"` + "\n"},
		{"values as they are", func(l *logger) { l.Info("m", "url", "s3://b/k-1_2.x?y", "text", "Überraschung") },
			at + "[ info] [output:audit_s3:NAME] m url=s3://b/k-1_2.x?y text=Überraschung\n"},
		{"error value", func(l *logger) { l.Error("m", "error", errors.New("no way")) }, at + `[error] [output:audit_s3:NAME] m error="no way"` + "\n"},
		{"with", func(l *logger) { l.With("k", "v w").Info("m", "n", 1) }, at + `[ info] [output:audit_s3:NAME] m k="v w" n=1` + "\n"},
		{"group", func(l *logger) { l.WithGroup("g").Info("m", "n", 1) }, at + "[ info] [output:audit_s3:NAME] m n=1\n"},
		{"levels between", func(l *logger) {
			l.Log(t.Context(), slog.LevelWarn+1, "m")
		}, at + "[ warn] [output:audit_s3:NAME] m\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			log, buf := logAt("debug")
			test.log(log)
			if got := buf.String(); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

func TestLevelsLeaveOutWhatIsBelow(t *testing.T) {
	for level, want := range map[string]string{
		"error": "error", "warn": "error warn", "info": "error warn info", "debug": "error warn info debug",
		"": "error warn info", "nonsense": "error warn info",
	} {
		log, buf := logAt(level)
		log.Error("error")
		log.Warn("warn")
		log.Info("info")
		log.Debug("debug")
		var got []string
		for line := range strings.Lines(buf.String()) {
			got = append(got, strings.TrimSpace(line[strings.LastIndex(line, " "):]))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("level %q logs %v, want %s", level, got, want)
		}
	}
}

// TestNothingLoggedForgesALine or steers a terminal: values may come from a
// client, such as a tag, which is the path of the URL.
func TestNothingLoggedForgesALine(t *testing.T) {
	const forged = "[2026/11/23 02:05:25.137] [error] [output:audit_s3:NAME] all events deleted"
	for _, separator := range []string{"\n", "\r", "\r\n", "\v", "\f", "\x00", "\x1b[2K\x1b[1G", "\u0085", "\u2028", "\u2029", "\u202e", "\x7f", "\xff"} {
		log, buf := logAt("info")
		log.Info("a"+separator+forged, "value", "a"+separator+forged, "tag", "a"+separator+"b", "error", fmt.Errorf("b%s%s", separator, forged))
		log.With("more", separator+forged).Info("c")
		text := buf.String()
		if n := strings.Count(text, "\n"); n != 2 || !strings.HasSuffix(text, "\n") {
			t.Errorf("%q makes %d lines of 2: %q", separator, n, text)
		}
		if strings.Contains(strings.ReplaceAll(text, "\n", ""), separator) {
			t.Errorf("%q reaches the log: %q", separator, text)
		}
	}
}

func TestLinesOfSeveralGoroutinesDoNotMix(t *testing.T) {
	var buf bytes.Buffer // not safe for concurrent use: the race detector watches
	log := newLogger(&buf, "audit_s3:NAME", "info")
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			child := log.With("goroutine", g)
			for range 50 {
				child.Info("message", "text", strings.Repeat("x", 100))
			}
		})
	}
	wg.Wait()
	lines := strings.Split(strings.TrimSpace(buf.String()), "\n")
	for _, line := range lines {
		if !strings.HasPrefix(line, "[2") || !strings.HasSuffix(line, strings.Repeat("x", 100)) || strings.Count(line, "message") != 1 {
			t.Fatalf("mixed: %s", line)
		}
	}
	if len(lines) != 8*50 {
		t.Errorf("%d lines, want %d", len(lines), 8*50)
	}
}
