package conf

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "rewrite the .want files, or the table in README.md, as the code now says")

// section is an [OUTPUT] section as Fluent Bit hands it out: keys are lower case.
type section map[string]string

func (s section) get(key string) string { return s[key] }

// minimal has the keys that must be there.
func minimal() section {
	return section{"bucket": "audit", "cluster": "prod-1", "policy_file": "/etc/policy.yaml",
		"store_dir": "/var/lib/audit"}
}

func with(base section, pairs ...string) section {
	s := maps.Clone(base)
	for i := 0; i < len(pairs); i += 2 {
		s[pairs[i]] = pairs[i+1]
	}
	return s
}

func problemsOf(t *testing.T, s section) Problems {
	t.Helper()
	_, err := Parse(s.get)
	if err == nil {
		return nil
	}
	var problems Problems
	if !errors.As(err, &problems) {
		t.Fatalf("the error is a %T, want Problems: %v", err, err)
	}
	return problems
}

func TestDefaults(t *testing.T) {
	got, err := Parse(minimal().get)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Bucket: "audit", Cluster: "prod-1", PolicyFile: "/etc/policy.yaml", StoreDir: "/var/lib/audit",
		Prefix: "k8s-audit", Redaction: "default",
		TotalFileSize: 256_000_000, UploadTimeout: 5 * time.Minute,
		StoreDirLimitSize: 8_000_000_000, ShutdownTimeout: time.Minute, DedupWindow: 15 * time.Minute,
		OutputName: "audit_s3.prod-1", PluginLogLevel: "info",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestEveryKeyIsRead(t *testing.T) {
	all := section{
		"bucket": "b.1-2", "cluster": "C_1.x-y", "policy_file": "relative/policy.yaml", "prefix": "a/b_c",
		"region": "eu-central-1", "endpoint": "http://127.0.0.1:9000", "profile": "audit",
		"role_arn": "arn:aws:iam::123456789012:role/path/writer", "external_id": "shared-word",
		"sts_endpoint": "https://sts.eu-central-1.amazonaws.com/", "redaction": "strict", "redaction_file": "/etc/r.yaml", "redaction_hmac_key_file": "/etc/k",
		"total_file_size": "2M", "upload_timeout": "90s", "store_dir": "/spool",
		"store_dir_limit_size": "8M", "shutdown_timeout": "0", "dedup_window": "1d", "output_name": "audit:1/a",
		"sse": "aws:kms", "sse_kms_key_id": "alias/audit", "storage_class": "STANDARD_IA", "object_lock_mode": "COMPLIANCE", "object_lock_retention": "365d",
		"metrics_listen": "[::1]:2021", "certificate_files": "/tls/tls.crt, /ca/ca.crt",
		"plugin_log_level": "debug",
	}
	for _, k := range keys {
		if all[k.name] == "" {
			t.Errorf("this test gives no value to %s", k.name)
		}
	}
	got, err := Parse(all.get)
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Bucket: "b.1-2", Cluster: "C_1.x-y", PolicyFile: "relative/policy.yaml", Prefix: "a/b_c",
		Region: "eu-central-1", Endpoint: "http://127.0.0.1:9000", Profile: "audit",
		RoleARN: "arn:aws:iam::123456789012:role/path/writer", ExternalID: "shared-word",
		STSEndpoint: "https://sts.eu-central-1.amazonaws.com/", Redaction: "strict",
		RedactionFile: "/etc/r.yaml", RedactionHMACKeyFile: "/etc/k",
		TotalFileSize: 2_000_000, UploadTimeout: 90 * time.Second, StoreDir: "/spool",
		StoreDirLimitSize: 8_000_000, ShutdownTimeout: 0, DedupWindow: 24 * time.Hour, OutputName: "audit:1/a",
		SSE: "aws:kms", SSEKMSKeyID: "alias/audit", StorageClass: "STANDARD_IA", ObjectLockMode: "COMPLIANCE", ObjectLockRetention: 365 * 24 * time.Hour,
		MetricsListen: "[::1]:2021", CertificateFiles: []string{"/tls/tls.crt", "/ca/ca.crt"},
		PluginLogLevel: "debug",
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestSpacesAroundAValueDoNotCount(t *testing.T) {
	got, err := Parse(with(minimal(), "bucket", "  audit\t", "prefix", "  ").get)
	if err != nil {
		t.Fatal(err)
	}
	if got.Bucket != "audit" || got.Prefix != "k8s-audit" {
		t.Errorf("bucket %q, prefix %q", got.Bucket, got.Prefix)
	}
}

func TestPolicyNoneKeepsRecordedLevels(t *testing.T) {
	got, err := Parse(with(minimal(), "policy_file", "none").get)
	if err != nil {
		t.Fatal(err)
	}
	if got.PolicyFile != "" {
		t.Errorf("PolicyFile is %q, want it empty", got.PolicyFile)
	}
	if s := got.String(); !strings.Contains(s, " policy_file=none ") {
		t.Errorf("String() does not show it: %s", s)
	}
}

func TestSizes(t *testing.T) {
	tests := []struct {
		text string
		want int64 // -1: refused
	}{
		{"0", 0}, {"7", 7}, {"7B", 7},
		{"3k", 3_000}, {"3K", 3_000}, {"3kb", 3_000}, {"3KB", 3_000},
		{"256m", 256_000_000}, {"256M", 256_000_000}, {"256MB", 256_000_000}, {"256mB", 256_000_000},
		{"8g", 8_000_000_000}, {"8G", 8_000_000_000}, {"8GB", 8_000_000_000},
		{"2t", 2_000_000_000_000}, {"2T", 2_000_000_000_000}, {"2TB", 2_000_000_000_000},
		{"1000000T", 1_000_000_000_000_000_000},
		{"", -1}, {"M", -1}, {"-1M", -1}, {"1.5G", -1}, {"1e6", -1}, {"256MiB", -1}, {"256Mi", -1},
		{"5BM", -1}, {"5MM", -1}, {"256 M", -1}, {"0x10", -1}, {"M5", -1},
		{"1000001T", -1}, {"9223372036854775808", -1}, {"99999999999999999999G", -1},
	}
	for _, test := range tests {
		got, err := parseSize(test.text)
		if err != nil {
			got = -1
		}
		if got != test.want {
			t.Errorf("parseSize(%q) = %d, want %d", test.text, got, test.want)
		}
	}
}

func TestDurations(t *testing.T) {
	const refused = time.Duration(-1)
	tests := []struct {
		text string
		want time.Duration
	}{
		{"0", 0}, {"90s", 90 * time.Second}, {"5m", 5 * time.Minute}, {"24h", 24 * time.Hour},
		{"1h30m", 90 * time.Minute}, {"500ms", 500 * time.Millisecond},
		{"0d", 0}, {"1d", 24 * time.Hour}, {"365d", 365 * 24 * time.Hour},
		{"", refused}, {"90", refused}, {"5 m", refused}, {"1.5d", refused}, {"-1d", refused},
		{"100001d", refused}, {"d", refused}, {"1w", refused}, {"5M", refused}, {"1d12h", refused},
	}
	for _, test := range tests {
		got, err := parseDuration(test.text)
		if err != nil {
			got = refused
		}
		if got != test.want {
			t.Errorf("parseDuration(%q) = %v, want %v", test.text, got, test.want)
		}
	}
}

// TestBounds has the last value allowed and the first refused, on both sides.
func TestBounds(t *testing.T) {
	tests := []struct {
		key             string
		allowed, refuse []string
	}{
		{"total_file_size", []string{"1M", "2G"}, []string{"999999", "2000000001", "0"}},
		{"upload_timeout", []string{"1s", "24h", "1d"}, []string{"999ms", "24h1s", "0", "-5m"}},
		{"store_dir_limit_size", []string{"4M", "10T"}, []string{"3999999", "10001G", "0"}},
		{"shutdown_timeout", []string{"0", "0s", "24h"}, []string{"-1s", "25h"}},
		{"bucket", []string{"abc", strings.Repeat("a", 63)}, []string{"ab", strings.Repeat("a", 64), "Audit", "a_b", "-ab", "ab-", "a/b"}},
		{"cluster", []string{"a", "7", strings.Repeat("c", 100)}, []string{strings.Repeat("c", 101), "_a", ".a", "-a", "a b", "a/b", "é"}},
		{"prefix", []string{"a", "a/b/c", "it's!(_.-*)"}, []string{"/a", "a/", "a//b", "/", "a b", "a=b", "ä"}},
		{"store_dir", []string{"/s", "/"}, []string{"s", "./s", "~/s", "../s"}},
		{"endpoint", []string{"http://h", "https://h:9000/"}, []string{"h:9000", "s3://h", "https://h/path", "https://u:p@h", "https://"}},
		{"role_arn", []string{"arn:aws-cn:iam::123456789012:role/x"}, []string{"writer", "arn:aws:iam::1234:role/x", "arn:aws:iam::123456789012:user/x"}},
		{"plugin_log_level", []string{"error", "warn", "info", "debug"}, []string{"warning", "INFO", "trace"}},
		{"redaction", []string{"default", "strict", "off"}, []string{"none", "OFF", "true"}},
		{"metrics_listen", []string{":1", ":65535", "0.0.0.0:2021", "127.0.0.1:2021", "[::]:2021", "[fe80::1%eth0]:2021", "localhost:2021", "node-1.example.org:2021"},
			[]string{"2021", ":", ":0", ":65536", ":02021", ":+1", ":http", "::2021", "::1:2021", "[::1]", "[::1:2021", "[127.0.0.1]:2021", "[x]:2021", "256.0.0.1:2021", "1.2.3:2021", "-a:2021", "a b:2021",
				"http://127.0.0.1:2021", "127.0.0.1:2021/metrics", "user@host:2021", "127.0.0.1: 2021"}},
		{"output_name", []string{"a", "audit:1/a.b-c_d"}, []string{"a b", "a]b", strings.Repeat("n", 129)}},
	}
	for _, test := range tests {
		base := with(minimal(), "total_file_size", "1M", "store_dir_limit_size", "10T")
		for _, value := range test.allowed {
			if p := problemsOf(t, with(base, test.key, value)); p != nil {
				t.Errorf("%s %s is refused: %v", test.key, value, p)
			}
		}
		for _, value := range test.refuse {
			if p := problemsOf(t, with(base, test.key, value)); len(p) != 1 || p[0].Key != test.key {
				t.Errorf("%s %s: problems %v, want one of this key", test.key, value, p)
			}
		}
	}
}

func TestCertificateFiles(t *testing.T) {
	base := with(minimal(), "metrics_listen", ":2021")
	for value, want := range map[string][]string{
		"/a": {"/a"}, "/a,/b": {"/a", "/b"}, " /a b/c.pem , /b ": {"/a b/c.pem", "/b"}, "": nil,
		"a": nil, "/a,": nil, ",/a": nil, "/a,,/b": nil, "/a;b": {"/a;b"}, "/a,/a": nil, "/a, /a": nil, "/a\x1b": nil, "/a\xff": nil, "./a": nil,
	} {
		c, err := Parse(with(base, "certificate_files", value).get)
		if refused := want == nil && value != ""; refused != (err != nil) || !slices.Equal(c.CertificateFiles, want) {
			t.Errorf("%q: %q, error %v", value, c.CertificateFiles, err)
		}
	}
}

// TestBadConfigurations holds the error of each testdata/NAME.bad.conf, the lines
// of one section, to testdata/NAME.want. The word hunter2 stands for a secret.
//
//	go test ./conf -run TestBadConfigurations -update
func TestBadConfigurations(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bad.conf")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files, error %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".bad.conf")
		t.Run(name, func(t *testing.T) {
			c, err := Parse(readSection(t, file).get)
			if err == nil {
				t.Fatal("is accepted")
			}
			got := err.Error() + "\n"
			if strings.Contains(got, "hunter2") {
				t.Errorf("the error shows the secret: %s", got)
			}
			if s := c.String(); strings.Contains(s, "hunter2") {
				t.Errorf("String() shows the secret: %s", s)
			}
			wanted := filepath.Join("testdata", name+".want")
			if *update {
				if err := os.WriteFile(wanted, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(wanted)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got  %swant %s", got, want)
			}
		})
	}
	wants, err := filepath.Glob("testdata/*.want")
	if err != nil || len(wants) != len(files) {
		t.Errorf("%d .want files for %d .bad.conf files, error %v", len(wants), len(files), err)
	}
}

// readSection reads lines of a key and a value; # begins a comment.
func readSection(t *testing.T, file string) section {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := section{}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" || line[0] == '#' {
			continue
		}
		key, value, _ := strings.Cut(line, " ")
		s[strings.ToLower(key)] = strings.TrimSpace(value)
	}
	return s
}

