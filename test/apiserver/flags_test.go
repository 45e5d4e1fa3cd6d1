package apiserver

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apiserver/pkg/util/webhook"
)

// TestFlagsAreTheAPIServersOwn: every flag is known, every value valid, and what
// matters is what the API server then works with.
func TestFlagsAreTheAPIServersOwn(t *testing.T) {
	all := flags(t, "kube-apiserver.flags")
	for i, f := range all {
		if slices.ContainsFunc(all[:i], func(g flag) bool { return g.name == f.name }) {
			t.Errorf("--%s stands twice", f.name)
		}
	}
	w := optionsOf(t, all).WebhookOptions
	if w.BatchOptions.Mode != "batch" || !w.BatchOptions.BatchConfig.AsyncDelegate || !w.TruncateOptions.Enabled {
		t.Errorf("not a batching, truncating webhook: %+v", w)
	}
	l := optionsOf(t, flags(t, "kube-apiserver-log.flags"))
	if l.WebhookOptions.ConfigFile != "" {
		t.Error("log backend and webhook at once archive everything twice")
	}
	if l.LogOptions.Compress || l.LogOptions.Format != "json" || l.LogOptions.BatchOptions.Mode != "blocking" || !l.LogOptions.TruncateOptions.Enabled {
		t.Errorf("not a log that tail reads and that loses nothing: %+v", l.LogOptions)
	}
}

// defaultOf finds the default of a variable in a configuration of Fluent Bit's.
func defaultOf(t *testing.T, file, variable string) string {
	t.Helper()
	match := regexp.MustCompile(`\$\{` + variable + `:-([^}]*)\}`).FindSubmatch(read(t, conf(t, file)))
	if match == nil {
		t.Fatalf("%s has no ${%s:-…}", file, variable)
	}
	return string(match[1])
}

// envelope is the EventList around its items.
const envelope = int64(len(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[]}`) + 1)

// TestAPostFitsTheReceiver: the largest POST is below buffer_max_size in both
// configurations. delivery_test.go sends one.
func TestAPostFitsTheReceiver(t *testing.T) {
	w := optionsOf(t, flags(t, "kube-apiserver.flags")).WebhookOptions
	batch, event := int64(w.BatchOptions.BatchConfig.MaxBatchSize), w.TruncateOptions.TruncateConfig.MaxEventSize
	post := batch*(event+1) + envelope
	for _, file := range []string{"fluent-bit.conf", "fluent-bit.yaml"} {
		limit := size(t, defaultOf(t, file, "RECEIVER_BUFFER_MAX_SIZE"))
		if post >= limit {
			t.Errorf("%s takes %d bytes, a POST of %d events of %d bytes has %d", file, limit, batch, event, post)
		}
	}
	// A line of the log, with its line break, is below tail's buffer.
	l := optionsOf(t, flags(t, "kube-apiserver-log.flags")).LogOptions
	limit := size(t, defaultOf(t, "fluent-bit-tail.conf", "RECEIVER_BUFFER_MAX_SIZE"))
	if line := l.TruncateOptions.TruncateConfig.MaxEventSize + 1; line >= limit {
		t.Errorf("tail takes lines of %d bytes, an event may have %d", limit, line)
	}
	if got := defaultOf(t, "fluent-bit-tail.conf", "RECEIVER_TAIL_PATH"); !strings.HasPrefix(got, "/var/log/kubernetes/audit/audit") || !strings.HasPrefix(l.Path, "/var/log/kubernetes/audit/audit") {
		t.Errorf("the API server writes %s, tail reads %s", l.Path, got)
	}
}

// TestTheTablesOfTheReadme: the figures that the page tells are those of the flags.
func TestTheTablesOfTheReadme(t *testing.T) {
	page := string(read(t, conf(t, "apiserver", "README.md")))
	says := func(what string) {
		t.Helper()
		if !strings.Contains(page, what) {
			t.Errorf("README.md does not say %q", what)
		}
	}
	w := optionsOf(t, flags(t, "kube-apiserver.flags")).WebhookOptions
	least, most := patience(w.InitialBackoff)
	if least.Round(time.Second) != 244*time.Second || most.Truncate(time.Second) != 292*time.Second {
		t.Errorf("a batch is tried for %v to %v", least, most)
	}
	says("244 to 292 s")
	least, most = patience(10 * time.Second)
	if least.Round(time.Second) != 81*time.Second || most.Round(time.Second) != 98*time.Second {
		t.Errorf("by default a batch is tried for %v to %v", least, most)
	}
	says("81 to 98 s")

	l := optionsOf(t, flags(t, "kube-apiserver-log.flags")).LogOptions
	log := float64(l.MaxSize) * (1 << 20) * float64(l.MaxBackups)
	for rate, hours := range map[float64]string{50: "23.7 h", 200: "5.9 h", 500: "2.4 h"} {
		if got := time.Duration(log / (rate * 2460) * float64(time.Second)).Hours(); formatted(got) != hours {
			t.Errorf("at %v events/s the log lasts %v h, not %s", rate, got, hours)
		}
		says("| " + hours)
	}
}

func formatted(hours float64) string { return fmt.Sprintf("%.1f h", hours) }

// patience is how long the webhook goes on trying, between its first attempt and its
// last, not counting the attempts themselves.
func patience(initial time.Duration) (least, most time.Duration) {
	b := webhook.DefaultRetryBackoffWithInitialDelay(initial)
	d := float64(b.Duration)
	for range b.Steps - 1 {
		least += time.Duration(d)
		most += time.Duration(d * (1 + b.Jitter))
		d *= b.Factor
	}
	return least, most
}
