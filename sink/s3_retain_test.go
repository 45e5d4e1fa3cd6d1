package sink

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"audit_s3/conf"
)

// TestEveryObjectIsKeptAsTheConfigurationSays.
func TestEveryObjectIsKeptAsTheConfigurationSays(t *testing.T) {
	const kms, key, class, mode, until = "X-Amz-Server-Side-Encryption", "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id", "X-Amz-Storage-Class", "X-Amz-Object-Lock-Mode", "X-Amz-Object-Lock-Retain-Until-Date"
	for _, test := range []struct {
		conf conf.Config
		want map[string]string
	}{
		{conf.Config{}, map[string]string{}},
		{conf.Config{SSE: "AES256"}, map[string]string{kms: "AES256"}},
		{conf.Config{SSE: "aws:kms", SSEKMSKeyID: "alias/audit"}, map[string]string{kms: "aws:kms", key: "alias/audit"}},
		{conf.Config{SSE: "aws:kms:dsse", StorageClass: "STANDARD_IA"}, map[string]string{kms: "aws:kms:dsse", class: "STANDARD_IA"}},
		{conf.Config{ObjectLockMode: "COMPLIANCE", ObjectLockRetention: 365 * 24 * time.Hour}, map[string]string{mode: "COMPLIANCE"}},
	} {
		a := &answer{status: http.StatusOK}
		store, _ := storeAt(t, a, test.conf)
		if _, err := store.Put(context.Background(), "audit", object(), bodyFile(t, "x")); err != nil {
			t.Fatal(err)
		}
		header := a.requests[0].Header
		for _, name := range []string{kms, key, class, mode} {
			if got := header.Get(name); got != test.want[name] {
				t.Errorf("%+v: %s is %q, want %q", test.conf, name, got, test.want[name])
			}
		}
		date := header.Get(until)
		if (date != "") != (test.conf.ObjectLockMode != "") {
			t.Errorf("retained until %q", date)
		}
		if at, err := time.Parse(time.RFC3339, date); date != "" && (err != nil || time.Until(at)-test.conf.ObjectLockRetention > time.Minute || time.Until(at)-test.conf.ObjectLockRetention < -time.Minute) {
			t.Errorf("retained until %s, %v", date, err)
		}
	}
}

func xmlError(w http.ResponseWriter, status int, code, message string) {
	w.WriteHeader(status)
	fmt.Fprintf(w, `<Error><Code>%s</Code><Message>%s</Message></Error>`, code, message)
}

// serverAt returns a Store on a server that answers as f does.
func serverAt(t *testing.T, f http.HandlerFunc, c conf.Config) Store {
	t.Helper()
	server := httptest.NewServer(f)
	t.Cleanup(server.Close)
	c.Endpoint = server.URL
	store, err := NewS3(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	return store
}

// TestServerThatRefusesConditions gets puts without them, from the first refusal on.
func TestServerThatRefusesConditions(t *testing.T) {
	awsEnvironment(t)
	var conditional, plain int
	store := serverAt(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" {
			conditional++
			xmlError(w, http.StatusNotImplemented, "NotImplemented", "A header you provided implies functionality that is not implemented")
			return
		}
		plain++
	}, conf.Config{})
	for range 3 {
		stored, err := store.Put(context.Background(), "audit", object(), bodyFile(t, "x"))
		if err != nil || stored != Unconditional {
			t.Fatalf("%v, %v", stored, err)
		}
	}
	if conditional != 1 || plain != 3 {
		t.Errorf("%d puts with the condition, %d without", conditional, plain)
	}
}

// TestLockedObjectIsLookedFor where the server denies to overwrite it before it
// looks at the condition, as versitygw does.
func TestLockedObjectIsLookedFor(t *testing.T) {
	awsEnvironment(t)
	for _, test := range []struct {
		head int
		want error
	}{{http.StatusOK, nil}, {http.StatusForbidden, &UploadError{Reason: Denied}}, {http.StatusNotFound, &UploadError{Reason: Denied}}} {
		store := serverAt(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodHead {
				w.WriteHeader(test.head)
				return
			}
			xmlError(w, http.StatusForbidden, "AccessDenied", "Access Denied because object protected by object lock.")
		}, conf.Config{})
		stored, err := store.Put(context.Background(), "audit", object(), bodyFile(t, "x"))
		var upload *UploadError
		if test.want == nil && (err != nil || stored != Existed) || test.want != nil && (!errors.As(err, &upload) || upload.Reason != Denied) {
			t.Errorf("HEAD answers %d: %v, %v", test.head, stored, err)
		}
	}
}

