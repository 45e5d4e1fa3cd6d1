package convert

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"
)

// columnMeanings is what docs/table.md and the catalogs say of each column.
var columnMeanings = map[string]string{
	"auditid":                  "auditID. Clients may choose it: it does not identify an event",
	"stage":                    "RequestReceived, ResponseStarted, ResponseComplete or Panic",
	"level":                    "what is archived: the lowest of recorded, policy and redaction",
	"recordedlevel":            "the level that the API server recorded",
	"verb":                     "Kubernetes verb, or the HTTP method in lower case",
	"requestreceivedtimestamp": "when the request reached the API server, UTC",
	"stagetimestamp":           "when this stage was reached, UTC, decides dt",
	"receivedtimestamp":        "when this plugin took the event, UTC",
	"requesturi":               "path and query as sent, after redaction",
	"userinfo":                 "who logged in, username is empty if nobody did",
	"impersonateduser":         "whom they acted as, or NULL",
	"authenticationmetadata":   "constraints of the authentication (from 1.35 on), or NULL",
	"sourceips":                "client addresses, the last is the peer, the others are its own word",
	"useragent":                "User-Agent, the word of the client",
	"objectref":                "what the request was about, or NULL",
	"responsestatus":           "the answer, code is the HTTP status",
	"requestobject":            "JSON text of the request, after redaction, NULL below Request",
	"responseobject":           "JSON text of the response, after redaction, NULL below RequestResponse",
	"annotations":              "of the API server and its plugins",
	"decision":                 "allow or forbid, from annotations",
	"decisionreason":           "which role or rule decided, from annotations",
	"otherfields":              "JSON text of top-level fields that this version does not know",
	"source":                   "the tag in Fluent Bit: which way the event came in",
	"policyrule":               "index, from 0, of the policy rule that decided, NULL without a policy",
	"policydigest":             "first 16 hex digits of the SHA-256 of the policy in force, under _policy/",
	"redactions":               "values replaced in this event",
	"cluster":                  "partition: the Kubernetes cluster",
	"dt":                       "partition: UTC day of stagetimestamp, YYYY-MM-DD",
}

// dialect is how a catalog writes types.
type dialect struct {
	text, integer, timestamp string
	list, dictionary, record string // formats of LIST, MAP and struct
	field                    string // format of a struct's field
}

var (
	hive  = dialect{"string", "int", "timestamp", "array<%s>", "map<%s,%s>", "struct<%s>", "%s:%s"}
	trino = dialect{"varchar", "integer", "timestamp(3)", "array(%s)", "map(%s, %s)", "row(%s)", "%s %s"}
)

// typeOf is the type of a column in the dialect. An unknown shape fails the test:
// whoever adds such a column must say what it is to every engine.
func (d dialect) typeOf(t *testing.T, node parquet.Node) string {
	t.Helper()
	if logical := node.Type().LogicalType(); logical != nil {
		switch logical.Value.(type) {
		case *format.StringType:
			return d.text
		case *format.TimestampType:
			return d.timestamp
		case *format.ListType:
			return fmt.Sprintf(d.list, d.typeOf(t, node.Fields()[0].Fields()[0]))
		case *format.MapType:
			pair := node.Fields()[0].Fields()
			return fmt.Sprintf(d.dictionary, d.typeOf(t, pair[0]), d.typeOf(t, pair[1]))
		}
	}
	if !node.Leaf() {
		fields := make([]string, 0, len(node.Fields()))
		for _, f := range node.Fields() {
			fields = append(fields, fmt.Sprintf(d.field, f.Name(), d.typeOf(t, f)))
		}
		separator := ","
		if d == trino {
			separator = ", "
		}
		return fmt.Sprintf(d.record, strings.Join(fields, separator))
	}
	if node.Type().Kind() == parquet.Int32 {
		return d.integer
	}
	t.Fatalf("no type for %s", node)
	return ""
}

// eachColumn writes one entry per column of the table.
func eachColumn(t *testing.T, d dialect, entry func(name, kind, meaning string) string) string {
	t.Helper()
	var b strings.Builder
	for _, f := range schema().Fields() {
		meaning, ok := columnMeanings[f.Name()]
		if !ok {
			t.Fatalf("column %s has no meaning in columnMeanings", f.Name())
		}
		b.WriteString(entry(f.Name(), d.typeOf(t, f), meaning))
	}
	return b.String()
}

