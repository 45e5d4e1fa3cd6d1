package convert

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestSecretSpans holds examples for and against every kind. « and » stand around
// what must be found.
func TestSecretSpans(t *testing.T) {
	const token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0.c2lnbmF0dXJl"
	for _, test := range []string{
		// tokens that say what they are
		"token is «" + token + "» ok", "«" + token + "»", "eyJhbGci only", "eyJhbGciOiJSUzI1NiJ9.eyJpc3M",
		"key «AKIAIOSFODNN7EXAMPLE» used", "AKIA", "MAKIAIOSFODNN7EXAMPLE", "«ghp_0123456789012345678901234567890123456»", "«glpat-0123456789abcdefghij»",
		"«xoxb-123456789012-abcdef»", "«AIzaSyA0123456789012345678901234567890»", "«hvs.CAESIJ0123456789abcdefgh»", "«sk_live_0123456789abcdef»",
		// private keys, never certificates
		"«-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----»\nrest", `«-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----»\n`,
		"«-----BEGIN EC PRIVATE KEY-----\nMIIE»", "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----", "-----BEGIN PUBLIC KEY-----\nMIIE\n-----END PUBLIC KEY-----",
		// HTTP credentials
		"Authorization: Bearer «abc.def-012345»", "authorization: bearer «0123456789abcdef»", "invalid bearer token", "Bearer authentication failed",
		"Authorization: Basic «dXNlcjpwYXNz»", "Basic understanding",
		// URLs
		"postgres://user:«pw»@db:5432/x", "https://user@host/", "https://host:8080/path@x", "http://«0123456789abcdef0123»@git.example.org/x", "amqp://u:$(PASS)@h",
		// flags
		"run --password=«hunter2» now", "run --password «hunter2» now", "--client-secret=«abc»", "--api-key «k1»",
		"--token-ttl=3600", "--token-ttl 3600", "--token-auth-file=/etc/x", "--password-file=/run/x", "--password-file /run/x", "--allow-token=true", "--password=$(DB_PASSWORD)",
		"--from-literal=password=«x1»", "mysql -psecret", "sshpass -p «pw» ssh h", "curl -u me:«pw» https://h", "ls -u me:pw",
		"--password --verbose", "--password=",
		// assignments
		"PASSWORD=«x1» cmd", "DB_PASSWORD='«a b»' cmd", `export TOKEN="«abc 1»"`, "MYSQL_PWD=«x»", "AWS_SECRET_ACCESS_KEY=«wJalrXUtnFEMI/K7MDENG»",
		"AccountKey=«abc==»;EndpointSuffix=x", "?token=«abc»&x=1", "?sig=«abc%3D»&se=1", "TOKEN_PATH=/x", "SECRET_NAME=foo", "x == y", "tokens = 3",
		// JSON and YAML in text
		`{"password":"«x»","user":"u"}`, `{\"password\":\"«x»\"}`, `{"apiKey" : "«x»"}`, `{"secretName":"foo"}`, `{"token":null,"n":1}`, `{"password":"«ab»"}`,
		"password: «hunter2»", "a: b\npassword: «hunter2»\nc: d", "secretName: foo", "token: expired", "the password: is wrong",
		// Kubernetes' own words
		"get secret foo", "kubectl get secrets", `secrets "x" is forbidden: User "jane" cannot get resource "secrets" in API group ""`,
		"JTI=6ab5a9b0-1b1c-4b1a-9c4e-1f0a6f1d2c3b", "X509SHA256=c1a5298f939e87e8f962a5edfc206918", "system:serviceaccount:kube-system:token-cleaner",
		"token expired", "password authentication failed", "secretKeyRef: {name: s, key: k}", "imagePullSecrets: x", "nginx@sha256:0123456789abcdef0123456789abcdef",
		"40aeb880-57f1-4119-a23c-f9c8a7560248", "kubectl/v1.32.4 (linux/amd64) kubernetes/4cb5f07", "ttl=5", "2026-11-23T02:15:24.177752Z",
		// redacted before
		"--password=[REDACTED] x", "password=[REDACTED hmac-sha256:01234567:0123456789abcdef0123456789abcdef]", `{"password":"[REDACTED]"}`, "https://u:[REDACTED]@h", "Bearer [REDACTED]",
	} {
		text := strings.NewReplacer("«", "", "»", "").Replace(test)
		got := text
		spans := secretSpans(nil, []byte(text))
		for _, s := range slices.Backward(spans) {
			got = got[:s.from] + "«" + got[s.from:s.to] + "»" + got[s.to:]
		}
		if got != test {
			t.Errorf("found %s\nwant  %s", got, test)
		}
	}
}

