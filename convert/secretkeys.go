package convert

import "strings"

// secretKey tells whether a key, a variable, a flag or a parameter is named after
// a secret that it holds. A name that leads to a secret, or says something about
// one, is spared: secretName, secretKeyRef, tokenExpirationSeconds, passwordFile.
//
// The name is taken apart into words at _ - . / and where its case changes. The
// words about passwords count anywhere, since their sense hardly changes; those
// about tokens and secrets only at the end, since Kubernetes has many kinds named
// so (secretStore, tokenReview, SecretProviderClass).
func secretKey(name []byte) bool {
	// What a long name is about stands at its end.
	if name = name[max(0, len(name)-maxName):]; len(name) < 3 || !maybeSecret(name) {
		return false
	}
	var buf [16]string
	words := nameWords(buf[:0], name)
	for len(words) > 1 && isDigits(words[len(words)-1]) {
		words = words[:len(words)-1]
	}
	if len(words) == 0 || sparedNames[strings.Join(words, "")] {
		return false
	}
	last := words[len(words)-1]
	pair := len(words) > 1 && secretPairs[words[len(words)-2]+" "+last]
	if aboutSecrets[last] && !pair {
		return false
	}
	for i, w := range words {
		if isPasswordWord(w) || w == "pass" && i == len(words)-1 || i > 0 && secretPairs[words[i-1]+" "+w] {
			return true
		}
	}
	if isSecretNoun(last) {
		return true
	}
	return len(words) > 1 && holdsValue[last] && isSecretNoun(words[len(words)-2])
}

// maybeSecret is a prefilter: every name that can be a secret's holds one of
// these, in lower or upper case.
func maybeSecret(name []byte) bool {
	for i := 0; i+2 < len(name); i++ {
		a, b, c := name[i]|0x20, name[i+1]|0x20, name[i+2]|0x20
		switch a {
		case 'p':
			if b == 'a' && c == 's' || b == 'w' && c == 'd' {
				return true
			}
		case 't':
			if b == 'o' && c == 'k' {
				return true
			}
		case 's':
			if b == 'e' && c == 'c' || b == 'a' && c == 's' || b == 't' && c == 'r' {
				return true
			}
		case 'c':
			if b == 'r' && c == 'e' || b == 'o' && c == 'n' {
				return true
			}
		case 'd':
			if b == 'o' && c == 'c' { // dockercfg
				return true
			}
		case 'k':
			if b == 'e' && c == 'y' {
				return true
			}
		}
	}
	return false
}

// nameWords appends the words of a name in lower case.
func nameWords(words []string, name []byte) []string {
	start := 0
	emit := func(end int) {
		if end > start {
			words = append(words, strings.ToLower(string(name[start:end])))
		}
	}
	for i, c := range name {
		switch {
		case c == '_' || c == '-' || c == '.' || c == '/' || c == ' ':
			emit(i)
			start = i + 1
		case i > start && isUpper(c) && (!isUpper(name[i-1]) || i+1 < len(name) && isLower(name[i+1])):
			emit(i) // fooBar, and the last capital of APIKey's API
			start = i
		case i > start && isDigit(c) && !isDigit(name[i-1]):
			emit(i)
			start = i
		}
	}
	emit(len(name))
	return words
}

func isUpper(c byte) bool { return c >= 'A' && c <= 'Z' }
func isLower(c byte) bool { return c >= 'a' && c <= 'z' }
func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isDigits(s string) bool {
	for i := range len(s) {
		if !isDigit(s[i]) {
			return false
		}
	}
	return true
}

// isPasswordWord: also joined ones such as dbpassword.
func isPasswordWord(w string) bool {
	for _, stem := range [...]string{"password", "passwd", "passphrase", "passcode", "passwords"} {
		if strings.HasSuffix(w, stem) {
			return true
		}
	}
	return w == "pwd" || w == "htpasswd" || w == "sshpass"
}

