package trino

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"audit_s3/test/rig"
)

// needTrino skips what takes a Java and, the first time, a long download.
func needTrino(t *testing.T) context.Context {
	t.Helper()
	if os.Getenv("TRINO") != "1" {
		t.Skip("TRINO=1 is not set: this needs a JDK and downloads Trino once")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func startS3(ctx context.Context, t *testing.T) *rig.S3 {
	t.Helper()
	s, err := rig.NewS3(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	if err := s.CreateBucket(ctx, bucket); err != nil {
		t.Fatal(err)
	}
	return s
}

func options(t *testing.T, s *rig.S3) Options {
	return Options{Dir: t.TempDir(), S3Endpoint: s.Endpoint, Region: rig.Region,
		AccessKey: rig.AccessKey, SecretKey: rig.SecretKey, Logf: t.Logf}
}

// The template is not needed by 476. 435 looks into s3://audit/k8s-audit//cluster=…
// without it, and finds nothing, because external_location ends in a slash.
const table = `CREATE TABLE audit (` + eventColumns + `,
	cluster varchar WITH (partition_projection_type = 'enum', partition_projection_values = ARRAY['prod', 'idle']),
	dt varchar WITH (
		partition_projection_type = 'date',
		partition_projection_format = 'yyyy-MM-dd',
		partition_projection_range = ARRAY['2026-10-01', 'NOW+1DAY'])
) WITH (
	external_location = 's3://` + bucket + `/k8s-audit/',
	format = 'PARQUET',
	partitioned_by = ARRAY['cluster', 'dt'],
	partition_projection_enabled = true,
	partition_projection_location_template = 's3://` + bucket + `/k8s-audit/cluster=${cluster}/dt=${dt}/'
)`

// TestPartitionProjection reads objects that no metastore has heard of.
func TestPartitionProjection(t *testing.T) {
	ctx := needTrino(t)
	s3 := startS3(ctx, t)
	const rows = 20_000 // above 3 MB, below which Trino reads a file whole
	put(t, s3, "k8s-audit/cluster=prod/dt=2026-11-02/x.parquet", day("2026-11-02", rows, "pods"))
	put(t, s3, "k8s-audit/cluster=prod/dt=2026-11-03/x.parquet",
		day("2026-11-03", rows, "pods"), day("2026-11-03", rows, "secrets"))
	put(t, s3, "k8s-audit/cluster=prod/dt=2026-09-30/x.parquet", day("2026-09-30", 10, "pods")) // before the range
	put(t, s3, "k8s-audit/cluster=other/dt=2026-11-02/x.parquet", day("2026-11-02", 10, "pods"))

	begin := time.Now()
	s, err := Start(ctx, options(t, s3))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	t.Logf("Trino %s was ready after %s", s.Version, time.Since(begin).Round(100*time.Millisecond))
	if err := s.Exec(ctx, table); err != nil {
		t.Fatal(err)
	}
	t.Run("values", func(t *testing.T) { checkValues(t, s) })
	t.Run("pruning", func(t *testing.T) { checkPruning(t, s, rows) })
	t.Run("errors", func(t *testing.T) { checkErrors(t, s) })
}

func query(t *testing.T, s *Server, format string, args ...any) *Result {
	t.Helper()
	r, err := s.Query(context.Background(), fmt.Sprintf(format, args...))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// checkValues holds what arrives as Go values against what was written.
func checkValues(t *testing.T, s *Server) {
	r := query(t, s, `SELECT auditid, stagetimestamp, userinfo.groups, userinfo, objectref, requestobject IS NULL, annotations, policyrule, cluster, dt
		FROM audit WHERE dt = '2026-11-02' AND auditid IN ('2026-11-02-000000', '2026-11-02-000001') ORDER BY auditid`)
	groups := []any{"dev", "system:authenticated"}
	notes := map[string]any{"authorization.k8s.io/decision": "allow"}
	want := [][]any{
		{"2026-11-02-000000", "2026-11-02 00:00:00.123", groups, []any{"alice", groups}, nil, true, notes, nil, "prod", "2026-11-02"},
		{"2026-11-02-000001", "2026-11-02 00:00:01.123", groups, []any{"alice", groups}, []any{"pods", "n1"}, false, notes, int64(1), "prod", "2026-11-02"},
	}
	if !reflect.DeepEqual(r.Rows, want) {
		t.Errorf("got  %v\nwant %v", r.Rows, want)
	}
	if r.Types[1] != "timestamp(3)" || r.Types[7] != "integer" || r.Columns[9] != "dt" {
		t.Errorf("columns %v of types %v", r.Columns, r.Types)
	}
	r = query(t, s, `SELECT 9007199254740993, DOUBLE '3', DECIMAL '1.50', current_timezone(), ARRAY[ROW(9007199254740993, NULL)]`)
	want = [][]any{{int64(9007199254740993), 3.0, "1.50", "UTC", []any{[]any{int64(9007199254740993), nil}}}}
	if !reflect.DeepEqual(r.Rows, want) {
		t.Errorf("got  %#v\nwant %#v", r.Rows, want)
	}
}

// checkPruning compares what was read from S3.
func checkPruning(t *testing.T, s *Server, rows int64) {
	read := func(where string, count int64) int64 {
		t.Helper()
		r := query(t, s, "SELECT count(*), sum(length(requestobject)) FROM audit WHERE cluster = 'prod' AND %s", where)
		t.Logf("%-75s %8d bytes %6d rows in %s", where, r.PhysicalInputBytes, r.PhysicalInputRows, r.Elapsed.Round(time.Millisecond))
		if r.Rows[0][0] != count {
			t.Errorf("%s: %v rows where %d are", where, r.Rows[0][0], count)
		}
		return r.PhysicalInputBytes
	}
	all := read("true", 3*rows)
	first := read("dt = '2026-11-02'", rows)
	second := read("dt = '2026-11-03'", 2*rows)
	if first == 0 || first+second != all || read("dt = '2026-11-04'", 0) != 0 {
		t.Errorf("%d and %d bytes for days of a table of %d", first, second, all)
	}
	if since := read("dt >= date_format(TIMESTAMP '2026-11-03 12:00:00', '%Y-%m-%d')", 2*rows); since != second {
		t.Errorf("%d bytes for a day that was computed, %d for one that was written", since, second)
	}
	if group := read("dt = '2026-11-03' AND objectref.resource = 'secrets'", rows-1); group > second*6/10 {
		t.Errorf("%d bytes for one of two row groups, %d for both: a struct's field does not prune", group, second)
	}
	if none := read("objectref.resource = 'rooms'", 0); none != 0 {
		t.Errorf("%d bytes for a resource that no row group can hold", none)
	}
	if before := read("stagetimestamp < TIMESTAMP '2026-11-03 00:00:00'", rows); before > first*11/10 {
		t.Errorf("%d bytes before a time, %d in the file that is before it", before, first)
	}
}

func checkErrors(t *testing.T, s *Server) {
	var refused *Error
	err := s.Exec(context.Background(), "SELECT nosuch FROM audit")
	if !errors.As(err, &refused) || refused.Name != "COLUMN_NOT_FOUND" || refused.Type != "USER_ERROR" {
		t.Errorf("an unknown column: %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	const endless = "SELECT count(*) FROM UNNEST(sequence(1, 10000)) a (x), UNNEST(sequence(1, 10000)) b (y), UNNEST(sequence(1, 10000)) c (z)"
	if err := s.Exec(ctx, endless); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a query that lasts too long: %v", err)
	}
	r := query(t, s, "SELECT count(*) FROM system.runtime.queries WHERE state = 'RUNNING' AND query = '%s'", endless)
	if r.Rows[0][0] != int64(0) {
		t.Error("a query that nobody waits for still runs")
	}
}

// TestStartAndStop shows that nothing is left behind, and that what a wrong
// configuration makes Trino say reaches the caller.
func TestStartAndStop(t *testing.T) {
	ctx := needTrino(t)
	s3 := startS3(ctx, t)
	s, err := Start(ctx, options(t, s3))
	if err != nil {
		t.Fatal(err)
	}
	s.Stop()
	s.Stop()
	if conn, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://")); err == nil {
		conn.Close()
		t.Error("it still listens")
	}
	if err := s.Exec(ctx, "SELECT 1"); err == nil || !strings.Contains(err.Error(), "the server ended: signal: killed") {
		t.Errorf("a query to a stopped server: %v", err)
	}
	o := options(t, s3)
	o.Catalog = []string{"hive.nosuch=1"}
	if _, err := Start(ctx, o); err == nil || !strings.Contains(err.Error(), "'hive.nosuch' was not used") {
		t.Errorf("an unknown property: %v", err)
	}
}