// TestEveryRefusalIsAProblem: each key that is looked for only to refuse it is
// refused once, with a reason and without its value.
func TestEveryRefusalIsAProblem(t *testing.T) {
	for name, reason := range refusedKeys {
		want := Problem{Key: name, Allowed: reason}
		if p := problemsOf(t, with(minimal(), name, "hunter2")); len(p) != 1 || p[0] != want {
			t.Errorf("%s: problems %v, want %v", name, p, want)
		}
		if strings.TrimSpace(reason) == "" {
			t.Errorf("%s is refused without a reason", name)
		}
	}
}

// TestMisspellingsAreRefusedByTheKeyTheyMean goes through every misspelling of
// every key.
func TestMisspellingsAreRefusedByTheKeyTheyMean(t *testing.T) {
	real := map[string]bool{}
	for _, k := range keys {
		real[k.name] = true
	}
	meant := map[string]string{}
	for _, k := range keys {
		for _, typo := range misspellings(k.name) {
			if _, otherwise := refusedKeys[typo]; real[typo] || otherwise {
				continue
			}
			if other := meant[typo]; other != "" && other != k.name {
				t.Errorf("%s is a misspelling of both %s and %s", typo, other, k.name)
			}
			meant[typo] = k.name
		}
	}
	for typo, key := range meant {
		p := problemsOf(t, with(minimal(), typo, "hunter2"))
		if len(p) != 1 || p[0].Key != typo || !strings.Contains(p[0].Allowed, "`"+key+"`") || strings.Contains(p[0].String(), "hunter2") {
			t.Errorf("%s: problems %v, want one that names %s and no value", typo, p, key)
		}
	}
	for _, name := range []string{"buket", "policyfile", "policy-file", "store-dir", "store.dir", "upload_timeouts", "clutser", "bbucket"} {
		if meant[name] == "" {
			t.Errorf("%s is not recognised as a misspelling", name)
		}
	}
}