func isSecretNoun(w string) bool {
	for _, stem := range [...]string{"token", "secret", "apikey", "accesskey", "secretkey", "privatekey", "accountkey", "connectionstring", "dockerconfigjson", "dockercfg"} {
		if strings.HasSuffix(w, stem) {
			return true
		}
	}
	switch w {
	case "tokens", "credential", "credentials", "creds", "apikeys", "kubeconfig":
		return true
	}
	return false
}

// secretPairs are two words that name a secret together.
var secretPairs = setOf("api key", "api keys", "access key", "secret key", "private key", "account key", "shared key",
	"encryption key", "signing key", "master key", "session key", "auth key", "connection string", "secret id", "storage key", "license key")

// holdsValue are words behind a noun that do not change what it is.
var holdsValue = setOf("value", "values", "data", "string", "text", "hash", "base", "plaintext", "content", "contents", "raw",
	"json", "yaml", "pem", "b", "plain", "encoded", "clear")

// aboutSecrets are last words of names that say something about a secret.
var aboutSecrets = setOf("name", "names", "ref", "refs", "reference", "references", "selector", "selectors", "namespace", "namespaces",
	"path", "paths", "file", "files", "filename", "dir", "directory", "mount", "policy", "policies", "type", "types", "kind", "ttl",
	"seconds", "minutes", "duration", "timeout", "timestamp", "expiration", "expiry", "expires", "age", "time", "length", "size",
	"count", "limit", "enabled", "disabled", "required", "version", "provider", "providers", "mode", "algorithm", "format",
	"audience", "audiences", "issuer", "url", "uri", "endpoint", "host", "field", "env", "requests", "request", "review", "reviews",
	"class", "store", "stores", "rotation", "status", "reason", "message", "controller", "cleaner", "manager", "template", "templates",
	"id", "ids", "prefix", "suffix", "source", "sources", "arn", "alias", "index", "ring", "usage", "usages", "annotation", "label", "labels",
	"lookup", "auth", "authentication", "authenticator", "generator", "attempts", "changed")

// sparedNames would be secrets by the rules above but hold references or objects
// of Kubernetes' own, joined in lower case.
var sparedNames = setOf("secrets", "imagepullsecrets", "secretsstore", "serviceaccounttoken", "automountserviceaccounttoken",
	"passwordkey", "tokenkey", "sourcesecret", "imagepullsecret", "pullsecret", "tlssecret", "credentialsecret", "existingsecret",
	"kubernetes", "bootstraptoken", "serviceaccounttokens", "publickeytoken", "secretref")

// describesSecret tells whether a key below one that names a secret says where
// or what it is, rather than holding it: a volume's secret.secretName and
// secret.items[].path, a certificate's privateKey.algorithm.
func describesSecret(key []byte) bool {
	var buf [16]string
	words := nameWords(buf[:0], key[max(0, len(key)-maxName):])
	return len(words) > 0 && describing[words[len(words)-1]]
}

var describing = setOf("name", "names", "namespace", "kind", "version", "group", "key", "uid", "path", "policy", "type",
	"algorithm", "encoding", "format", "mode", "class", "ref", "selector", "provider", "file", "filename", "rotation")

func setOf(list ...string) map[string]bool {
	set := make(map[string]bool, len(list))
	for _, s := range list {
		set[s] = true
	}
	return set
}

// paramWords: a query parameter whose name holds one of these is a secret.
var paramWords = [...]string{"token", "passw", "pwd", "secret", "key", "auth", "sig", "cred", "jwt", "code_verifier", "session"}

// secretParam tells whether a query parameter is named after a secret, in any
// case. It is broader than secretKey: no parameter of the Kubernetes API is
// named so.
func secretParam(name string) bool {
	name = strings.ToLower(name)
	for _, w := range paramWords {
		if strings.Contains(name, w) {
			return true
		}
	}
	return false
}