func TestSecretKeys(t *testing.T) {
	for _, name := range strings.Fields(`password PASSWORD dbPassword db_password mysql-root-password DB_PASSWD passphrase mysql_pwd token accessToken
		access_token authToken bearer-token TOKEN secret clientSecret client_secret api_key apiKey APIKey api-key apikey accessKey secretKey aws_secret_access_key
		privateKey private-key credentials creds connectionString connection_string AccountKey SharedAccessKey .dockerconfigjson htpasswd password1 newPassword
		passwordHash tokenValue secretString sasToken secret_id refreshToken idToken`) {
		if !secretKey([]byte(name)) {
			t.Errorf("%s is not seen as a secret's name", name)
		}
	}
	for _, name := range strings.Fields(`secretName secretRef secretKeyRef passwordSecretRef tokenSecretNames imagePullSecrets secretNamespace tokenExpirationSeconds
		expirationTimestamp automountServiceAccountToken serviceAccountToken passwordFile password_file tokenPath secretbox secretStore secretStoreRef tokenReview tokenRequests
		boundObjectRef keys key name value author authority tokenTTL token-ttl passwordPolicy keyUsage keySelector labelSelector clusterName description command
		secrets monkey keyboard compass passive bypass connections continue string strategy constraint tokenType accessKeyId`) {
		if secretKey([]byte(name)) {
			t.Errorf("%s is seen as a secret's name", name)
		}
	}
	for _, name := range []string{"token", "access_token", "Password", "X-Amz-Signature", "sig", "api_key", "AuthCode", "client_secret"} {
		if !secretParam(name) {
			t.Errorf("parameter %s is not seen as a secret", name)
		}
	}
	for _, name := range listOptions {
		if secretParam(name) {
			t.Errorf("parameter %s is seen as a secret", name)
		}
	}
}

// TestSecretSpansAreLinear: adversarial text of a megabyte takes no longer than
// other text.
func TestSecretSpansAreLinear(t *testing.T) {
	for _, unit := range []string{"a", "Bearer ", "eyJ", "eyJa.", "://", "://a:", "password=", `"password":"`, "-", "--password ", "AKIA", "-----BEGIN RSA PRIVATE KEY-----", "=", "\\", "password: ", "token-"} {
		text := []byte(strings.Repeat(unit, 1<<20/len(unit)))
		began := time.Now()
		secretSpans(nil, text)
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%q repeated took %v", unit, took)
		}
	}
}

// TestNoFalseAlarms runs over every string of the captured events: only canaries
// may be found.
func TestNoFalseAlarms(t *testing.T) {
	strings := 0
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			for _, e := range v {
				walk(e)
			}
		case []any:
			for _, e := range v {
				walk(e)
			}
		case string:
			strings++
			for _, s := range secretSpans(nil, []byte(v)) {
				if found := v[s.from:s.to]; !canary(found) {
					t.Errorf("%q in %.200q", found, v)
				}
			}
		}
	}
	for _, event := range capturedEvents(t) {
		var v any
		if err := json.Unmarshal([]byte(event), &v); err != nil {
			t.Fatal(err)
		}
		walk(v)
	}
	if strings < 10_000 {
		t.Errorf("only %d strings were looked at", strings)
	}
}

// canary tells whether a found secret is one of those planted in the captures.
func canary(s string) bool {
	for _, c := range []string{"CANARY", "SUPERSECRETVALUE1", "Q0FOQVJZ", "U1VQRVJTRUNSRVRWQUxVRTE"} {
		if strings.Contains(s, c) {
			return true
		}
	}
	return false
}

func FuzzSecretSpans(f *testing.F) {
	for _, s := range []string{"--password x", "a=b", `{"password":"x"}`, "://u:p@h", "-----BEGIN PRIVATE KEY-----", "Bearer 12345678", "eyJa.b.c", `\"token\":\"`, "'"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, s []byte) {
		x := redactor{rules: &Redaction{}}
		x.spans = secretSpans(nil, s)
		end := 0
		for _, found := range x.spans {
			if found.from < end || found.to <= found.from || found.to > len(s) {
				t.Fatalf("spans %v of %d bytes", x.spans, len(s))
			}
			end = found.to
		}
		once := x.replaceSpans(nil, s)
		x.spans = secretSpans(nil, once)
		if twice := x.replaceSpans(nil, once); string(twice) != string(once) {
			t.Fatalf("%q becomes %q and then %q", s, once, twice)
		}
	})
}

func BenchmarkSecretSpans(b *testing.B) {
	lines := []byte(strings.Repeat(`{"name":"nginx","image":"registry.example.org/nginx:1.27","imagePullPolicy":"IfNotPresent","ports":[{"containerPort":80}]},`, 900))
	b.SetBytes(int64(len(lines)))
	for b.Loop() {
		secretSpans(nil, lines)
	}
}
