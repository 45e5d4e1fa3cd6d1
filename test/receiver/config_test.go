package receiver

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"audit_s3/conf"
)

// setting is one line of a configuration: key ${variable:-standard}.
type setting struct {
	section            string // SERVICE, INPUT or OUTPUT
	key                string
	variable, standard string
}

var valuePattern = regexp.MustCompile(`^\$\{([A-Z0-9_]+):-([^}]*)\}$`)

func newSetting(t *testing.T, section, key, value string) setting {
	t.Helper()
	found := valuePattern.FindStringSubmatch(value)
	if found == nil {
		t.Fatalf("%s: the value of %s is %q, not ${NAME:-default}", section, key, value)
	}
	return setting{section, key, found[1], found[2]}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "conf", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// classic reads the classic format: sections in brackets, a key and a value to a
// line. A # behind a value is part of it.
func classic(t *testing.T, text string) (settings []setting) {
	t.Helper()
	section := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section = strings.Trim(line, "[]")
		default:
			key, value, _ := strings.Cut(line, " ")
			settings = append(settings, newSetting(t, section, key, strings.TrimSpace(value)))
		}
	}
	return settings
}

// fromYAML reads the other format.
func fromYAML(t *testing.T, text string) (settings []setting) {
	t.Helper()
	var file struct {
		Service  yaml.Node
		Pipeline struct{ Inputs, Outputs []yaml.Node }
	}
	decoder := yaml.NewDecoder(strings.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		t.Fatal(err)
	}
	add := func(section string, n yaml.Node) {
		for i := 0; i+1 < len(n.Content); i += 2 {
			settings = append(settings, newSetting(t, section, n.Content[i].Value, n.Content[i+1].Value))
		}
	}
	add("SERVICE", file.Service)
	for _, n := range file.Pipeline.Inputs {
		add("INPUT", n)
	}
	for _, n := range file.Pipeline.Outputs {
		add("OUTPUT", n)
	}
	return settings
}

func TestBothFilesHoldTheSamePipeline(t *testing.T) {
	a, b := read(t, "fluent-bit.conf"), read(t, "fluent-bit.yaml")
	one, other := classic(t, a), fromYAML(t, b)
	if len(one) < 40 {
		t.Fatalf("only %d settings were found", len(one))
	}
	for i := range max(len(one), len(other)) {
		if i >= len(one) || i >= len(other) || one[i] != other[i] {
			t.Fatalf("setting %d differs:\nfluent-bit.conf %+v\nfluent-bit.yaml %+v", i, one[min(i, len(one)-1)], other[min(i, len(other)-1)])
		}
	}
	if one, other := comments(a), comments(b); one != other {
		t.Errorf("the files' comments differ:\n%s\n\n%s", one, other)
	}
}

// comments are those below the head of a file.
func comments(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "#") {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

func TestEverySettingSaysWhatItProtectsAgainst(t *testing.T) {
	for _, name := range append(configs, "ship-orphan.conf") {
		before := ""
		for line := range strings.Lines(read(t, name)) {
			line = strings.TrimSpace(line)
			if strings.Contains(line, "${") && !strings.HasPrefix(line, "#") && !strings.HasPrefix(before, "# ") {
				t.Errorf("%s: nothing stands above %q", name, line)
			}
			before = line
		}
	}
}

func TestEveryVariableIsThereOnce(t *testing.T) {
	seen := map[string]string{}
	for _, s := range classic(t, read(t, "fluent-bit.conf")) {
		if other, twice := seen[s.variable]; twice {
			t.Errorf("%s sets both %s and %s", s.variable, other, s.key)
		}
		seen[s.variable] = s.key
	}
}

// TestEveryKeyOfThePluginIsThere: also that the shipped values are allowed.
func TestEveryKeyOfThePluginIsThere(t *testing.T) {
	shipped := map[string]string{"bucket": "some-bucket", "cluster": "prod-1"}
	var keys []string
	for _, s := range classic(t, read(t, "fluent-bit.conf")) {
		if !strings.HasPrefix(s.variable, "AUDIT_S3_") {
			continue
		}
		keys = append(keys, s.key)
		if want := "AUDIT_S3_" + strings.ToUpper(s.key); s.section != "OUTPUT" || s.variable != want {
			t.Errorf("%s is set by %s in %s, want %s", s.key, s.variable, s.section, want)
		}
		if s.standard != "" {
			shipped[s.key] = s.standard
		}
	}
	for _, s := range (conf.Config{}).Settings() {
		if !slices.Contains(keys, s.Key) {
			t.Errorf("the key %s of the plugin is not in the shipped configuration", s.Key)
		}
	}
	if n := len((conf.Config{}).Settings()); n != len(keys) {
		t.Errorf("%d keys in the shipped configuration, the plugin has %d", len(keys), n)
	}
	if _, err := conf.Parse(func(key string) string { return shipped[key] }); err != nil {
		t.Errorf("the plugin does not take the shipped values: %v", err)
	}
}

// TestShipOrphanIsTheReceivers: the Job reads what the receiver wrote, so it must
// have the receiver's settings but for those of its own.
func TestShipOrphanIsTheReceivers(t *testing.T) {
	its := map[string]bool{}
	for _, s := range classic(t, read(t, "ship-orphan.conf")) {
		its[fmt.Sprint(s)] = true
	}
	own := []string{"match", "shutdown_timeout", "certificate_files"} // the last: it has no certificates
	for _, s := range classic(t, read(t, "fluent-bit.conf")) {
		if s.section == "OUTPUT" && !slices.Contains(own, s.key) && !its[fmt.Sprint(s)] {
			t.Errorf("ship-orphan.conf does not have %+v", s)
		}
	}
}

// TestWhatNarrowsLosses holds the shipped values against those that DELIVERY.md
// rests on. Each of them was lost data, or a door left open, at some time.
func TestWhatNarrowsLosses(t *testing.T) {
	shipped := map[string]string{}
	for _, s := range classic(t, read(t, "fluent-bit.conf")) {
		shipped[s.section+" "+s.key] = s.standard
	}
	for key, want := range map[string]string{
		"SERVICE hot_reload": "off", "SERVICE scheduler.cap": "30", "SERVICE storage.sync": "full", "SERVICE storage.checksum": "off",
		"SERVICE storage.keep.rejected": "off", "SERVICE flush": "1", "SERVICE http_port": "2020",
		"INPUT name": "http", "INPUT tls": "on", "INPUT tls.verify_client_cert": "on", "INPUT tls.min_version": "TLSv1.2",
		"INPUT buffer_max_size": "64M", "INPUT storage.type": "filesystem", "INPUT http_server.workers": "1", "INPUT port": "8443",
		"OUTPUT match": "*", "OUTPUT workers": "1", "OUTPUT retry_limit": "no_limits",
	} {
		if shipped[key] != want {
			t.Errorf("%s is %q, want %q", key, shipped[key], want)
		}
	}
	for key, why := range map[string]string{
		"OUTPUT storage.total_limit_size": "at that limit the oldest chunks are dropped",
		"INPUT tls.verify":                "a value that is not understood lets everybody in",
		"INPUT tag_key":                   "a record could then choose its tag",
	} {
		if _, there := shipped[key]; there {
			t.Errorf("%s is set: %s", key, why)
		}
	}
	if shipped["SERVICE storage.path"] == shipped["OUTPUT store_dir"] {
		t.Error(fmt.Sprint("both buffers are in ", shipped["OUTPUT store_dir"]))
	}
}
