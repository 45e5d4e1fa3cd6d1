package sink

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Reason tells errors of uploading apart by what somebody can do about them. The
// values are stable: they stand in the log and are label values of metrics.
type Reason string

// The reasons.
const (
	Unreachable  Reason = "unreachable"
	Timeout      Reason = "timeout"
	Credentials  Reason = "credentials"
	Denied       Reason = "denied"
	NoSuchBucket Reason = "no_such_bucket"
	WrongRegion  Reason = "wrong_region"
	KMS          Reason = "kms"
	ObjectLock   Reason = "object_lock"
	ClockSkew    Reason = "clock_skew"
	Throttled    Reason = "throttled"
	ServerError  Reason = "server_error"
	Conflict     Reason = "conflict"
	Checksum     Reason = "checksum"
	Refused      Reason = "refused"
	Unknown      Reason = "unknown"
)

// remedies are what to do. Nothing is ever dropped, so each is tried again in any
// case; some need no more than that.
var remedies = map[Reason]string{
	Unreachable:  "check `endpoint`, DNS, certificates, and that the network lets this host reach it (NetworkPolicy, proxy, VPC endpoint)",
	Timeout:      "S3 or the network is too slow; check the way to it if this goes on",
	Credentials:  "check the credentials that the AWS SDK finds here (environment, files, IRSA, Pod Identity, `profile`, `role_arn`); they are read anew before each attempt, no restart is needed",
	Denied:       "the identity that writes needs s3:PutObject on this bucket and prefix, also in the bucket's policy and the VPC endpoint's; with Object Lock keys s3:PutObjectRetention",
	NoSuchBucket: "create the bucket, or correct `bucket`; what is in the spool goes to the bucket that it was recorded for",
	WrongRegion:  "set `region` to the bucket's",
	KMS:          "the identity that writes needs kms:GenerateDataKey on the key, which must exist in the bucket's region and be enabled; check `sse_kms_key_id` or the bucket's default encryption",
	ObjectLock:   "the bucket must have Object Lock; create it so, or remove `object_lock_mode` and `object_lock_retention`",
	ClockSkew:    "set the clock of this host",
	Throttled:    "S3 asks to slow down, which is done",
	ServerError:  "S3 is at fault",
	Conflict:     "another upload of the same object is under way",
	Checksum:     "the object was damaged on its way; if this goes on, check the memory of this host and proxies in between",
	Refused:      "S3 refuses this request; see its answer",
	Unknown:      "see the error",
}

// Reasons are all of them.
func Reasons() []Reason { return slices.Sorted(maps.Keys(remedies)) }

// own tells whether an error concerns one object alone, so that others need not
// wait for it.
func (r Reason) own() bool { return r == Checksum || r == Conflict || r == Refused }

// selective tells whether others may be taken all the same: rights end at a
// prefix, and what is refused may be so for what it is.
func (r Reason) selective() bool { return r.own() || r == Denied || r == Unknown }

// manyOwn is how many errors of single objects, without a success in between, are
// taken for one that concerns all.
const manyOwn = 8

// UploadError is an error of the store.
type UploadError struct {
	Reason Reason
	Err    error
}

func (e *UploadError) Error() string { return e.Err.Error() }
func (e *UploadError) Unwrap() error { return e.Err }

// outage is a bucket that takes no objects: since when, and when it is tried
// again. One upload at a time tries; the first that succeeds ends it.
type outage struct {
	backoff
	began    time.Time
	attempts int
	said     bool // at level error
	// tried are those that failed for a reason that need not be the others': what
	// was not tried yet goes first.
	tried map[string]bool
}

func (o *outage) String() string {
	return fmt.Sprintf("%d failed attempts in %s", o.attempts, time.Since(o.began).Round(time.Second))
}

// complainInterval is how often the same trouble is said again.
const complainInterval = time.Minute

// complaints tell when what was last said.
type complaints map[string]time.Time

// due tells whether something is to be said, and notes that it was.
func (c complaints) due(what ...any) bool {
	key := fmt.Sprint(what...)
	if last, said := c[key]; said && time.Since(last) < complainInterval {
		return false
	}
	c[key] = time.Now()
	return true
}