// TestNoRealKeyIsRefused: a key that we take must not be another's misspelling,
// nor in the list of those we do not take.
func TestNoRealKeyIsRefused(t *testing.T) {
	for _, k := range keys {
		if _, refused := refusedKeys[k.name]; refused {
			t.Errorf("%s is both taken and refused", k.name)
		}
	}
	for _, p := range refused(func(name string) string {
		for _, k := range keys {
			if k.name == name {
				return "x"
			}
		}
		return ""
	}) {
		t.Errorf("refused: %v", p)
	}
}

// TestParseAsksForPlainNamesOnce: what get is asked for can stand in a Fluent Bit
// file, is no key of Fluent Bit's core, and is asked for once.
func TestParseAsksForPlainNamesOnce(t *testing.T) {
	core := []string{"name", "match", "match_regex", "alias", "log_level", "log_suppress_interval", "host", "port",
		"ipv6", "workers", "retry_limit", "tls", "tls.verify", "net.keepalive", "storage.total_limit_size"}
	asked := map[string]int{}
	_, _ = Parse(func(key string) string { asked[key]++; return "" })
	for name, times := range asked {
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789_.-") != "" || name == "" {
			t.Errorf("asked for %q", name)
		}
		if times != 1 {
			t.Errorf("asked %d times for %s", times, name)
		}
		if slices.Contains(core, name) {
			t.Errorf("asked for %s, which is Fluent Bit's own", name)
		}
	}
	for _, k := range keys {
		if asked[k.name] == 0 {
			t.Errorf("never asked for %s", k.name)
		}
	}
}

