package trino

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/parquet-go/parquet-go"

	"audit_s3/test/rig"
)

const bucket = "audit"

// event has one column of each kind that the table has. The whole table is
// convert's, and nothing here checks it.
type event struct {
	AuditID   string            `parquet:"auditid,plain"`
	Verb      string            `parquet:"verb,dict"`
	Time      int64             `parquet:"stagetimestamp,timestamp(microsecond:utc),delta"`
	User      user              `parquet:"userinfo"`
	ObjectRef *objectRef        `parquet:"objectref,optional"`
	Body      *string           `parquet:"requestobject,plain,optional"`
	Notes     map[string]string `parquet:"annotations" parquet-key:",dict" parquet-value:",dict"`
	Rule      *int32            `parquet:"policyrule,dict,optional"`
}

type user struct {
	Username string   `parquet:"username,dict"`
	Groups   []string `parquet:"groups,list" parquet-element:",dict"`
}

type objectRef struct {
	Resource string `parquet:"resource,dict"`
	Name     string `parquet:"name,plain"`
}

const eventColumns = `auditid varchar, verb varchar, stagetimestamp timestamp,
	userinfo row(username varchar, groups array(varchar)),
	objectref row(resource varchar, name varchar),
	requestobject varchar, annotations map(varchar, varchar), policyrule integer`

// day is the events of one day, all of one resource, with bodies that do not
// compress.
func day(date string, n int, resource string) []event {
	start, err := time.Parse(time.DateOnly, date)
	if err != nil {
		panic(err)
	}
	random := rand.New(rand.NewPCG(1, uint64(start.Unix())))
	events := make([]event, n)
	for i := range events {
		body := make([]byte, 200)
		for j := range body {
			body[j] = byte(' ' + random.IntN(95))
		}
		text, rule := string(body), int32(i%3)
		events[i] = event{
			AuditID: fmt.Sprintf("%s-%06d", date, i), Verb: "get",
			Time:      start.UnixMicro() + int64(i)*1_000_000 + 123_456,
			User:      user{"alice", []string{"dev", "system:authenticated"}},
			ObjectRef: &objectRef{resource, fmt.Sprintf("n%d", i)}, Body: &text,
			Notes: map[string]string{"authorization.k8s.io/decision": "allow"}, Rule: &rule,
		}
	}
	events[0].ObjectRef, events[0].Body, events[0].Rule = nil, nil, nil
	return events
}

// put writes a Parquet file of one row group per group.
func put(t *testing.T, s *rig.S3, key string, groups ...[]event) {
	t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[event](&b, parquet.Compression(&parquet.Zstd))
	for _, g := range groups {
		if _, err := w.Write(g); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := s.Client().PutObject(context.Background(), &s3.PutObjectInput{
		Bucket: aws.String(bucket), Key: aws.String(key), Body: bytes.NewReader(b.Bytes()),
	})
	if err != nil {
		t.Fatal(err)
	}
}
