package conf

import "strings"

// refusedKeys are keys that Fluent Bit would ignore in silence, with what to do
// instead: keys of out_s3 that have no place here, and other words for ours.
var refusedKeys = map[string]string{
	// out_s3
	"format":                              "objects are always Parquet; remove it",
	"compression":                         "objects are always Parquet with zstd; remove it",
	"content_type":                        "is set by the plugin; remove it",
	"json_date_format":                    "timestamps are columns of the table; remove it",
	"json_date_key":                       "timestamps are columns of the table; remove it",
	"log_key":                             "events are found under `log` and `message` without it; remove it",
	"s3_key_format":                       "the object's name is what makes uploads safe to repeat; use `prefix` and `cluster`",
	"s3_key_format_tag_delimiters":        "object names do not depend on the tag; remove it",
	"static_file_path":                    "object names are never reused; remove it",
	"use_put_object":                      "objects are always put whole; remove it",
	"upload_chunk_size":                   "objects are always put whole; use `total_file_size`",
	"part_size":                           "objects are always put whole; use `total_file_size`",
	"send_content_md5":                    "every object carries a SHA-256; remove it",
	"preserve_data_ordering":              "order is always kept; remove it",
	"auto_retry_requests":                 "uploads are retried without end; remove it",
	"retry_exhausted_action":              "uploads are retried without end; remove it",
	"quarantine_dir_limit_size":           "nothing is ever dropped; use `store_dir_limit_size`",
	"canned_acl":                          "set the bucket's policy instead; remove it",
	"blob_database_file":                  "belongs to out_s3's blobs; remove it",
	"file_delivery_attempt_limit":         "uploads are retried without end; remove it",
	"part_delivery_attempt_limit":         "uploads are retried without end; remove it",
	"upload_parts_timeout":                "objects are always put whole; remove it",
	"upload_part_freshness_limit":         "objects are always put whole; remove it",
	"authorization_endpoint_url":          "belongs to out_s3's blobs; remove it",
	"authorization_endpoint_username":     "belongs to out_s3's blobs; remove it",
	"authorization_endpoint_password":     "belongs to out_s3's blobs; remove it",
	"authorization_endpoint_bearer_token": "belongs to out_s3's blobs; remove it",

	// credentials have their own places
	"access_key_id":         "credentials come from the AWS SDK's chain (environment, file, IRSA, Pod Identity); remove it",
	"secret_access_key":     "credentials come from the AWS SDK's chain (environment, file, IRSA, Pod Identity); remove it",
	"aws_access_key_id":     "credentials come from the AWS SDK's chain (environment, file, IRSA, Pod Identity); remove it",
	"aws_secret_access_key": "credentials come from the AWS SDK's chain (environment, file, IRSA, Pod Identity); remove it",

	// other words for ours
	"bucket_name":     "the key is `bucket`",
	"s3_bucket":       "the key is `bucket`",
	"cluster_name":    "the key is `cluster`",
	"cluster_id":      "the key is `cluster`",
	"policy":          "the key is `policy_file`",
	"audit_policy":    "the key is `policy_file`",
	"policy_path":     "the key is `policy_file`",
	"s3_prefix":       "the key is `prefix`",
	"key_prefix":      "the key is `prefix`",
	"path":            "the key is `prefix`",
	"aws_region":      "the key is `region`",
	"s3_region":       "the key is `region`",
	"s3_endpoint":     "the key is `endpoint`",
	"aws_profile":     "the key is `profile`",
	"role":            "the key is `role_arn`",
	"file_size":       "the key is `total_file_size`",
	"max_file_size":   "the key is `total_file_size`",
	"store_path":      "the key is `store_dir`",
	"store_limit":     "the key is `store_dir_limit_size`",
	"name_in_logs":    "the key is `output_name`",
	"loglevel":        "the key is `plugin_log_level`",
	"kms_key_id":      "the key is `sse_kms_key_id`",
	"encryption":      "the key is `sse`",
	"object_lock":     "the keys are `object_lock_mode` and `object_lock_retention`",
	"retention":       "the key is `object_lock_retention`",
	"flush_interval":  "the key is `upload_timeout`",
	"metrics_port":    "the key is `metrics_listen`, HOST:PORT",
	"metrics_address": "the key is `metrics_listen`",
}

// refused probes for keys that we do not take, since Fluent Bit tells only the
// value of a key that is asked for. Values are not repeated: who writes a secret
// under a wrong key must not find it in a log.
func refused(get func(string) string) (problems Problems) {
	given := func(name string) bool { return strings.TrimSpace(get(name)) != "" }
	for _, name := range sortedKeys(refusedKeys) {
		if given(name) {
			problems = append(problems, Problem{Key: name, Allowed: refusedKeys[name]})
		}
	}
	known := map[string]bool{}
	for name := range refusedKeys {
		known[name] = true
	}
	for _, k := range keys {
		known[k.name] = true
	}
	for _, k := range keys {
		for _, typo := range misspellings(k.name) {
			if !known[typo] && given(typo) {
				problems = append(problems, Problem{Key: typo, Allowed: "is not a key; `" + k.name + "` is"})
			}
			known[typo] = true
		}
	}
	return problems
}

// misspellings of a key: one character left out, doubled or swapped with the
// next, and other ways to join its words. Fluent Bit ignores case itself.
func misspellings(name string) []string {
	list := []string{
		strings.ReplaceAll(name, "_", ""),
		strings.ReplaceAll(name, "_", "-"),
		strings.ReplaceAll(name, "_", "."),
		name + "s",
	}
	for i := range name {
		list = append(list, name[:i]+name[i+1:], name[:i+1]+name[i:])
		if i+1 < len(name) {
			list = append(list, name[:i]+name[i+1:i+2]+name[i:i+1]+name[i+2:])
		}
	}
	return list
}