// TestRelativeStoreDirIsNotUsed: whoever goes on with a refused configuration, to
// find further problems, must not create a folder wherever the process stands.
func TestRelativeStoreDirIsNotUsed(t *testing.T) {
	c, err := Parse(with(minimal(), "store_dir", "spool").get)
	if err == nil || c.StoreDir != "" {
		t.Errorf("StoreDir %q, error %v", c.StoreDir, err)
	}
}

func TestStringShowsEveryKeyAndNoSecret(t *testing.T) {
	c, err := Parse(with(minimal(), "external_id", "hunter2", "role_arn", "arn:aws:iam::123456789012:role/w").get)
	if err != nil {
		t.Fatal(err)
	}
	s := c.String()
	if strings.Contains(s, "hunter2") || !strings.Contains(s, "external_id=(set)") {
		t.Errorf("the external id is not hidden: %s", s)
	}
	if strings.ContainsAny(s, "\r\n") {
		t.Errorf("more than one line: %q", s)
	}
	for _, k := range keys {
		if !strings.Contains(" "+s, " "+k.name+"=") {
			t.Errorf("%s is missing: %s", k.name, s)
		}
	}
	if s := (Config{}).String(); !strings.Contains(s, "external_id=- ") {
		t.Errorf("an unset external id is not shown as such: %s", s)
	}
}

