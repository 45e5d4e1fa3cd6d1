package convert

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkConvert measures a flush without its fsync, per event, for each mode
// of redaction: what off takes is decoding, what the others take beyond it is
// redaction.
func BenchmarkConvert(b *testing.B) {
	pod := `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","namespace":"a","labels":{"app":"web"},"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web","uid":"0d5bbee7-7907-4ea1-a530-e9bc082dfc02","controller":true}]},"spec":{"volumes":[{"name":"kube-api-access","projected":{"sources":[{"serviceAccountToken":{"expirationSeconds":3607,"path":"token"}},{"configMap":{"name":"kube-root-ca.crt","items":[{"key":"ca.crt","path":"ca.crt"}]}}],"defaultMode":420}}],"containers":[{"name":"web","image":"registry.example.org/web:1.27","command":["/bin/web","--port=8080"],"env":[{"name":"A","value":"b"},{"name":"PASSWORD","valueFrom":{"secretKeyRef":{"name":"s","key":"k"}}}],"resources":{"limits":{"cpu":"1","memory":"1Gi"}},"volumeMounts":[{"name":"kube-api-access","readOnly":true,"mountPath":"/var/run/secrets/kubernetes.io/serviceaccount"}],"livenessProbe":{"httpGet":{"path":"/healthz","port":8080,"scheme":"HTTP"},"timeoutSeconds":1},"imagePullPolicy":"IfNotPresent"}],"restartPolicy":"Always","serviceAccountName":"default","nodeName":"node-1","tolerations":[{"key":"node.kubernetes.io/not-ready","operator":"Exists","effect":"NoExecute","tolerationSeconds":300}]},"status":{"phase":"Running","podIP":"10.0.0.1"}}`
	list := `{"kind":"PodList","items":[` + strings.TrimSuffix(strings.Repeat(pod+",", 100_000/len(pod)), ",") + `]}`
	for _, c := range []struct{ name, verb, uri, body string }{
		{"no body", "get", pods, ""},
		{"pod 1.5 KB", "create", pods, pod},
		{"list 100 KB", "list", pods, list},
		{"secret", "create", secrets, `{"metadata":{"name":"s"},"data":{"a":"` + strings.Repeat("TUlJ", 200) + `","b":"eA=="}}`},
		{"free text", "create", pods, fmt.Sprintf(`{"spec":{"command":["sh","-c",%q]}}`, strings.Repeat("cp /a /b && run --verbose --token=abc0 https://x.example.org/y; ", 20))},
	} {
		fields := map[string]any{}
		if c.body != "" {
			fields["responseObject"] = c.body
		}
		chunk := record(b, requested(b, c.verb, c.uri, fields))
		policy, err := LoadPolicy("everything", []byte(everythingPolicy))
		if err != nil {
			b.Fatal(err)
		}
		for _, mode := range []string{"off", "default", "strict"} {
			b.Run(c.name+"/"+mode, func(b *testing.B) {
				converter := New(policy, loadRedaction(b, mode))
				var batch Batch
				b.SetBytes(int64(len(chunk)))
				b.ReportAllocs()
				for b.Loop() {
					batch.Reset(receivedAt)
					if err := converter.Convert(&batch, "audit", chunk); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
