package conf

import (
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// key is one configuration key. Everything that is known of it stands in one
// place: parsing, the default, the README's table and the log line at start.
type key struct {
	name     string
	fallback string // the default, as a user would write it; "" for none
	standard string // how the table shows the default, where fallback does not say it
	meaning  string
	allowed  string
	required bool
	secret   bool
	set      func(c *Config, value string) bool // false: not allowed
	show     func(c *Config) string
}

var (
	clusterPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$`)
	bucketPattern  = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	prefixPattern  = regexp.MustCompile(`^[A-Za-z0-9!_.*'()-]+(/[A-Za-z0-9!_.*'()-]+)*$`)
	namePattern    = regexp.MustCompile(`^[A-Za-z0-9_.:/-]{1,128}$`)
	urlPattern     = regexp.MustCompile(`^https?://[^/@\s]+/?$`)
	kmsKeyPattern  = regexp.MustCompile(`^[A-Za-z0-9:/_-]{1,512}$`)
	rolePattern    = regexp.MustCompile(`^arn:[a-z0-9-]+:iam::\d{12}:role/\S+$`)
)

// keys in the order in which the README explains them.
var keys = []key{
	{name: "bucket", required: true, meaning: "S3 bucket",
		allowed: "the name of an S3 bucket: 3 to 63 of a-z, 0-9, `.` and `-`",
		set:     matching(bucketPattern, func(c *Config) *string { return &c.Bucket }),
		show:    func(c *Config) string { return c.Bucket }},
	{name: "cluster", required: true, meaning: "name of the Kubernetes cluster; the table's first partition",
		allowed: "1 to 100 of A-Z, a-z, 0-9, `_`, `.` and `-`, a letter or digit first",
		set:     matching(clusterPattern, func(c *Config) *string { return &c.Cluster }),
		show:    func(c *Config) string { return c.Cluster }},
	{name: "policy_file", required: true, meaning: "an audit.k8s.io/v1 Policy that lowers what is archived; `none` keeps the recorded levels",
		allowed: "the path of an audit.k8s.io/v1 Policy, or `none` to keep the recorded levels",
		set: func(c *Config, v string) bool {
			if c.PolicyFile = v; v == "none" {
				c.PolicyFile = ""
			}
			return true
		},
		show: func(c *Config) string {
			if c.PolicyFile == "" {
				return "none"
			}
			return c.PolicyFile
		}},
	{name: "prefix", fallback: "k8s-audit", meaning: "key prefix of the table",
		allowed: "path parts of A-Z, a-z, 0-9 and `!_.*'()-`, with `/` between them and none at the ends",
		set:     matching(prefixPattern, func(c *Config) *string { return &c.Prefix }),
		show:    func(c *Config) string { return c.Prefix }},
	{name: "region", standard: "the AWS SDK's own", meaning: "AWS region of the bucket",
		allowed: "an AWS region such as `eu-central-1`",
		set:     matching(namePattern, func(c *Config) *string { return &c.Region }),
		show:    func(c *Config) string { return c.Region }},
	{name: "endpoint", standard: "AWS", meaning: "another S3 server; means path-style addressing",
		allowed: "a URL such as `https://minio.example.org:9000`, without a path or credentials",
		set:     matching(urlPattern, func(c *Config) *string { return &c.Endpoint }),
		show:    func(c *Config) string { return c.Endpoint }},
	{name: "profile", standard: "the AWS SDK's own", meaning: "profile in the AWS credentials file",
		allowed: "the name of a profile",
		set:     matching(namePattern, func(c *Config) *string { return &c.Profile }),
		show:    func(c *Config) string { return c.Profile }},
	{name: "role_arn", standard: "none", meaning: "IAM role to assume",
		allowed: "the ARN of an IAM role, `arn:aws:iam::123456789012:role/NAME`",
		set:     matching(rolePattern, func(c *Config) *string { return &c.RoleARN }),
		show:    func(c *Config) string { return c.RoleARN }},
	{name: "external_id", standard: "none", secret: true, meaning: "external id for assuming it",
		allowed: "the external id that the role's trust policy asks for",
		set:     text(func(c *Config) *string { return &c.ExternalID }),
		show:    func(c *Config) string { return c.ExternalID }},
	{name: "sts_endpoint", standard: "AWS", meaning: "another STS server",
		allowed: "a URL such as `https://sts.eu-central-1.amazonaws.com`",
		set:     matching(urlPattern, func(c *Config) *string { return &c.STSEndpoint }),
		show:    func(c *Config) string { return c.STSEndpoint }},
	{name: "redaction", fallback: "default", meaning: "`default`: secrets go, evidence stays; `strict`: whatever may hold a secret goes too; `off`: levels and their caps only",
		allowed: "`default`, `strict` or `off`",
		set:     oneOf(func(c *Config) *string { return &c.Redaction }, "default", "strict", "off"),
		show:    func(c *Config) string { return c.Redaction }},
	{name: "redaction_file", standard: "none", meaning: "more rules, in the format of [conf/redaction/default.yaml](conf/redaction/default.yaml)",
		allowed: "the path of a file of redaction rules",
		set:     text(func(c *Config) *string { return &c.RedactionFile }),
		show:    func(c *Config) string { return c.RedactionFile }},
	{name: "redaction_hmac_key_file", standard: "none", meaning: "a key of at least 32 bytes; markers then tell whether a value of one object has changed",
		allowed: "the path of a file with at least 32 random bytes",
		set:     text(func(c *Config) *string { return &c.RedactionHMACKeyFile }),
		show:    func(c *Config) string { return c.RedactionHMACKeyFile }},
	{name: "total_file_size", fallback: "256M", meaning: "bytes of events, before compression, that seal a segment",
		allowed: "a size from 1M to 2G",
		set:     size(1e6, 2e9, func(c *Config) *int64 { return &c.TotalFileSize }),
		show:    func(c *Config) string { return fmt.Sprint(c.TotalFileSize) }},
	{name: "upload_timeout", fallback: "5m", meaning: "age that seals a segment",
		allowed: "a duration from 1s to 24h",
		set:     duration(time.Second, 24*time.Hour, func(c *Config) *time.Duration { return &c.UploadTimeout }),
		show:    func(c *Config) string { return c.UploadTimeout.String() }},
	{name: "store_dir", required: true, meaning: "where the spool lives, in a folder `audit_s3` of its own; each [OUTPUT] section needs another, on a disk that survives a restart",
		allowed: "an absolute path",
		set: func(c *Config, v string) bool {
			if !filepath.IsAbs(v) {
				return false
			}
			c.StoreDir = v
			return true
		},
		show: func(c *Config) string { return c.StoreDir }},
	{name: "store_dir_limit_size", fallback: "8G", meaning: "limit of the spool: segments, quarantine, side files and scratch; above it flush answers RETRY, and Fluent Bit keeps the chunk",
		allowed: "a size from 4M to 10T",
		set:     size(4e6, 10e12, func(c *Config) *int64 { return &c.StoreDirLimitSize }),
		show:    func(c *Config) string { return fmt.Sprint(c.StoreDirLimitSize) }},
	{name: "shutdown_timeout", fallback: "60s", meaning: "how long exit may go on uploading; the rest stays for the next start. `0` only seals",
		allowed: "`0`, or a duration up to 24h",
		set:     duration(0, 24*time.Hour, func(c *Config) *time.Duration { return &c.ShutdownTimeout }),
		show:    func(c *Config) string { return c.ShutdownTimeout.String() }},
	{name: "dedup_window", fallback: "15m", meaning: "how long a record is remembered after its segment was sealed, so that its repetition is not stored again; time in which the plugin is down does not count. `0` turns it off",
		allowed: "`0`, or a duration up to 7d",
		set:     duration(0, 7*24*time.Hour, func(c *Config) *time.Duration { return &c.DedupWindow }),
		show:    func(c *Config) string { return c.DedupWindow.String() }},
	{name: "sse", standard: "the bucket's own", meaning: "server-side encryption of every object: `AES256`, `aws:kms` or `aws:kms:dsse`",
		allowed: "`AES256`, `aws:kms` or `aws:kms:dsse`",
		set:     oneOf(func(c *Config) *string { return &c.SSE }, "AES256", "aws:kms", "aws:kms:dsse"),
		show:    func(c *Config) string { return c.SSE }},
	{name: "sse_kms_key_id", standard: "the bucket's own", meaning: "the KMS key of `aws:kms` and `aws:kms:dsse`: an ARN, an id, or `alias/NAME`",
		allowed: "the ARN, the id or the `alias/NAME` of a KMS key",
		set:     matching(kmsKeyPattern, func(c *Config) *string { return &c.SSEKMSKeyID }),
		show:    func(c *Config) string { return c.SSEKMSKeyID }},
	{name: "storage_class", standard: "`STANDARD`", meaning: "storage class of every object, of those that Athena reads: `STANDARD`, `STANDARD_IA`, `ONEZONE_IA`, `INTELLIGENT_TIERING`, `GLACIER_IR`",
		allowed: "`STANDARD`, `STANDARD_IA`, `ONEZONE_IA`, `INTELLIGENT_TIERING` or `GLACIER_IR`; Athena silently skips objects in `GLACIER` and `DEEP_ARCHIVE`",
		set:     oneOf(func(c *Config) *string { return &c.StorageClass }, "STANDARD", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"),
		show:    func(c *Config) string { return c.StorageClass }},
	{name: "object_lock_mode", standard: "the bucket's own", meaning: "Object Lock of every object: `GOVERNANCE`, which some may lift, or `COMPLIANCE`, which nobody can; needs `object_lock_retention`, and a bucket with Object Lock",
		allowed: "`GOVERNANCE` or `COMPLIANCE`",
		set:     oneOf(func(c *Config) *string { return &c.ObjectLockMode }, "GOVERNANCE", "COMPLIANCE"),
		show:    func(c *Config) string { return c.ObjectLockMode }},
	{name: "object_lock_retention", standard: "the bucket's own", meaning: "how long from its upload on an object cannot be deleted, such as `365d`",
		allowed: "a duration from 1d to 36500d",
		set:     duration(24*time.Hour, 36500*24*time.Hour, func(c *Config) *time.Duration { return &c.ObjectLockRetention }),
		show: func(c *Config) string {
			if c.ObjectLockRetention == 0 {
				return ""
			}
			return c.ObjectLockRetention.String()
		}},
	{name: "metrics_listen", standard: "none", meaning: "where `/metrics` (Prometheus), `/livez` and `/readyz` are served, as `HOST:PORT`, without TLS; each [OUTPUT] section needs another. See [docs/metrics.md](docs/metrics.md)",
		allowed: "`HOST:PORT`, such as `0.0.0.0:2021`, `[::]:2021` or `:2021`, with a port from 1 to 65535",
		set: func(c *Config, v string) bool {
			if !isListenAddress(v) {
				return false
			}
			c.MetricsListen = v
			return true
		},
		show: func(c *Config) string { return c.MetricsListen }},
	{name: "certificate_files", standard: "none", meaning: "PEM files whose certificates `/metrics` tells the end of, such as those of the input that Fluent Bit takes events by; paths with commas between them",
		allowed: "absolute paths with commas between them, each once",
		set: func(c *Config, v string) bool {
			files, ok := parsePaths(v)
			if ok {
				c.CertificateFiles = files
			}
			return ok
		},
		show: func(c *Config) string { return strings.Join(c.CertificateFiles, ",") }},
	{name: "output_name", standard: "audit_s3.{cluster}", meaning: "how this section is called in logs and metrics (Fluent Bit's alias is invisible to plugins)",
		allowed: "1 to 128 of A-Z, a-z, 0-9 and `_.:/-`",
		set:     matching(namePattern, func(c *Config) *string { return &c.OutputName }),
		show:    func(c *Config) string { return c.OutputName }},
	{name: "plugin_log_level", fallback: "info", meaning: "`error`, `warn`, `info` or `debug` (`log_level` belongs to Fluent Bit's core and never reaches a plugin)",
		allowed: "`error`, `warn`, `info` or `debug`",
		set:     oneOf(func(c *Config) *string { return &c.PluginLogLevel }, "error", "warn", "info", "debug"),
		show:    func(c *Config) string { return c.PluginLogLevel }},
}

// matching, oneOf, text, size and duration each make a key's set. The keys above repeat
// the pattern in words, since a regular expression tells an operator little.

func matching(pattern *regexp.Regexp, field func(*Config) *string) func(*Config, string) bool {
	return func(c *Config, v string) bool {
		if !pattern.MatchString(v) {
			return false
		}
		*field(c) = v
		return true
	}
}

func oneOf(field func(*Config) *string, values ...string) func(*Config, string) bool {
	return func(c *Config, v string) bool {
		if !slices.Contains(values, v) {
			return false
		}
		*field(c) = v
		return true
	}
}

func text(field func(*Config) *string) func(*Config, string) bool {
	return func(c *Config, v string) bool { *field(c) = v; return true }
}

func size(least, most int64, field func(*Config) *int64) func(*Config, string) bool {
	return func(c *Config, v string) bool {
		n, err := parseSize(v)
		if err != nil || n < least || n > most {
			return false
		}
		*field(c) = n
		return true
	}
}

func duration(least, most time.Duration, field func(*Config) *time.Duration) func(*Config, string) bool {
	return func(c *Config, v string) bool {
		d, err := parseDuration(v)
		if err != nil || d < least || d > most {
			return false
		}
		*field(c) = d
		return true
	}
}

// shownValue is a given value as an error may repeat it. An address with an @ or
// a query may hold credentials.
func (k key) shownValue(value string) string {
	if k.secret || strings.ContainsAny(value, "@?") {
		return ""
	}
	return value
}

// parseSize reads bytes with an optional unit. Units are decimal, as in out_s3.
func parseSize(s string) (int64, error) {
	digits := strings.TrimRight(s, "kKmMgGtTbB")
	unit := int64(1)
	switch strings.ToUpper(s[len(digits):]) {
	case "", "B":
	case "K", "KB":
		unit = 1e3
	case "M", "MB":
		unit = 1e6
	case "G", "GB":
		unit = 1e9
	case "T", "TB":
		unit = 1e12
	default:
		return 0, fmt.Errorf("unknown unit in %q", s)
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > 1e18/unit {
		return 0, fmt.Errorf("not a size: %q", s)
	}
	return n * unit, nil
}

// parseDuration reads a duration with a unit; d is 24 hours. A bare 0 is one too.
func parseDuration(s string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, err := strconv.Atoi(days)
		if err != nil || n < 0 || n > 100_000 {
			return 0, fmt.Errorf("not a duration: %q", s)
		}
		return time.Duration(n) * 24 * time.Hour, nil
	}
	return time.ParseDuration(s)
}