func TestMarkdownHasARowPerKey(t *testing.T) {
	rows := strings.Split(strings.TrimSpace(Markdown()), "\n")
	if len(rows) != 2+len(keys) {
		t.Fatalf("%d rows for %d keys", len(rows)-2, len(keys))
	}
	for i, k := range keys {
		row := rows[2+i]
		if !strings.HasPrefix(row, "| `"+k.name+"` | ") || strings.Count(row, "|") != 4 {
			t.Errorf("row of %s: %s", k.name, row)
		}
		if k.required != strings.Contains(row, "| required |") {
			t.Errorf("%s: required is %v, the row says %s", k.name, k.required, row)
		}
		if k.meaning == "" || k.allowed == "" || k.shownDefault() == "``" {
			t.Errorf("%s is not explained: %s", k.name, row)
		}
	}
}

// TestReadmeTable: the README's table is the code's.
//
//	go test ./conf -run TestReadmeTable -update
func TestReadmeTable(t *testing.T) {
	const file, begin, end = "../README.md", "<!-- keys:begin -->\n", "<!-- keys:end -->"
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("there is no README.md; it must hold the table of keys between %q and %q", strings.TrimSpace(begin), end)
	}
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(data), begin)
	table, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("README.md lacks the lines %q and %q, between which the table of keys belongs", strings.TrimSpace(begin), end)
	}
	if strings.TrimSpace(table) == strings.TrimSpace(Markdown()) {
		return
	}
	if !*update {
		t.Fatalf("the table of keys in README.md is not the code's; write it with: make generate\n\ngot:\n%s\nwant:\n%s", table, Markdown())
	}
	text := fmt.Sprint(head, begin, Markdown(), end, tail)
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
