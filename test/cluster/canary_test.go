package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"audit_s3/test/canary"
	"audit_s3/test/rig"
)

// TestNoSecretOfALiveCluster: secrets in requests to a real API server are nowhere
// in what the receiver leaves behind.
func TestNoSecretOfALiveCluster(t *testing.T) {
	for _, mode := range []string{"default", "strict"} {
		t.Run(mode, func(t *testing.T) {
			l, ctx := newLive(t, options{version: "v1.37", serverPolicy: everythingPolicy,
				receiver: []string{"AUDIT_S3_POLICY_FILE=none", "AUDIT_S3_REDACTION=" + mode, "AUDIT_S3_SHUTDOWN_TIMEOUT=60s", "AUDIT_S3_PLUGIN_LOG_LEVEL=debug"}})
			l.driver.everything(ctx)
			if l.driver.err != nil {
				t.Fatal(l.driver.err)
			}
			waitSent(ctx, t, l)
			places := []canary.Place{{Kind: "metrics", Content: l.metrics(ctx, t)}}
			if err := l.stop(ctx); err != nil {
				t.Fatal(err)
			}
			places = append(places, l.left(ctx, t)...)
			kinds, size := map[string]int{}, 0
			for _, p := range places {
				kinds[p.Kind]++
				size += len(p.Content)
			}
			t.Logf("searched %v, %d bytes, for %d canaries in %d encodings", kinds, size, len(l.driver.canaries), canary.Needles())
			for _, hit := range canary.Search(places) {
				t.Errorf("%s: %s", l.driver.canaries[hit.Canary], hit)
			}
			// The log backend has them all: the search can find them.
			log, err := os.ReadFile(l.plane.AuditLog)
			if err != nil {
				t.Fatal(err)
			}
			found := map[string]bool{}
			for _, hit := range canary.Search([]canary.Place{{Kind: "audit.log", Content: log}}) {
				found[hit.Canary] = true
			}
			for name, place := range l.driver.canaries {
				if !found[name] && place != "a bearer token that is refused" { // which the API server does not record
					t.Errorf("%s (%s) is not in audit.log either: nothing was shown", place, name)
				}
			}
		})
	}
}

// left is what the receiver leaves: its log, objects with names and metadata, rows
// as text, and what is on its volumes.
func (l *live) left(ctx context.Context, t *testing.T) []canary.Place {
	t.Helper()
	places := []canary.Place{{Kind: "log", Content: []byte(l.receiver.Log())}}
	for _, root := range []string{l.receiver.Spool(), l.receiver.Chunks()} {
		files, err := rig.Files(root)
		if err != nil {
			t.Fatal(err)
		}
		for name := range files {
			content, err := os.ReadFile(filepath.Join(root, name))
			if err != nil {
				t.Fatal(err)
			}
			place, err := canary.Spooled(filepath.Base(root), name, content)
			if err != nil {
				t.Fatal(err)
			}
			places = append(places, place)
		}
	}
	objects, err := l.s3.Objects(bucket)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range objects {
		content, err := os.ReadFile(o.Path)
		if err != nil {
			t.Fatal(err)
		}
		name := bucket
		head, err := l.s3.Client().HeadObject(ctx, &awss3.HeadObjectInput{Bucket: &name, Key: &o.Key})
		if err != nil {
			t.Fatal(err)
		}
		places = append(places, canary.Place{Kind: "object", Name: o.Key, Content: content},
			canary.Place{Kind: "metadata", Name: o.Key, Content: fmt.Append(nil, head.Metadata)})
		if strings.HasSuffix(o.Key, ".parquet") {
			_, rows, err := rig.Query(ctx, o.Path, "SELECT to_json(audit)::VARCHAR FROM audit")
			if err != nil {
				t.Fatal(err)
			}
			var text bytes.Buffer
			for _, row := range rows {
				fmt.Fprintln(&text, row...)
			}
			places = append(places, canary.Place{Kind: "rows", Name: o.Key, Content: text.Bytes()})
		}
	}
	return places
}

func (l *live) metrics(ctx context.Context, t *testing.T) []byte {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.receiver.Metrics+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatal(response.Status, err)
	}
	return body
}
