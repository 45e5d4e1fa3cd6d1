package s3

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"audit_s3/sink"
	"audit_s3/test/rig"
)

// trouble is what happens between the plugin and S3, and what must come of it.
// In every case each event is stored once and the spool is empty afterwards.
type trouble struct {
	name string
	// fault is done to the n-th upload of a table's object. The writer's records
	// pass and are not counted, but where records is set: they go first, so that
	// what concerns all requests is often met by a record and by no object.
	fault   func(n int, r *http.Request) rig.Fault
	records bool
	// act is done beside it.
	act func(a *archive, front *rig.Front)
	// reason must be logged with what to do, and counted; "" if nothing is to be said.
	reason sink.Reason
	// neighbours is set where a segment behind the one in trouble is not held up.
	neighbours bool
	// requests is how many uploads there must be at least.
	requests int
	lasts    time.Duration // at least
}

// first does something to the first n uploads.
func first(n int, fault rig.Fault) func(int, *http.Request) rig.Fault {
	return func(i int, _ *http.Request) rig.Fault {
		if i <= n {
			return fault
		}
		return rig.Fault{}
	}
}

func answer(status int, code string) rig.Fault { return rig.Fault{Status: status, Code: code} }

// The AWS SDK itself repeats what looks temporary, twice: what is to be seen by
// the plugin must last longer.
var troubles = []trouble{
	{name: "none", requests: 1},
	{name: "connection refused for three seconds", reason: sink.Unreachable, requests: 1,
		act: func(a *archive, front *rig.Front) {
			front.Refuse()
			a.append(1) // the one before may be stored already
			a.eventually(time.Minute, "it is said", func() bool { return a.log.has("uploads fail", "reason=unreachable") })
			time.Sleep(2 * time.Second)
			if err := front.Listen(); err != nil {
				a.t.Error(err)
			}
		}},
	{name: "reset in the middle of the body, once", fault: first(1, rig.Fault{Reset: true}), requests: 2},
	{name: "reset in the middle of the body, again and again", fault: first(8, rig.Fault{Reset: true}), reason: sink.Unreachable, requests: 9},
	{name: "answer lost after the object was stored", fault: first(1, rig.Fault{LoseAnswer: true}), requests: 2},
	{name: "answers lost again and again", fault: first(8, rig.Fault{LoseAnswer: true}), reason: sink.Unreachable, requests: 9},
	{name: "500", fault: first(8, answer(500, "InternalError")), reason: sink.ServerError, requests: 9},
	{name: "502 of a proxy", fault: first(8, answer(502, "")), reason: sink.ServerError, requests: 9},
	{name: "503 SlowDown", fault: first(8, answer(503, "SlowDown")), reason: sink.Throttled, requests: 9},
	{name: "403", fault: first(3, answer(403, "AccessDenied")), reason: sink.Denied, requests: 4},
	{name: "401 without a body", fault: first(2, answer(401, "")), reason: sink.Denied, requests: 3},
	{name: "expired token, then a fresh one in the credentials file", reason: sink.Credentials, records: true, requests: 2,
		fault: func(_ int, r *http.Request) rig.Fault {
			if strings.Contains(r.Header.Get("Authorization"), "Credential=EXPIRED/") {
				return answer(400, "ExpiredToken")
			}
			return rig.Fault{}
		}, act: rotate},
	{name: "404 bucket", fault: first(2, answer(404, "NoSuchBucket")), reason: sink.NoSuchBucket, requests: 3},
	{name: "301 other region", fault: first(2, answer(301, "PermanentRedirect")), reason: sink.WrongRegion, requests: 3},
	{name: "400 region in the signature", fault: first(2, answer(400, "AuthorizationHeaderMalformed")), reason: sink.WrongRegion, requests: 3},
	{name: "KMS key disabled", fault: first(2, answer(400, "KMS.DisabledException")), reason: sink.KMS, requests: 3},
	{name: "clock skew", fault: first(3, answer(403, "RequestTimeTooSkewed")), reason: sink.ClockSkew, requests: 4},
	{name: "409 another upload at the same time", fault: first(2, answer(409, "ConditionalRequestConflict")), reason: sink.Conflict, neighbours: true, requests: 3},
	{name: "412 the object is there", fault: first(0, rig.Fault{}), act: again, requests: 2},
	{name: "damaged on its way", fault: first(2, rig.Fault{Corrupt: true}), reason: sink.Checksum, neighbours: true, requests: 3},
	{name: "400 of an unknown kind", fault: first(2, answer(400, "SomethingNew")), reason: sink.Refused, neighbours: true, requests: 3},
	{name: "response after 60 s", fault: first(1, rig.Fault{Delay: time.Minute}), neighbours: true, requests: 1, lasts: time.Minute},
	{name: "a trickle of one byte a second", fault: first(1, rig.Fault{Trickle: true}), neighbours: true, reason: sink.Timeout, requests: 2, lasts: time.Minute},
}

