package conf_test

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// What the archive promises is said by what AWS is asked for, so the template is
// resolved as CloudFormation would, for several sets of parameters, and the
// resources that result are looked at. cfn-lint (athena/check/check.sh) holds the rest
// against the resources' schemas.

const (
	templateFile = "athena/cloudformation.yaml"
	account      = "111122223333"
	breakGlass   = "arn:aws:iam::111122223333:role/break-glass"
	admin        = "arn:aws:iam::111122223333:role/admin"
	root         = "arn:aws:iam::111122223333:root"
	archive      = "arn:aws:s3:::my-archive"
	table        = archive + "/k8s-audit/cluster=prod-1/dt=2026-11-01/a.parquet"
	kmsKey       = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd"
)

type object = map[string]any

// stack is a template with values for its parameters.
type stack struct {
	t         *testing.T
	doc       object
	given     map[string]string
	resources map[string]object // whose condition is met, resolved
}

func deploy(t *testing.T, given map[string]string) *stack {
	t.Helper()
	text, err := os.ReadFile(templateFile)
	if err != nil {
		t.Fatal(err)
	}
	s := &stack{t: t, resources: map[string]object{}, given: map[string]string{
		"ArchiveBucketName": "my-archive", "BreakGlassRoleArn": breakGlass, "ClusterNames": "prod-1,prod-2"}}
	if err := yaml.Unmarshal(text, &s.doc); err != nil {
		t.Fatal(err)
	}
	for name, value := range given {
		if _, ok := s.doc["Parameters"].(object)[name]; !ok {
			t.Fatalf("the template has no parameter %s", name)
		}
		s.given[name] = value
	}
	for name, r := range s.doc["Resources"].(object) {
		if condition, ok := r.(object)["Condition"]; !ok || s.condition(condition.(string)) {
			s.resources[name] = s.resolve(r).(object)
		}
	}
	return s
}

// get follows a path of keys and list positions through a resource.
func (s *stack) get(resource string, path ...string) any {
	s.t.Helper()
	r, ok := s.resources[resource]
	if !ok {
		s.t.Fatalf("there is no resource %s", resource)
	}
	return dig(s.t, resource, r, path)
}

func dig(t *testing.T, name string, node any, path []string) any {
	t.Helper()
	for i, key := range path {
		switch n := node.(type) {
		case object:
			node = n[key]
		case []any:
			if at, err := strconv.Atoi(key); err == nil && at < len(n) {
				node = n[at]
			} else {
				node = nil
			}
		default:
			node = nil
		}
		if node == nil {
			t.Fatalf("%s has no %s", name, strings.Join(path[:i+1], "."))
		}
	}
	return node
}

func (s *stack) want(resource, path string, want any) {
	s.t.Helper()
	if got := s.get(resource, strings.Split(path, "/")...); fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Errorf("%s: %s is %v, want %v", resource, path, got, want)
	}
}

