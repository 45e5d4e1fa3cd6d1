package convert

import "github.com/parquet-go/parquet-go"

// SchemaVersion is the version of the table. Adding a column keeps it; renaming
// or retyping one makes a new version.
const SchemaVersion = 1

// row is the table, schema version 1. Column names are the JSON keys of
// audit.k8s.io/v1 in lower case; user is userinfo, because Athena reserves the
// word. A scalar string is never NULL, so that NOT LIKE and <> keep their rows.
//
// Encodings: dict where values repeat, plain where they do not. A column with a
// bloom filter must be plain: with a dictionary that falls back to plain,
// parquet-go's filter misses values.
//
// Files are not written by it, but leaf by leaf (leaves.go), which has to be in the
// order of its fields. Everything optional is a pointer: writing rows whose optional
// values are not, parquet-go v0.32.0 loses count of the NULLs in certain patterns of
// more than 64 rows (column_buffer_write.go, writeRowsFuncOfOptional).
type row struct {
	AuditID                  string             `parquet:"auditid,plain"`
	Stage                    string             `parquet:"stage,dict"`
	Level                    string             `parquet:"level,dict"`
	RecordedLevel            string             `parquet:"recordedlevel,dict"`
	Verb                     string             `parquet:"verb,dict"`
	RequestReceivedTimestamp int64              `parquet:"requestreceivedtimestamp,timestamp(microsecond:utc),delta"`
	StageTimestamp           int64              `parquet:"stagetimestamp,timestamp(microsecond:utc),delta"`
	ReceivedTimestamp        int64              `parquet:"receivedtimestamp,timestamp(microsecond:utc),delta"`
	RequestURI               string             `parquet:"requesturi,plain"`
	User                     rowUser            `parquet:"userinfo"`
	ImpersonatedUser         *rowUser           `parquet:"impersonateduser,optional"`
	AuthenticationMetadata   *rowAuthentication `parquet:"authenticationmetadata,optional"`
	SourceIPs                []string           `parquet:"sourceips,list" parquet-element:",dict"`
	UserAgent                string             `parquet:"useragent,dict"`
	ObjectRef                *rowObjectRef      `parquet:"objectref,optional"`
	ResponseStatus           *rowResponseStatus `parquet:"responsestatus,optional"`
	RequestObject            *string            `parquet:"requestobject,plain,optional"`
	ResponseObject           *string            `parquet:"responseobject,plain,optional"`
	Annotations              map[string]string  `parquet:"annotations" parquet-key:",dict" parquet-value:",dict"`
	Decision                 string             `parquet:"decision,dict"`
	DecisionReason           string             `parquet:"decisionreason,dict"`
	OtherFields              *string            `parquet:"otherfields,plain,optional"`
	Source                   string             `parquet:"source,dict"`
	PolicyRule               *int32             `parquet:"policyrule,dict,optional"`
	PolicyDigest             string             `parquet:"policydigest,dict"`
	Redactions               int32              `parquet:"redactions,dict"`
}

type rowUser struct {
	Username string              `parquet:"username,dict"`
	UID      string              `parquet:"uid,dict"`
	Groups   []string            `parquet:"groups,list" parquet-element:",dict"`
	Extra    map[string][]string `parquet:"extra" parquet-key:",dict" parquet-value:",list"`
}

type rowAuthentication struct {
	ImpersonationConstraint string `parquet:"impersonationconstraint,dict"`
}

type rowObjectRef struct {
	Resource        string `parquet:"resource,dict"`
	Namespace       string `parquet:"namespace,dict"`
	Name            string `parquet:"name,plain"`
	UID             string `parquet:"uid,plain"`
	APIGroup        string `parquet:"apigroup,dict"`
	APIVersion      string `parquet:"apiversion,dict"`
	ResourceVersion string `parquet:"resourceversion,plain"`
	Subresource     string `parquet:"subresource,dict"`
}

type rowResponseStatus struct {
	Code    *int32  `parquet:"code,dict,optional"`
	Status  string  `parquet:"status,dict"`
	Reason  string  `parquet:"reason,dict"`
	Message string  `parquet:"message,plain"`
	Details *string `parquet:"details,plain,optional"`
}

// bloomColumns are looked up by equality and hardly ever repeat.
var bloomColumns = [][]string{{"auditid"}, {"objectref", "name"}}

// bloomBitsPerValue makes about one false answer in a hundred.
const bloomBitsPerValue = 10

// bodyColumns hold whole documents: bounds of them would be as large as they are.
var bodyColumns = [][]string{
	{"requestobject"}, {"responseobject"}, {"otherfields"},
	{"responsestatus", "details"}, {"responsestatus", "message"},
}

// numBodies is how many leaves hold bodies proper: the request's and the response's.
const numBodies = 2

// The API server's own annotations that get columns, since no engine prunes by
// the keys of a map.
const (
	annotationDecision = "authorization.k8s.io/decision"
	annotationReason   = "authorization.k8s.io/reason"
)

// digestColumnLen is how many hex digits of a digest a column or a name shows.
const digestColumnLen = 16

func shortDigest(hex string) string {
	if len(hex) > digestColumnLen {
		return hex[:digestColumnLen]
	}
	return hex
}

// schema is the table as Parquet sees it.
func schema() *parquet.Schema { return parquet.NewSchema("audit", parquet.SchemaOf(row{})) }
