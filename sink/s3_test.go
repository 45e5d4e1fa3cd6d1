package sink

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"audit_s3/conf"
	"audit_s3/convert"
)

// awsEnvironment keeps the SDK from everything of this machine: environment,
// files, and the metadata service.
func awsEnvironment(t *testing.T) {
	t.Helper()
	none := filepath.Join(t.TempDir(), "none")
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "hunter2", "AWS_SESSION_TOKEN": "",
		"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none, "AWS_EC2_METADATA_DISABLED": "true",
		"AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_PROFILE": "", "AWS_ROLE_ARN": "", "AWS_WEB_IDENTITY_TOKEN_FILE": "",
		"AWS_ENDPOINT_URL": "", "AWS_ENDPOINT_URL_S3": "", "AWS_MAX_ATTEMPTS": "1",
	} {
		t.Setenv(name, value)
	}
}

// answer is an S3 server that answers everything alike and keeps what it got.
type answer struct {
	status int
	body   string

	requests []*http.Request
	bodies   [][]byte
}

func (a *answer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	a.requests, a.bodies = append(a.requests, r), append(a.bodies, body)
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

// storeAt returns a Store on a server that answers as a says.
func storeAt(t *testing.T, a *answer, c conf.Config) (store Store, url string) {
	t.Helper()
	awsEnvironment(t)
	server := httptest.NewServer(a)
	t.Cleanup(server.Close)
	c.Endpoint = server.URL
	store, err := NewS3(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	return store, server.URL
}

func object() convert.Object {
	return convert.Object{Key: "k8s-audit/cluster=prod-1/dt=2026-11-23/a-b.parquet", Rows: 3, ContentType: "application/vnd.apache.parquet",
		Metadata: map[string]string{"writer": "w1", "sequence": "7", "previous-segment-sha256": ""}}
}

func bodyFile(_ *testing.T, content string) *io.SectionReader {
	return io.NewSectionReader(strings.NewReader(content), 0, int64(len(content)))
}

func TestPutSaysAllThatS3MustCheck(t *testing.T) {
	a := &answer{status: http.StatusOK}
	store, _ := storeAt(t, a, conf.Config{})
	content := strings.Repeat("a Parquet file ", 10_000)
	if _, err := store.Put(context.Background(), "audit", object(), bodyFile(t, content)); err != nil {
		t.Fatal(err)
	}
	if len(a.requests) != 1 {
		t.Fatalf("%d requests, want 1: the writer needs no right but to put", len(a.requests))
	}
	r := a.requests[0]
	if r.Method != http.MethodPut || r.URL.Path != "/audit/"+object().Key {
		t.Errorf("%s %s, want a path-style PUT", r.Method, r.URL.Path)
	}
	if !bytes.Equal(a.bodies[0], []byte(content)) {
		t.Errorf("the body has %d bytes, want the file's %d as they are", len(a.bodies[0]), len(content))
	}
	sum := sha256.Sum256([]byte(content))
	for name, want := range map[string]string{
		"If-None-Match":                      "*",
		"X-Amz-Sdk-Checksum-Algorithm":       "SHA256",
		"X-Amz-Checksum-Sha256":              base64.StdEncoding.EncodeToString(sum[:]),
		"Content-Type":                       "application/vnd.apache.parquet",
		"X-Amz-Meta-Writer":                  "w1",
		"X-Amz-Meta-Sequence":                "7",
		"X-Amz-Meta-Previous-Segment-Sha256": "",
	} {
		if got := r.Header.Values(name); len(got) != 1 || got[0] != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	if r.ContentLength != int64(len(content)) {
		t.Errorf("Content-Length is %d, want %d", r.ContentLength, len(content))
	}
	signed := r.Header.Get("Authorization")
	for _, name := range []string{"if-none-match", "x-amz-checksum-sha256", "x-amz-meta-sequence"} {
		if !strings.Contains(signed, name) {
			t.Errorf("%s is not signed: %s", name, signed)
		}
	}
	if !strings.Contains(signed, "/us-east-1/s3/") {
		t.Errorf("with an endpoint and no region it is not us-east-1 that is signed for: %s", signed)
	}
}

// TestEndpointMeansPathStyle also where it has a name: the bucket belongs in the
// path, since nobody made BUCKET.localhost. (With an address the SDK does so anyway.)
func TestEndpointMeansPathStyle(t *testing.T) {
	a := &answer{status: http.StatusOK}
	_, url := storeAt(t, a, conf.Config{})
	store, err := NewS3(context.Background(), conf.Config{Endpoint: strings.Replace(url, "127.0.0.1", "localhost", 1)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.Put(context.Background(), "audit", object(), bodyFile(t, "x")); err != nil {
		t.Fatal(err)
	}
	if r := a.requests[0]; !strings.HasPrefix(r.Host, "localhost:") || r.URL.Path != "/audit/"+object().Key {
		t.Errorf("asked %s for %s", r.Host, r.URL.Path)
	}
}

func TestRegionOfTheConfigurationIsSignedFor(t *testing.T) {
	a := &answer{status: http.StatusOK}
	store, _ := storeAt(t, a, conf.Config{Region: "eu-central-1"})
	if _, err := store.Put(context.Background(), "audit", object(), bodyFile(t, "x")); err != nil {
		t.Fatal(err)
	}
	if signed := a.requests[0].Header.Get("Authorization"); !strings.Contains(signed, "/eu-central-1/s3/") {
		t.Errorf("signed for %s", signed)
	}
}

func TestAnswersOfS3(t *testing.T) {
	xml := func(code, message string) string {
		return `<?xml version="1.0" encoding="UTF-8"?><Error><Code>` + code + `</Code><Message>` + message + `</Message><RequestId>r</RequestId></Error>`
	}
	tests := []struct {
		name   string
		status int
		body   string
		want   string // "" for done
	}{
		{"created", 200, "", ""},
		{"already there", 412, xml("PreconditionFailed", "At least one of the pre-conditions you specified did not hold"), ""},
		{"already there, without a body", 412, "", ""},
		{"at the same time as another", 409, xml("ConditionalRequestConflict", "try again"), "S3 answered 409 ConditionalRequestConflict: try again"},
		{"no permission", 403, xml("AccessDenied", "Access Denied"), "S3 answered 403 AccessDenied: Access Denied"},
		{"no bucket", 404, xml("NoSuchBucket", "The specified bucket does not exist"), "S3 answered 404 NoSuchBucket: The specified bucket does not exist"},
		{"other region", 301, xml("PermanentRedirect", "use another endpoint"), "S3 answered 301 PermanentRedirect: use another endpoint"},
		{"broken", 500, xml("InternalError", "We encountered an internal error"), "S3 answered 500 InternalError: We encountered an internal error"},
		{"damaged on the way", 400, xml("BadDigest", "The SHA256 you specified did not match"), "S3 answered 400 BadDigest: The SHA256 you specified did not match"},
		{"too fast", 503, xml("SlowDown", "Please reduce your request rate."), "S3 answered 503 SlowDown: Please reduce your request rate."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			store, _ := storeAt(t, &answer{status: test.status, body: test.body}, conf.Config{})
			got := ""
			if _, err := store.Put(context.Background(), "audit", object(), bodyFile(t, "x")); err != nil {
				got = err.Error()
			}
			if got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

// TestAnswerThatIsNoneOfS3s, as a proxy gives it, still tells its status.
func TestAnswerThatIsNoneOfS3s(t *testing.T) {
	for status, body := range map[int]string{403: "", 500: "", 502: "<html><body>Bad Gateway</body></html>", 503: "not XML"} {
		store, _ := storeAt(t, &answer{status: status, body: body}, conf.Config{})
		_, err := store.Put(context.Background(), "audit", object(), bodyFile(t, "x"))
		if err == nil || !strings.Contains(err.Error(), strconv.Itoa(status)) {
			t.Errorf("%d %q: error %v, want one that tells the status", status, body, err)
		}
	}
}

func TestServerThatIsAway(t *testing.T) {
	awsEnvironment(t)
	server := httptest.NewServer(http.NotFoundHandler())
	server.Close()
	// Setting up asks for nothing: S3 being away is no reason not to start.
	store, err := NewS3(context.Background(), conf.Config{Endpoint: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	_, err = store.Put(context.Background(), "audit", object(), bodyFile(t, "x"))
	if err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("error %v, want one that says connection refused", err)
	}
	if err != nil && strings.Contains(err.Error(), "hunter2") {
		t.Errorf("the error shows the secret key: %v", err)
	}
}

func TestPutEndsWithItsContext(t *testing.T) {
	store, _ := storeAt(t, &answer{status: http.StatusOK}, conf.Config{})
	if _, err := store.Put(expired(), "audit", object(), bodyFile(t, "x")); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want context.Canceled", err)
	}
}

func TestMissingRegionIsAProblemThatNamesIt(t *testing.T) {
	awsEnvironment(t)
	_, err := NewS3(context.Background(), conf.Config{Bucket: "audit"})
	var problems conf.Problems
	if !errors.As(err, &problems) || len(problems) != 1 || problems[0].Key != "region" {
		t.Errorf("error %v, want one problem of region", err)
	}
	t.Setenv("AWS_REGION", "eu-central-1")
	if _, err := NewS3(context.Background(), conf.Config{Bucket: "audit"}); err != nil {
		t.Errorf("the SDK's own region is not taken: %v", err)
	}
}

func TestUnknownProfileIsAnErrorThatNamesIt(t *testing.T) {
	awsEnvironment(t)
	_, err := NewS3(context.Background(), conf.Config{Region: "eu-central-1", Profile: "nobody"})
	if err == nil || !strings.Contains(err.Error(), "nobody") {
		t.Errorf("error %v, want one that names the profile", err)
	}
}

// TestRoleIsAssumedWithItsExternalID, at the STS server that was named.
func TestRoleIsAssumedWithItsExternalID(t *testing.T) {
	sts := &answer{status: http.StatusOK, body: `<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>` +
		`<AccessKeyId>ASSUMED</AccessKeyId><SecretAccessKey>s</SecretAccessKey><SessionToken>session</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>` +
		`</Credentials></AssumeRoleResult></AssumeRoleResponse>`}
	server := httptest.NewServer(sts)
	t.Cleanup(server.Close)
	a := &answer{status: http.StatusOK}
	store, _ := storeAt(t, a, conf.Config{RoleARN: "arn:aws:iam::123456789012:role/w", ExternalID: "shared-word", STSEndpoint: server.URL})
	for range 2 {
		if _, err := store.Put(context.Background(), "audit", object(), bodyFile(t, "x")); err != nil {
			t.Fatal(err)
		}
	}
	if len(sts.bodies) != 1 {
		t.Fatalf("%d requests to STS, want 1 for two uploads", len(sts.bodies))
	}
	for _, part := range []string{"Action=AssumeRole", "ExternalId=shared-word", "RoleArn=arn%3Aaws%3Aiam%3A%3A123456789012%3Arole%2Fw", "RoleSessionName=audit_s3"} {
		if !strings.Contains(string(sts.bodies[0]), part) {
			t.Errorf("STS was asked %s, want %s in it", sts.bodies[0], part)
		}
	}
	if auth := a.requests[1].Header.Get("Authorization"); !strings.Contains(auth, "Credential=ASSUMED/") {
		t.Errorf("S3 was asked with %s", auth)
	}
}

func TestRefusedRoleIsToldWithoutSecrets(t *testing.T) {
	sts := httptest.NewServer(&answer{status: http.StatusForbidden, body: `<ErrorResponse><Error><Code>AccessDenied</Code><Message>not authorized to perform: sts:AssumeRole</Message></Error></ErrorResponse>`})
	t.Cleanup(sts.Close)
	store, _ := storeAt(t, &answer{status: http.StatusOK}, conf.Config{RoleARN: "arn:aws:iam::123456789012:role/w", ExternalID: "hunter2", STSEndpoint: sts.URL})
	_, err := store.Put(context.Background(), "audit", object(), bodyFile(t, "x"))
	if err == nil || err.Error() != "STS answered 403 AccessDenied: not authorized to perform: sts:AssumeRole" {
		t.Errorf("error %v, want STS's own answer and nothing else", err)
	}
}
