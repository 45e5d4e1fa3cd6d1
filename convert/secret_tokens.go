package convert

import (
	"bytes"
	"encoding/base64"
)

// Here is what is a secret by its own form: tokens of a kind that says what it is, and
// private keys. What is one by the name before it is in secret_values.go.

// tokenPrefix is a kind of token that says what it is.
type tokenPrefix struct {
	prefix string
	least  int // bytes behind the prefix
}

// tokenPrefixes are published by who issues them.
var tokenPrefixes = []tokenPrefix{
	{"AKIA", 16}, {"ASIA", 16}, // AWS access key ids
	{"AIza", 30},  // Google API key
	{"ya29.", 20}, // Google OAuth
	{"ghp_", 20}, {"gho_", 20}, {"ghu_", 20}, {"ghs_", 20}, {"ghr_", 20}, {"github_pat_", 20},
	{"glpat-", 16},                                                            // GitLab
	{"xoxb-", 10}, {"xoxp-", 10}, {"xoxa-", 10}, {"xoxr-", 10}, {"xoxs-", 10}, // Slack
	{"sk_live_", 10}, {"rk_live_", 10}, // Stripe
	{"npm_", 30}, {"pypi-", 40},
	{"hvs.", 20}, {"hvb.", 20}, // Vault
	{"SG.", 40},     // SendGrid
	{"dop_v1_", 40}, // DigitalOcean
	{"sha256~", 30}, // OpenShift OAuth
	{"dckr_pat_", 20},
}

// byFirstByte are the prefixes that begin with a byte.
var byFirstByte = func() (by [256][]tokenPrefix) {
	for _, p := range tokenPrefixes {
		by[p.prefix[0]] = append(by[p.prefix[0]], p)
	}
	return by
}()

func prefixed(s []byte, i int) (span, bool) {
	for _, p := range byFirstByte[s[i]] {
		if !bytes.HasPrefix(s[i:], []byte(p.prefix)) {
			continue
		}
		if end := run(s, i, isTokenByte); end-i >= len(p.prefix)+p.least {
			return span{i, end}, true
		}
	}
	return span{}, false
}

// jwt finds three parts in base64url; the first, a JSON object, begins with eyJ.
func jwt(s []byte, i int) (span, bool) {
	end := i
	for part := range 3 {
		start := end
		end = run(s, end, isBase64URL)
		if part < 2 && (end-start < 4 || end >= len(s) || s[end] != '.') {
			return span{}, false
		}
		if part < 2 {
			end++
		}
	}
	return span{i, end}, true
}

// scheme finds the credentials of HTTP's Bearer and Basic.
func scheme(s []byte, i int) (span, bool) {
	rest := s[i:]
	switch {
	case hasPrefixFold(rest, "bearer"):
		i += len("bearer")
	case hasPrefixFold(rest, "basic"):
		i += len("basic")
	default:
		return span{}, false
	}
	start := run(s, i, isBlank)
	end := run(s, start, isCredentialByte)
	if start == i || end-start < 8 || !mixed(s[start:end]) {
		return span{}, false
	}
	if len(rest) > 1 && rest[1]|0x20 == 'a' { // basic: user and password in base64
		plain, err := base64.RawStdEncoding.DecodeString(string(bytes.TrimRight(s[start:end], "=")))
		if err != nil || !bytes.ContainsRune(plain, ':') {
			return span{}, false
		}
	}
	return span{start, end}, true
}

// mixed tells words from credentials: not only lower-case letters.
func mixed(s []byte) bool {
	for _, c := range s {
		if !isLower(c) {
			return true
		}
	}
	return false
}

// pem finds a private key, whole; certificates and public keys are evidence.
func pem(s []byte, i int) (span, bool) {
	const begin, private, end = "-----BEGIN ", "PRIVATE KEY", "-----END "
	label, _, _ := bytes.Cut(s[i+len(begin):min(len(s), i+len(begin)+64)], []byte("-----"))
	if !bytes.Contains(label, []byte(private)) { // PGP says PRIVATE KEY BLOCK
		return span{}, false
	}
	at := bytes.Index(s[i+len(begin):], []byte(end))
	if at < 0 {
		return span{i, len(s)}, true
	}
	at += i + len(begin) + len(end)
	if close := bytes.Index(s[at:min(len(s), at+64)], []byte("-----")); close >= 0 {
		return span{i, at + close + 5}, true
	}
	return span{i, len(s)}, true
}