func (s *stack) ofType(kind string) []string {
	var names []string
	for name, r := range s.resources {
		if r["Type"] == kind {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// ---- CloudFormation's functions -----------------------------------------------------

// noValue is AWS::NoValue: what has it is left out.
type noValue struct{}

func (s *stack) condition(name string) bool {
	return s.resolve(dig(s.t, "Conditions", s.doc["Conditions"], []string{name})).(bool)
}

func (s *stack) resolve(node any) any {
	switch n := node.(type) {
	case []any:
		list := []any{}
		for _, v := range n {
			if v = s.resolve(v); v != (noValue{}) {
				list = append(list, v)
			}
		}
		return list
	case object:
		if len(n) == 1 {
			for key, argument := range n {
				if key == "Ref" || strings.HasPrefix(key, "Fn::") {
					return s.call(key, argument)
				}
			}
		}
		m := object{}
		for key, v := range n {
			if v = s.resolve(v); v != (noValue{}) {
				m[key] = v
			}
		}
		return m
	}
	return node
}

func (s *stack) call(function string, argument any) any {
	list, _ := argument.([]any)
	switch function {
	case "Ref":
		return s.ref(argument.(string))
	case "Fn::GetAtt":
		return s.attribute(list[0].(string), list[1].(string))
	case "Fn::Sub":
		return s.sub(argument)
	case "Fn::If":
		if s.condition(list[0].(string)) {
			return s.resolve(list[1])
		}
		return s.resolve(list[2])
	case "Fn::Equals":
		return fmt.Sprint(s.resolve(list[0])) == fmt.Sprint(s.resolve(list[1]))
	case "Fn::Not":
		return !s.resolve(list[0]).(bool)
	case "Fn::And":
		return s.resolve(list[0]).(bool) && s.resolve(list[1]).(bool)
	case "Fn::FindInMap":
		return dig(s.t, "Mappings", s.doc["Mappings"], []string{list[0].(string), fmt.Sprint(s.resolve(list[1])), list[2].(string)})
	case "Fn::Join":
		var parts []string
		for _, v := range s.resolve(list[1]).([]any) {
			parts = append(parts, v.(string))
		}
		return strings.Join(parts, list[0].(string))
	case "Fn::Split":
		var parts []any
		for _, v := range strings.Split(s.resolve(list[1]).(string), list[0].(string)) {
			parts = append(parts, v)
		}
		return parts
	case "Fn::Select":
		return s.resolve(list[1]).([]any)[list[0].(int)]
	}
	s.t.Fatalf("this test does not know %s", function)
	return nil
}

func (s *stack) ref(name string) any {
	switch name {
	case "AWS::NoValue":
		return noValue{}
	case "AWS::AccountId":
		return account
	case "AWS::Partition":
		return "aws"
	case "AWS::Region":
		return "eu-central-1"
	}
	if p, ok := s.doc["Parameters"].(object)[name]; ok {
		value, given := s.given[name]
		if !given {
			value = fmt.Sprint(dig(s.t, name, p, []string{"Default"}))
		}
		if p.(object)["Type"] != "CommaDelimitedList" {
			return value
		}
		var list []any
		for _, v := range strings.Split(value, ",") {
			list = append(list, strings.TrimSpace(v))
		}
		return list
	}
	properties := dig(s.t, "Resources", s.doc["Resources"], []string{name, "Properties"}).(object)
	for _, key := range []string{"BucketName", "Name"} {
		if v, ok := properties[key]; ok {
			return s.resolve(v)
		}
	}
	return name
}

func (s *stack) attribute(resource, attribute string) string {
	if attribute != "Arn" {
		s.t.Fatalf("this test does not know %s of %s", attribute, resource)
	}
	switch kind := dig(s.t, "Resources", s.doc["Resources"], []string{resource, "Type"}); kind {
	case "AWS::S3::Bucket":
		return "arn:aws:s3:::" + s.ref(resource).(string)
	case "AWS::IAM::Role":
		return "arn:aws:iam::" + account + ":role/" + resource
	default:
		s.t.Fatalf("this test does not know the ARN of %s", kind)
		return ""
	}
}

var substitution = regexp.MustCompile(`\$\{(!?)([^}]+)\}`)

func (s *stack) sub(argument any) string {
	text, ok := argument.(string)
	var own object
	if !ok {
		text, own = argument.([]any)[0].(string), argument.([]any)[1].(object)
	}
	return substitution.ReplaceAllStringFunc(text, func(m string) string {
		parts := substitution.FindStringSubmatch(m)
		name := parts[2]
		if parts[1] == "!" {
			return "${" + name + "}"
		}
		if v, ok := own[name]; ok {
			return s.resolve(v).(string)
		}
		if resource, attribute, ok := strings.Cut(name, "."); ok {
			return s.attribute(resource, attribute)
		}
		return s.ref(name).(string)
	})
}

// ---- policies -----------------------------------------------------------------------

// request is one that a policy is asked about. A key that is not in keys is absent.
type request struct {
	principal, action, resource string
	keys                        map[string]string
}

// deniedBy is the Sid of the first statement of a bucket's policy that denies it.
func (s *stack) deniedBy(policy string, r request) string {
	s.t.Helper()
	for _, st := range s.statements(policy) {
		if st["Effect"] != "Deny" {
			continue
		}
		if st["Principal"] != "*" {
			s.t.Errorf("%s: %s denies to %v only", policy, st["Sid"], st["Principal"])
		}
		if matches(texts(st["Action"]), r.action) && matches(texts(st["Resource"]), r.resource) && s.holds(st["Condition"], r) {
			return st["Sid"].(string)
		}
	}
	return ""
}

func (s *stack) statements(policy string) []object {
	s.t.Helper()
	var statements []object
	for _, st := range s.get(policy, "Properties", "PolicyDocument", "Statement").([]any) {
		statements = append(statements, st.(object))
	}
	return statements
}

// holds knows the operators that the denials use.
func (s *stack) holds(conditions any, r request) bool {
	for operator, keys := range conditions.(object) {
		for key, want := range keys.(object) {
			value, present := r.keys[key]
			if key == "aws:PrincipalArn" {
				value, present = r.principal, true
			}
			var holds bool
			switch operator {
			case "Bool":
				holds = present && value == want
			case "Null":
				holds = present == (want == "false")
			case "ArnNotEquals":
				holds = value != want
			case "NumericLessThan":
				got, _ := strconv.Atoi(value)
				limit, _ := strconv.Atoi(fmt.Sprint(want))
				holds = present && got < limit
			default:
				s.t.Fatalf("this test does not know the operator %s", operator)
			}
			if !holds {
				return false
			}
		}
	}
	return true
}

func texts(v any) []string {
	if text, ok := v.(string); ok {
		return []string{text}
	}
	var list []string
	for _, e := range v.([]any) {
		list = append(list, e.(string))
	}
	return list
}

// matches knows patterns that end in *.
func matches(patterns []string, text string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		beginning, open := strings.CutSuffix(p, "*")
		return p == text || open && strings.HasPrefix(text, beginning)
	})
}

// ---- what is promised ---------------------------------------------------------------

func TestLock(t *testing.T) {
	s := deploy(t, nil)
	for _, bucket := range []string{"ArchiveBucket", "TrailBucket"} {
		s.want(bucket, "Properties/ObjectLockEnabled", true)
		s.want(bucket, "Properties/ObjectLockConfiguration/ObjectLockEnabled", "Enabled")
		s.want(bucket, "Properties/ObjectLockConfiguration/Rule/DefaultRetention/Mode", "GOVERNANCE")
		s.want(bucket, "Properties/ObjectLockConfiguration/Rule/DefaultRetention/Days", 365)
	}
	s = deploy(t, map[string]string{"RetentionMode": "COMPLIANCE", "RetentionDays": "2557"})
	s.want("ArchiveBucket", "Properties/ObjectLockConfiguration/Rule/DefaultRetention/Mode", "COMPLIANCE")
	s.want("ArchiveBucket", "Properties/ObjectLockConfiguration/Rule/DefaultRetention/Days", 2557)
}

func TestEveryBucket(t *testing.T) {
	plain, encrypted := deploy(t, nil), deploy(t, map[string]string{"KmsKeyArn": kmsKey})
	buckets := plain.ofType("AWS::S3::Bucket")
	if want := []string{"ArchiveBucket", "ResultsBucket", "TrailBucket"}; !slices.Equal(buckets, want) {
		t.Fatalf("buckets are %v, want %v", buckets, want)
	}
	for _, bucket := range buckets {
		for _, flag := range []string{"BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets"} {
			plain.want(bucket, "Properties/PublicAccessBlockConfiguration/"+flag, true)
		}
		plain.want(bucket, "Properties/OwnershipControls/Rules/0/ObjectOwnership", "BucketOwnerEnforced")
		plain.want(bucket, "Properties/VersioningConfiguration/Status", "Enabled")
		plain.want(bucket, "DeletionPolicy", "Retain")
		plain.want(bucket, "UpdateReplacePolicy", "Retain")
		const rule = "Properties/BucketEncryption/ServerSideEncryptionConfiguration/0/"
		plain.want(bucket, rule+"ServerSideEncryptionByDefault", object{"SSEAlgorithm": "AES256"})
		if bucket != "TrailBucket" {
			encrypted.want(bucket, rule+"ServerSideEncryptionByDefault", object{"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": kmsKey})
			encrypted.want(bucket, rule+"BucketKeyEnabled", true)
		}
		policy := bucket + "Policy"
		plain.want(policy, "Properties/Bucket", plain.ref(bucket))
		arn := plain.attribute(bucket, "Arn")
		for _, resource := range []string{arn, arn + "/any"} {
			r := request{breakGlass, "s3:GetObject", resource, map[string]string{"aws:SecureTransport": "false"}}
			if got := plain.deniedBy(policy, r); got != "OnlyTls" {
				t.Errorf("%s without TLS is denied by %q", resource, got)
			}
		}
	}
}

func TestArchivePolicy(t *testing.T) {
	conditional := map[string]string{"s3:if-none-match": "*", "aws:SecureTransport": "true"}
	tests := []struct {
		name   string
		stack  map[string]string
		r      request
		denied string // the Sid, or nothing
	}{
		{"a put with the condition", nil, request{admin, "s3:PutObject", table, conditional}, ""},
		{"a put without it", nil, request{admin, "s3:PutObject", table, nil}, "NothingIsOverwritten"},
		{"a put without it, break-glass", nil, request{breakGlass, "s3:PutObject", table, nil}, "NothingIsOverwritten"},
		{"a put with another condition", nil, request{admin, "s3:PutObject", table, map[string]string{"s3:if-match": "etag"}}, "NothingIsOverwritten"},
		{"beginning a multipart upload", nil, request{admin, "s3:PutObject", table, map[string]string{"s3:ObjectCreationOperation": "false"}}, "NothingIsOverwritten"},
		{"a put without it under another prefix", map[string]string{"Prefix": "audit/k8s"}, request{admin, "s3:PutObject", archive + "/audit/k8s/a", nil}, "NothingIsOverwritten"},
		{"a read", nil, request{admin, "s3:GetObject", table, nil}, ""},
		{"a retention", nil, request{admin, "s3:PutObjectRetention", table, map[string]string{"s3:object-lock-remaining-retention-days": "9999"}}, "LocksAreNotShortened"},
		{"a retention, break-glass", nil, request{breakGlass, "s3:PutObjectRetention", table, nil}, ""},
		{"the writer's retention, shorter than the bucket's", map[string]string{"WriterSetsRetention": "true"},
			request{admin, "s3:PutObjectRetention", table, map[string]string{"s3:object-lock-remaining-retention-days": "363"}}, "LocksAreNotShortened"},
		{"the writer's retention, as long", map[string]string{"WriterSetsRetention": "true"},
			request{admin, "s3:PutObjectRetention", table, map[string]string{"s3:object-lock-remaining-retention-days": "364"}}, ""},
	}
	for _, test := range tests {
		if got := deploy(t, test.stack).deniedBy("ArchiveBucketPolicy", test.r); got != test.denied {
			t.Errorf("%s is denied by %q, want %q", test.name, got, test.denied)
		}
	}
}

func TestOnlyBreakGlassDeletesAndChangesSettings(t *testing.T) {
	s := deploy(t, nil)
	deletions := []string{"DeleteObject", "DeleteObjectVersion", "BypassGovernanceRetention", "PutObjectLegalHold",
		"UpdateObjectEncryption", "ReplicateObject", "ReplicateDelete"}
	settings := []string{"DeleteBucket", "DeleteBucketPolicy", "PutBucketPolicy", "PutBucketObjectLockConfiguration",
		"PutBucketOwnershipControls", "PutBucketPublicAccessBlock", "PutBucketVersioning", "PutEncryptionConfiguration",
		"PutIntelligentTieringConfiguration", "PutLifecycleConfiguration", "PutReplicationConfiguration"}
	for _, bucket := range []string{"ArchiveBucket", "TrailBucket"} {
		arn, policy := s.attribute(bucket, "Arn"), bucket+"Policy"
		for _, principal := range []string{admin, root} {
			for _, action := range deletions {
				if got := s.deniedBy(policy, request{principal, "s3:" + action, arn + "/any", nil}); got != "NothingIsDeleted" {
					t.Errorf("%s of an object of %s by %s is denied by %q", action, bucket, principal, got)
				}
			}
			for _, action := range settings {
				if got := s.deniedBy(policy, request{principal, "s3:" + action, arn, nil}); got != "SettingsStay" {
					t.Errorf("%s of %s by %s is denied by %q", action, bucket, principal, got)
				}
			}
		}
		// Else nobody could lift a lock, or mend the stack.
		for _, action := range slices.Concat(deletions, settings) {
			for _, resource := range []string{arn, arn + "/any"} {
				if got := s.deniedBy(policy, request{breakGlass, "s3:" + action, resource, nil}); got != "" {
					t.Errorf("%s of %s is denied to the break-glass role by %q", action, resource, got)
				}
			}
		}
	}
}

// readable are the storage classes from which Athena reads; of the others it says
// nothing and shows no rows.
var readable = []string{"STANDARD_IA", "INTELLIGENT_TIERING", "GLACIER_IR"}

func TestLifecycle(t *testing.T) {
	classes := choices(t, "StorageClass")
	if len(classes) < 2 {
		t.Fatalf("StorageClass may be %v only", classes)
	}
	for _, class := range classes {
		s := deploy(t, map[string]string{"StorageClass": class})
		transitions := 0
		for _, bucket := range s.ofType("AWS::S3::Bucket") {
			for _, rule := range s.get(bucket, "Properties", "LifecycleConfiguration", "Rules").([]any) {
				for key, value := range rule.(object) {
					switch key {
					case "Transitions":
						for _, transition := range value.([]any) {
							transitions++
							if to := transition.(object)["StorageClass"]; !slices.Contains(readable, to.(string)) {
								t.Errorf("%s moves objects to %s", bucket, to)
							}
						}
					case "Transition", "NoncurrentVersionTransition", "NoncurrentVersionTransitions":
						t.Errorf("%s has %s, which this test does not look into", bucket, key)
					case "ExpirationInDays", "ExpirationDate", "NoncurrentVersionExpiration", "ExpiredObjectDeleteMarker":
						if bucket != "ResultsBucket" {
							t.Errorf("%s deletes by default: %v", bucket, rule)
						}
					}
				}
			}
		}
		if want := map[bool]int{true: 0, false: 1}[class == "NONE"]; transitions != want {
			t.Errorf("StorageClass %s makes %d transitions, want %d", class, transitions, want)
		}
		for _, bucket := range s.ofType("AWS::S3::Bucket") {
			s.want(bucket, "Properties/LifecycleConfiguration/Rules/0/AbortIncompleteMultipartUpload/DaysAfterInitiation", 1)
		}
	}
}

func TestNothingExpiresWhileItIsLocked(t *testing.T) {
	days := choices(t, "RetentionDays")
	if len(days) == 0 {
		t.Fatal("RetentionDays may be anything, so its expiration cannot be looked up")
	}
	for _, retention := range days {
		s := deploy(t, map[string]string{"RetentionDays": retention, "Expire": "afterRetention"})
		locked, _ := strconv.Atoi(retention)
		for _, bucket := range []string{"ArchiveBucket", "TrailBucket"} {
			rules, found := s.get(bucket, "Properties", "LifecycleConfiguration", "Rules").([]any), false
			for _, rule := range rules {
				if expire, ok := rule.(object)["ExpirationInDays"]; ok {
					found = true
					if expire.(int) < locked+30 {
						t.Errorf("%s: locked for %d days, expired after %d", bucket, locked, expire)
					}
				}
			}
			if !found {
				t.Errorf("%s does not expire", bucket)
			}
		}
		if least := s.call("Fn::FindInMap", []any{"Retention", retention, "Least"}); least != locked-1 {
			t.Errorf("locked for %d days, at least %v may be asked for", locked, least)
		}
	}
}

// choices are the allowed values of a parameter.
func choices(t *testing.T, parameter string) []string {
	var values []string
	for _, v := range dig(t, "Parameters", deploy(t, nil).doc["Parameters"], []string{parameter, "AllowedValues"}).([]any) {
		values = append(values, fmt.Sprint(v))
	}
	return values
}

// grants is what a policy allows: action, resource.
func (s *stack) grants(policy string) [][2]string {
	s.t.Helper()
	var grants [][2]string
	for _, st := range s.statements(policy) {
		if st["Effect"] != "Allow" || st["NotAction"] != nil || st["NotResource"] != nil {
			s.t.Errorf("%s: %v", policy, st)
		}
		for _, action := range texts(st["Action"]) {
			for _, resource := range texts(st["Resource"]) {
				grants = append(grants, [2]string{action, resource})
			}
		}
	}
	slices.SortFunc(grants, func(a, b [2]string) int { return slices.Compare(a[:], b[:]) })
	return grants
}

// The writer adds, and does nothing else: no reading, listing, deleting.
func TestWriter(t *testing.T) {
	const objects = archive + "/k8s-audit/*"
	tests := []struct {
		given map[string]string
		want  [][2]string
	}{
		{nil, [][2]string{{"s3:PutObject", objects}}},
		{map[string]string{"WriterSetsRetention": "true"}, [][2]string{{"s3:PutObject", objects}, {"s3:PutObjectRetention", objects}}},
		{map[string]string{"KmsKeyArn": kmsKey}, [][2]string{{"kms:GenerateDataKey", kmsKey}, {"s3:PutObject", objects}}},
	}
	for _, test := range tests {
		for _, identity := range choices(t, "WriterIdentity") {
			given := map[string]string{"WriterIdentity": identity, "EksClusterName": "prod-1",
				"OidcProviderArn": "arn:aws:iam::111122223333:oidc-provider/oidc.example.org/id/ABC"}
			for k, v := range test.given {
				given[k] = v
			}
			s := deploy(t, given)
			if got := s.grants("WriterPolicy"); !reflect.DeepEqual(got, test.want) {
				t.Errorf("%v: the writer may %v, want %v", given, got, test.want)
			}
			for _, kind := range []string{"AWS::IAM::Policy", "AWS::IAM::RolePolicy"} {
				if other := s.ofType(kind); other != nil {
					t.Errorf("%v may give the writer more rights", other)
				}
			}
			if identity == "NONE" {
				if s.resources["WriterRole"] != nil {
					t.Error("there is a role without an identity for it")
				}
				continue
			}
			// Nothing beside that policy.
			s.want("WriterRole", "Properties/ManagedPolicyArns", []any{"WriterPolicy"})
			if s.get("WriterRole", "Properties").(object)["Policies"] != nil {
				t.Error("the writer's role has policies of its own")
			}
		}
	}
}

func TestWhoMayBecomeTheWriter(t *testing.T) {
	s := deploy(t, map[string]string{"WriterIdentity": "IRSA", "ServiceAccountNamespace": "logging", "ServiceAccountName": "fb",
		"OidcProviderArn": "arn:aws:iam::111122223333:oidc-provider/oidc.example.org/id/ABC"})
	var trust any
	if err := json.Unmarshal([]byte(s.get("WriterRole", "Properties", "AssumeRolePolicyDocument").(string)), &trust); err != nil {
		t.Fatal(err)
	}
	want := object{"Effect": "Allow", "Action": "sts:AssumeRoleWithWebIdentity",
		"Principal": object{"Federated": "arn:aws:iam::111122223333:oidc-provider/oidc.example.org/id/ABC"},
		"Condition": object{"StringEquals": object{"oidc.example.org/id/ABC:aud": "sts.amazonaws.com",
			"oidc.example.org/id/ABC:sub": "system:serviceaccount:logging:fb"}}}
	if got := dig(t, "trust", trust, []string{"Statement"}); !reflect.DeepEqual(got, []any{want}) {
		t.Errorf("IRSA: got %v\nwant %v", got, want)
	}

	s = deploy(t, map[string]string{"WriterIdentity": "POD_IDENTITY", "EksClusterName": "prod-1", "ServiceAccountName": "fb"})
	s.want("WriterRole", "Properties/AssumeRolePolicyDocument/Statement", []any{object{"Effect": "Allow",
		"Action": []any{"sts:AssumeRole", "sts:TagSession"}, "Principal": object{"Service": "pods.eks.amazonaws.com"},
		"Condition": object{"StringEquals": object{"aws:SourceAccount": account, "aws:RequestTag/eks-cluster-name": "prod-1",
			"aws:RequestTag/kubernetes-namespace": "audit", "aws:RequestTag/kubernetes-service-account": "fb"}}}})
	s.want("WriterPodIdentity", "Properties/RoleArn", s.attribute("WriterRole", "Arn"))
}

// The reader changes nothing but its own results.
func TestReader(t *testing.T) {
	s := deploy(t, map[string]string{"KmsKeyArn": kmsKey, "ReaderPrincipalArn": admin})
	results := s.attribute("ResultsBucket", "Arn")
	var onEverything []string
	reads := false
	for _, grant := range s.grants("ReaderPolicy") {
		action, resource := grant[0], grant[1]
		service, verb, _ := strings.Cut(action, ":")
		if strings.Contains(action, "*") {
			t.Errorf("the reader may %s", action)
		}
		if resource == "*" {
			onEverything = append(onEverything, action)
		}
		reads = reads || action == "s3:GetObject" && resource == archive+"/k8s-audit/*"
		switch {
		case strings.HasPrefix(verb, "Get") || strings.HasPrefix(verb, "List") || strings.HasPrefix(verb, "BatchGet"):
		case service == "athena" && (verb == "StartQueryExecution" || verb == "StopQueryExecution"):
			if !strings.HasSuffix(resource, ":workgroup/k8s-audit") {
				t.Errorf("the reader may %s on %s", action, resource)
			}
		case service == "s3" && strings.HasPrefix(resource, results+"/"):
		case service == "kms" && resource == kmsKey:
		default:
			t.Errorf("the reader may %s on %s", action, resource)
		}
	}
	if !reads {
		t.Error("the reader may not read the archive")
	}
	// Those that AWS knows no resource for.
	if want := []string{"athena:ListDataCatalogs", "athena:ListWorkGroups"}; !slices.Equal(onEverything, want) {
		t.Errorf("the reader may %v on everything, want %v", onEverything, want)
	}
	s.want("ReaderRole", "Properties/ManagedPolicyArns", []any{"ReaderPolicy"})
	s.want("ReaderRole", "Properties/AssumeRolePolicyDocument/Statement/0/Principal/AWS", admin)
}

func TestTrail(t *testing.T) {
	s := deploy(t, nil)
	s.want("Trail", "Properties/IsLogging", true)
	s.want("Trail", "Properties/EnableLogFileValidation", true)
	s.want("Trail", "Properties/S3BucketName", "my-archive-trail")
	// No readOnly among them: reads and writes.
	s.want("Trail", "Properties/AdvancedEventSelectors/0/FieldSelectors", []any{
		object{"Field": "eventCategory", "Equals": []any{"Data"}},
		object{"Field": "resources.type", "Equals": []any{"AWS::S3::Object"}},
		object{"Field": "resources.ARN", "StartsWith": []any{archive + "/", archive + "-athena-results/"}}})
	// CloudTrail may write, on behalf of this trail and no other.
	trail := fmt.Sprintf("arn:aws:cloudtrail:eu-central-1:%s:trail/%s", account, s.get("Trail", "Properties", "TrailName"))
	allowed := 0
	for _, st := range s.statements("TrailBucketPolicy") {
		if st["Effect"] != "Allow" {
			continue
		}
		allowed++
		if got := dig(t, "statement", any(st), []string{"Condition", "StringEquals", "aws:SourceArn"}); got != trail {
			t.Errorf("%s is for the trail %s, want %s", st["Sid"], got, trail)
		}
		if got := dig(t, "statement", any(st), []string{"Principal", "Service"}); got != "cloudtrail.amazonaws.com" {
			t.Errorf("%s is for %s", st["Sid"], got)
		}
	}
	if allowed != 2 {
		t.Errorf("the trail's bucket has %d statements that allow, want 2", allowed)
	}
	s = deploy(t, map[string]string{"DataEvents": "false"})
	if s.resources["Trail"] != nil {
		t.Error("there is a trail with DataEvents false")
	}
}

func TestProjection(t *testing.T) {
	s := deploy(t, map[string]string{"ClusterNames": "prod-1, prod-2", "ArchiveStart": "2026-02-03", "Prefix": "audit/k8s"})
	const parameters = "Properties/TableInput/Parameters/"
	for key, want := range map[string]string{
		"EXTERNAL":                    "TRUE",
		"projection.enabled":          "true",
		"projection.cluster.type":     "enum",
		"projection.cluster.values":   "prod-1,prod-2", // a space would be part of the value
		"projection.dt.type":          "date",
		"projection.dt.format":        "yyyy-MM-dd",
		"projection.dt.range":         "2026-02-03,NOW+1DAY",
		"projection.dt.interval":      "1",
		"projection.dt.interval.unit": "DAYS",
		"storage.location.template":   "s3://my-archive/audit/k8s/cluster=${cluster}/dt=${dt}/",
	} {
		s.want("AuditTable", parameters+key, want)
	}
	s.want("AuditTable", "Properties/TableInput/Name", "audit")
	s.want("AuditTable", "Properties/TableInput/StorageDescriptor/Location", "s3://my-archive/audit/k8s/")
	s.want("AuditTable", "Properties/TableInput/PartitionKeys",
		[]any{object{"Name": "cluster", "Type": "string"}, object{"Name": "dt", "Type": "string"}})

	s = deploy(t, map[string]string{"ClusterProjection": "injected"})
	s.want("AuditTable", parameters+"projection.cluster.type", "injected")
	if values, ok := s.get("AuditTable", "Properties", "TableInput", "Parameters").(object)["projection.cluster.values"]; ok {
		t.Errorf("injected has values %v", values)
	}
}

func TestWorkgroup(t *testing.T) {
	s := deploy(t, nil)
	const configuration = "Properties/WorkGroupConfiguration/"
	s.want("Workgroup", configuration+"EngineVersion/SelectedEngineVersion", "Athena engine version 3")
	s.want("Workgroup", configuration+"EnforceWorkGroupConfiguration", true)
	s.want("Workgroup", configuration+"BytesScannedCutoffPerQuery", 100_000_000_000)
	s.want("Workgroup", configuration+"ResultConfiguration/OutputLocation", "s3://my-archive-athena-results/")
	s.want("Workgroup", configuration+"ResultConfiguration/EncryptionConfiguration/EncryptionOption", "SSE_S3")
	s.want("ResultsBucket", "Properties/LifecycleConfiguration/Rules/0/ExpirationInDays", 30)
	s = deploy(t, map[string]string{"KmsKeyArn": kmsKey})
	s.want("Workgroup", configuration+"ResultConfiguration/EncryptionConfiguration", object{"EncryptionOption": "SSE_KMS", "KmsKey": kmsKey})
}

// A larger template can only be deployed by way of a bucket.
func TestTemplateIsSmallEnough(t *testing.T) {
	info, err := os.Stat(templateFile)
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() > 51_200 {
		t.Errorf("the template has %d bytes, CloudFormation takes 51,200", info.Size())
	}
}