// TestGeneratedTable: the definitions of the table are those of the struct that
// writes the files. `make generate` rewrites them.
func TestGeneratedTable(t *testing.T) {
	ddl := func(name, kind, meaning string) string {
		if strings.ContainsAny(meaning, `';\`) { // every catalog quotes these in another way
			t.Errorf("the meaning of %s holds a quote, a semicolon or a backslash", name)
		}
		return fmt.Sprintf("  %s %s COMMENT '%s',\n", name, kind, meaning)
	}
	generated := []struct {
		file, begin, end string
		text             string
	}{
		{"athena/table.sql", "audit (\n", ")\nPARTITIONED BY",
			strings.TrimSuffix(eachColumn(t, hive, ddl), ",\n") + "\n"},
		{"trino/table.sql", "audit (\n", "  cluster varchar", eachColumn(t, trino, ddl)},
		{"athena/cloudformation.yaml", "# columns: generated by make generate\n", "# end of columns\n",
			eachColumn(t, hive, func(name, kind, meaning string) string {
				const indent = "            "
				return fmt.Sprintf("%s- Name: %s\n%s  Type: %q\n%s  Comment: %q\n", indent, name, indent, kind, indent, meaning)
			})},
		{"../docs/table.md", "<!-- columns:begin -->\n", "<!-- columns:end -->\n", tablePage(t)},
		{"../docs/table.md", "<!-- footer:begin -->\n", "<!-- footer:end -->\n", footerPage(t)},
		{"../docs/table.md", "<!-- rejects:begin -->\n", "<!-- rejects:end -->\n", rejectsPage(t)},
	}
	for _, g := range generated {
		path := filepath.Join("../conf", g.file)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		head, rest, ok := strings.Cut(string(data), g.begin)
		block, tail, ok2 := strings.Cut(rest, g.end)
		if !ok || !ok2 {
			t.Fatalf("%s lacks the lines %q and %q, between which the columns belong", path, g.begin, g.end)
		}
		// What stands before the end's mark on its line is indentation.
		want := g.text + block[strings.LastIndex(block, "\n")+1:]
		if block == want {
			continue
		}
		if !*update {
			t.Errorf("the columns in %s are not those of the code; write them with: make generate\ngot:\n%s\nwant:\n%s", path, block, want)
			continue
		}
		if err := os.WriteFile(path, []byte(head+g.begin+want+g.end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// tablePage is the table of columns in docs/table.md: with a struct's fields, and
// how each is stored.
func tablePage(t *testing.T) string {
	t.Helper()
	bloom := map[string]bool{}
	for _, c := range bloomColumns {
		bloom[strings.Join(c, ".")] = true
	}
	unbounded := map[string]bool{}
	for _, c := range bodyColumns {
		unbounded[strings.Join(c, ".")] = true
	}
	var b strings.Builder
	b.WriteString("| column | type | NULL | pruned by | meaning |\n|---|---|---|---|---|\n")
	var walk func(path string, node parquet.Node, meaning string)
	walk = func(path string, node parquet.Node, meaning string) {
		kind, prune := hive.typeOf(t, node), "bounds"
		switch {
		case bloom[path]:
			prune = "bounds, bloom filter"
		case unbounded[path], strings.Contains(kind, "<"):
			prune = ""
		}
		record := strings.HasPrefix(kind, "struct<")
		if record {
			kind = "struct"
		}
		null := ""
		if node.Optional() {
			null = "where absent"
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s |\n", path, kind, null, prune, meaning)
		if !record {
			return
		}
		for _, f := range node.Fields() {
			walk(path+"."+f.Name(), f, "")
		}
	}
	for _, f := range schema().Fields() {
		walk(f.Name(), f, columnMeanings[f.Name()])
	}
	for _, name := range []string{"cluster", "dt"} {
		fmt.Fprintf(&b, "| `%s` | `string` |  | partition | %s |\n", name, columnMeanings[name])
	}
	return b.String()
}

// footerMeanings says what the metadata of an object are.
var footerMeanings = map[string]string{
	"plugin-version":          "version of the program that wrote it",
	"schema-version":          "version of the table",
	"writer":                  "random name of a store_dir",
	"sequence":                "number of the segment, without gaps per writer",
	"segment":                 "random name of the segment, as in the object's name",
	"segment-sha256":          "SHA-256 of the sealed segment; its first 16 digits are in the object's name",
	"previous-segment-sha256": "the same of the writer's segment before it: a chain",
	"policy-sha256":           "SHA-256 of the policy in force, whose text is under _policy/; empty without one",
	"redaction":               "default, strict or off",
	"redaction-sha256":        "SHA-256 of the redaction rules in force",
	"segment-received":        "events that Fluent Bit handed over for the segment",
	"segment-archived":        "of those: in the table; over all objects of the segment",
	"segment-dropped":         "of those: left out by the policy",
	"segment-duplicate":       "of those: repeats of a record archived before",
	"segment-rejected":        "of those: no audit events, under _rejected/",
	"segment-clock-anomalies": "events filed under their day of receipt, since their own time is beyond belief",
	"rows":                    "rows in this object",
}

func footerPage(t *testing.T) string {
	t.Helper()
	segment := testSegment()
	metadata := segment.metadata(Counts{}, 0, 0)
	var b strings.Builder
	b.WriteString("| footer | object metadata | meaning |\n|---|---|---|\n")
	for _, key := range sortedKeys(metadata) {
		meaning, ok := footerMeanings[key]
		if !ok {
			t.Fatalf("%s has no meaning in footerMeanings", key)
		}
		fmt.Fprintf(&b, "| `audit_s3.%s` | `x-amz-meta-%s` | %s |\n", key, key, meaning)
	}
	return b.String()
}

// rejectMeanings says what the fields of a reject are.
var rejectMeanings = map[string]string{
	"receivedTimestamp":        "when the plugin took it",
	"source":                   "Fluent Bit's tag",
	"reason":                   "why it is no row: a fixed list, in convert/reject.go",
	"field":                    "the audit.k8s.io/v1 field that was at fault",
	"length":                   "its size in bytes as received",
	"auditID":                  "where well-formed",
	"stage":                    "where well-formed",
	"verb":                     "where well-formed",
	"requestReceivedTimestamp": "where well-formed",
	"stageTimestamp":           "where well-formed",
}

func rejectsPage(t *testing.T) string {
	t.Helper()
	names := []string{"receivedTimestamp", "source"}
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Reject]()) {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		names = append(names, name)
	}
	var b strings.Builder
	b.WriteString("| field | meaning |\n|---|---|\n")
	for _, name := range names {
		meaning, ok := rejectMeanings[name]
		if !ok {
			t.Fatalf("%s has no meaning in rejectMeanings", name)
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, meaning)
	}
	return b.String()
}
