// Package conf reads the configuration of one [OUTPUT] section and holds what a
// user deploys: policies, and later redaction rules, manifests and queries.
//
// It parses and checks; it opens no file, no connection, and does not know how
// the values are used.
package conf

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Config is the configuration of one [OUTPUT] section.
type Config struct {
	Bucket     string
	Cluster    string
	PolicyFile string // "" for none
	Prefix     string

	Region      string // "" leaves it to the AWS SDK, as the next five
	Endpoint    string
	Profile     string
	RoleARN     string
	ExternalID  string
	STSEndpoint string

	Redaction            string // default, strict or off
	RedactionFile        string // "" for none, as the next
	RedactionHMACKeyFile string

	TotalFileSize     int64 // bytes
	UploadTimeout     time.Duration
	StoreDir          string
	StoreDirLimitSize int64 // bytes
	ShutdownTimeout   time.Duration
	DedupWindow       time.Duration // 0: repeats are not looked for

	SSE                 string // "" leaves it to the bucket, as the next four
	SSEKMSKeyID         string
	StorageClass        string
	ObjectLockMode      string
	ObjectLockRetention time.Duration // from the upload on

	MetricsListen    string   // "" for none
	CertificateFiles []string // nil for none

	OutputName     string
	PluginLogLevel string
}

// Problem is one thing wrong with a configuration.
type Problem struct {
	Key     string
	Value   string // as given; "" when absent or better not repeated
	Allowed string // what to write instead
}

func (p Problem) String() string {
	if p.Value == "" {
		return fmt.Sprintf("%s: %s", p.Key, p.Allowed)
	}
	return fmt.Sprintf("%s %s: %s", p.Key, p.Value, p.Allowed)
}

// Problems is every problem of a configuration; as an error it names them all.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.String()
	}
	return fmt.Sprintf("%d configuration problem(s): %s", len(p), strings.Join(lines, "; "))
}

// name tells whether one of them is of a key.
func (p Problems) name(key string) bool {
	return slices.ContainsFunc(p, func(problem Problem) bool { return problem.Key == key })
}

// Parse reads a section by way of get, which returns the value of a key, or ""
// where it is absent: Fluent Bit gives no list of keys. The error is Problems,
// every one found; the Config then holds what could be read.
func Parse(get func(key string) string) (Config, error) {
	var c Config
	var problems Problems
	for _, k := range keys {
		value := strings.TrimSpace(get(k.name))
		given := value
		if value == "" {
			if k.required {
				problems = append(problems, Problem{k.name, "", "is required: " + k.allowed})
				continue
			}
			if value = k.fallback; value == "" {
				continue
			}
		}
		if !k.set(&c, value) {
			problems = append(problems, Problem{k.name, k.shownValue(given), "must be " + k.allowed})
		}
	}
	problems = append(problems, refused(get)...)
	problems = append(problems, c.combinations(problems)...)
	if c.OutputName == "" {
		c.OutputName = "audit_s3." + c.Cluster
	}
	if len(problems) > 0 {
		return c, problems
	}
	return c, nil
}

// minSegments is how many segments a spool must have room for: one being
// written, one being shipped, and scratch for that one.
const minSegments = 4

// combinations checks what no key can say alone. What was found before is not said
// in other words again.
func (c *Config) combinations(found Problems) (problems Problems) {
	if c.StoreDirLimitSize > 0 && c.StoreDirLimitSize < minSegments*c.TotalFileSize {
		problems = append(problems, Problem{"store_dir_limit_size", fmt.Sprint(c.StoreDirLimitSize),
			fmt.Sprintf("must be at least %d times total_file_size, which is %d", minSegments, c.TotalFileSize)})
	}
	if c.ExternalID != "" && c.RoleARN == "" {
		problems = append(problems, Problem{"external_id", "", "has no meaning without role_arn"})
	}
	if c.SSEKMSKeyID != "" && c.SSE != "aws:kms" && c.SSE != "aws:kms:dsse" {
		problems = append(problems, Problem{"sse_kms_key_id", c.SSEKMSKeyID, "has no meaning without `sse aws:kms` or `sse aws:kms:dsse`"})
	}
	if c.ObjectLockMode != "" && c.ObjectLockRetention == 0 {
		problems = append(problems, Problem{"object_lock_mode", c.ObjectLockMode, "needs object_lock_retention, such as `365d`"})
	}
	if c.ObjectLockMode == "" && c.ObjectLockRetention != 0 {
		problems = append(problems, Problem{"object_lock_retention", c.ObjectLockRetention.String(), "needs object_lock_mode, `GOVERNANCE` or `COMPLIANCE`"})
	}
	if len(c.CertificateFiles) > 0 && c.MetricsListen == "" && !found.name("metrics_listen") {
		problems = append(problems, Problem{"certificate_files", strings.Join(c.CertificateFiles, ","), "needs metrics_listen, without which nothing tells when they end"})
	}
	for _, p := range []Problem{{Key: "redaction_file", Value: c.RedactionFile}, {Key: "redaction_hmac_key_file", Value: c.RedactionHMACKeyFile}} {
		if p.Value != "" && c.Redaction == "off" {
			p.Allowed = "has no meaning with `redaction off`"
			problems = append(problems, p)
		}
	}
	return problems
}

// Setting is a key and its effective value.
type Setting struct{ Key, Value string }

// Settings are the effective configuration, in the order of the README's table:
// "-" for what is left to others, "(set)" for secrets.
func (c Config) Settings() []Setting {
	settings := make([]Setting, len(keys))
	for i, k := range keys {
		value := k.show(&c)
		if value == "" {
			value = "-"
		} else if k.secret {
			value = "(set)"
		}
		settings[i] = Setting{k.name, value}
	}
	return settings
}

// String is the effective configuration on one line, without secrets.
func (c Config) String() string {
	var parts []string
	for _, s := range c.Settings() {
		parts = append(parts, s.Key+"="+s.Value)
	}
	return strings.Join(parts, " ")
}