// TestReasons of answers, most of which no server here gives.
func TestReasons(t *testing.T) {
	awsEnvironment(t)
	for _, test := range []struct {
		status        int
		code, message string
		want          Reason
	}{
		{403, "AccessDenied", "Access Denied", Denied},
		{403, "AccessDenied", "User: arn:aws:sts::1:assumed-role/w/x is not authorized to perform: kms:GenerateDataKey on resource: arn:aws:kms:r:1:key/k", KMS},
		{400, "KMS.NotFoundException", "Invalid arn", KMS},
		{400, "KMS.DisabledException", "k is disabled", KMS},
		{400, "ExpiredToken", "The provided token has expired.", Credentials},
		{403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.", Credentials},
		{403, "SignatureDoesNotMatch", "check your key", Credentials},
		{403, "RequestTimeTooSkewed", "The difference between the request time and the current time is too large.", ClockSkew},
		{404, "NoSuchBucket", "The specified bucket does not exist", NoSuchBucket},
		{301, "PermanentRedirect", "use the endpoint", WrongRegion},
		{400, "InvalidRequest", "Bucket is missing Object Lock Configuration", ObjectLock},
		{400, "InvalidRequest", "something else", Refused},
		{400, "BadDigest", "The SHA256 you specified did not match the calculated checksum.", Checksum},
		{409, "ConditionalRequestConflict", "try again", Conflict},
		{503, "SlowDown", "Please reduce your request rate.", Throttled},
		{429, "", "", Throttled},
		{500, "InternalError", "We encountered an internal error.", ServerError},
		{503, "ServiceUnavailable", "", ServerError},
		{400, "EntityTooLarge", "", Refused},
		{407, "", "", Refused},
	} {
		store := serverAt(t, func(w http.ResponseWriter, _ *http.Request) { xmlError(w, test.status, test.code, test.message) }, conf.Config{})
		_, err := store.Put(context.Background(), "audit", object(), bodyFile(t, "x"))
		var upload *UploadError
		if !errors.As(err, &upload) || upload.Reason != test.want {
			t.Errorf("%d %s %q: %v, want reason %s", test.status, test.code, test.message, err, test.want)
		}
		if remedies[test.want] == "" {
			t.Errorf("%s: nothing says what to do", test.want)
		}
	}
}

// TestCredentialsAreReadAnew when they are refused: from a file that was rewritten,
// or that was not there.
func TestCredentialsAreReadAnew(t *testing.T) {
	awsEnvironment(t)
	t.Setenv("AWS_ACCESS_KEY_ID", "")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "")
	file := filepath.Join(t.TempDir(), "credentials")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	valid := "first"
	store := serverAt(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.Header.Get("Authorization"), "Credential="+valid+"/") {
			xmlError(w, http.StatusBadRequest, "ExpiredToken", "The provided token has expired.")
		}
	}, conf.Config{})
	put := func(want Reason) {
		t.Helper()
		_, err := store.Put(context.Background(), "audit", object(), bodyFile(t, "x"))
		var upload *UploadError
		if want == "" && err != nil || want != "" && (!errors.As(err, &upload) || upload.Reason != want) {
			t.Fatalf("error %v, want %q", err, want)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the error shows a secret: %v", err)
		}
	}
	write := func(key string) {
		t.Helper()
		if err := os.WriteFile(file, []byte("[default]\naws_access_key_id = "+key+"\naws_secret_access_key = hunter2\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put(Credentials) // there are none
	write("first")
	put(Credentials) // read when they were refused, for the attempt after that
	put("")
	valid = "second"
	put(Credentials)
	write("second")
	put(Credentials)
	put("")
	if err := os.WriteFile(file, []byte("[default\nhalf of a fi"), 0o600); err != nil { // being rewritten
		t.Fatal(err)
	}
	put("") // nobody asked for it
	valid = "third"
	put(Credentials)
	write("third")
	put(Credentials)
	put("")
}

// TestPutThatTakesTooLongIsGivenUp.
func TestPutThatTakesTooLongIsGivenUp(t *testing.T) {
	awsEnvironment(t)
	release := make(chan struct{})
	store := serverAt(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}, conf.Config{})
	defer close(release)
	store.(*s3Store).putTime = 50 * time.Millisecond
	_, err := store.Put(context.Background(), "audit", object(), bodyFile(t, "x"))
	var upload *UploadError
	if !errors.As(err, &upload) || upload.Reason != Timeout {
		t.Errorf("error %v, want a timeout", err)
	}
}