// rotate lets the credentials be refused for a while and then puts others into
// the file that the SDK has read.
func rotate(a *archive, _ *rig.Front) {
	a.eventually(time.Minute, "it is said", func() bool { return a.log.has("uploads fail", "reason=credentials") })
	writeCredentials(a.t, a.conf.Profile, rig.AccessKey, rig.SecretKey)
}

func writeCredentials(t *testing.T, profile, key, secret string) {
	text := fmt.Sprintf("[%s]\naws_access_key_id = %s\naws_secret_access_key = %s\n", profile, key, secret)
	if err := os.WriteFile(os.Getenv("AWS_SHARED_CREDENTIALS_FILE"), []byte(text), 0o600); err != nil {
		t.Error(err)
	}
}

// again ships the same segments twice, as after a crash before they were deleted.
func again(a *archive, front *rig.Front) {
	a.close(0)
	before := a.t.TempDir()
	if err := os.CopyFS(before, os.DirFS(a.dir)); err != nil {
		a.t.Fatal(err)
	}
	a.open()
	a.drained(time.Minute)
	a.close(time.Minute)
	a.dir = before
	a.open()
}

// TestTroubles runs them all at once, each with a bucket and a front of its own.
func TestTroubles(t *testing.T) {
	server := startS3(t)
	for i, trouble := range troubles {
		t.Run(trouble.name, func(t *testing.T) {
			t.Parallel()
			trouble.run(t, server, fmt.Sprintf("trouble-%d", i))
		})
	}
}

func startS3(t *testing.T) *rig.S3 {
	t.Helper()
	server, err := rig.NewS3(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := server.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}

func (x trouble) run(t *testing.T, server *rig.S3, bucket string) {
	if err := server.CreateBucket(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	uploads := 0
	front, err := rig.NewFront(strings.TrimPrefix(server.Endpoint, "http://"), func(_ int, r *http.Request) rig.Fault {
		if strings.Contains(r.URL.Path, "/_writer/") && !x.records {
			return rig.Fault{}
		}
		uploads++
		if x.fault == nil {
			return rig.Fault{}
		}
		return x.fault(uploads, r)
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(front.Close)
	a := newArchive(t, front.Endpoint, bucket)
	if strings.HasPrefix(x.name, "expired token") {
		a.conf.Profile = "rotated"
		writeCredentials(t, "rotated", "EXPIRED", "x")
	}
	a.open()
	began := time.Now()
	a.append(1)
	if x.neighbours {
		a.append(3)
		a.eventually(30*time.Second, "those behind are shipped", func() bool { return a.sink.Stats().Archived >= 3 })
		if x.lasts > 0 && a.sink.Stats().Archived != 3 {
			t.Error("the one in trouble is shipped already")
		}
	}
	if x.act != nil {
		x.act(a, front)
	}
	a.drained(3 * time.Minute)
	took := time.Since(began)
	failed := a.sink.Stats().UploadErrors
	a.close(time.Minute)

	a.onceEach(server.Glob(bucket, "k8s-audit"))
	if left := a.segments(); len(left) > 0 {
		t.Errorf("left in the spool: %v", left)
	}
	if scratch, _ := filepath.Glob(filepath.Join(a.dir, "audit_s3", "scratch", "*")); len(scratch) > 0 {
		t.Errorf("left in scratch: %v", scratch)
	}
	said := a.log.has("level=ERROR", "what_to_do=", "retry_in=")
	if x.reason == "" && (said || len(failed) > 0) {
		t.Errorf("nothing was to be said; counted %v\n%s", failed, a.log)
	}
	if x.reason != "" && (!said || failed[x.reason] == 0) {
		t.Errorf("counted %v, want %s, and said\n%s", failed, x.reason, a.log)
	}
	if uploads < x.requests || took < x.lasts {
		t.Errorf("%d uploads in %v, want at least %d in %v", uploads, took, x.requests, x.lasts)
	}
	t.Logf("%-55s %d uploads, %v, counted %v, each event stored once", x.name, uploads, took.Round(10*time.Millisecond), failed)
}
