package convert

import "bytes"

// Here is what is a secret by what stands before it: the value of a name, of a flag, of
// a word of SQL, the password in a URL; and where such a value ends.

// dashed finds a private key in PEM, or a flag whose value is the next word.
func dashed(s []byte, i int) (span, bool) {
	if i > 0 && s[i-1] == '-' {
		return span{}, false
	}
	if bytes.HasPrefix(s[i:], []byte("-----BEGIN ")) {
		return pem(s, i)
	}
	name := i + 1
	if name < len(s) && s[name] == '-' {
		name++
	}
	end := run(s[:min(len(s), name+maxName)], name, isNameByte)
	value := run(s, end, isBlank)
	if value == end || value >= len(s) || s[value] == '-' {
		return span{}, false
	}
	flag := s[name:end]
	switch {
	case name == i+1 && string(flag) == "p" && bytes.HasSuffix(bytes.TrimRight(s[:i], " "), []byte("sshpass")):
		return valueAfter(s, value)
	case (string(flag) == "u" || string(flag) == "user" || string(flag) == "proxy-user") && bytes.Contains(s[max(0, i-256):i], []byte("curl")):
		v, ok := valueAfter(s, value)
		colon := bytes.IndexByte(s[v.from:v.to], ':')
		return span{v.from + colon + 1, v.to}, ok && colon >= 0
	case secretKey(flag):
		return valueAfter(s, value)
	}
	return span{}, false
}

// assigned finds the value behind = or :, if what stands before it names a
// secret, and the password in a URL.
func assigned(s []byte, i, after int) (span, bool) {
	if s[i] == ':' && bytes.HasPrefix(s[i:], []byte("://")) {
		return userinfo(s, i+3)
	}
	// The name, and whether it was quoted: "password": or \"password\":.
	nameEnd := i
	for nameEnd > after && isBlank(s[nameEnd-1]) && i-nameEnd < 4 {
		nameEnd--
	}
	quoted := false
	for nameEnd > after && (s[nameEnd-1] == '"' || s[nameEnd-1] == '\'' || s[nameEnd-1] == '\\') {
		nameEnd--
		quoted = true
	}
	if nameEnd != i && !quoted {
		return span{}, false // `name = value` is too common a way to compare
	}
	name := nameEnd
	for name > after && isNameByte(s[name-1]) && nameEnd-name < maxName && !isEscape(s, name-1) {
		name--
	}
	// A path before the last dot or slash is no part of the name.
	key := bytes.TrimLeft(s[name:nameEnd], "-")
	if quoted && string(key) == "value" || !quoted && string(key) == "Value" {
		return pairedValue(s, name, i)
	}
	if !secretKey(key) && (string(bytes.ToLower(key)) != "sig" || s[i] != '=') {
		return span{}, false
	}
	value := run(s, i+1, isBlank)
	if s[i] == '=' && value != i+1 {
		return span{}, false // an empty value
	}
	if s[i] == '=' || quoted {
		if s[i] == ':' && value < len(s) && (s[value] == '{' || s[value] == '[') {
			return span{}, false // its parts have names of their own
		}
		return valueAfter(s, value)
	}
	if refused, ok := refusedValue(s, value); ok {
		return valueAfter(s, refused)
	}
	// `password: x` without quotes is YAML only at the start of a line; elsewhere
	// it is prose, as is a plain word. This is asked first, so that a text of
	// nothing but `password:` is read once.
	lineStart := bytes.TrimRight(s[:name], " -")
	if len(lineStart) > 0 && lineStart[len(lineStart)-1] != '\n' && !bytes.HasSuffix(lineStart, []byte(`\n`)) {
		return span{}, false
	}
	found, ok := valueAfter(s, value)
	return found, ok && mixed(s[found.from:found.to]) && oneWord(s, found.to)
}

// maxName bounds how long a name is read.
const maxName = 128

// pairedValue finds the value of a pair of name and value, which in texts are
// environment variables: an error about a Job or a StatefulSet quotes its whole
// pod template, as JSON or as Go prints it. name is where the word value begins.
func pairedValue(s []byte, name, i int) (span, bool) {
	before := s[max(0, name-2*maxName):name]
	at := max(bytes.LastIndex(before, []byte("name")), bytes.LastIndex(before, []byte("Name")))
	value := run(s, i+1, isBlank)
	if at < 0 || bytes.ContainsAny(before[at:], "{}[]") || value >= len(s) || s[value] != '"' && s[value] != '\\' {
		return span{}, false
	}
	return valueAfter(s, value)
}

// refusedValue skips what the API server puts before a value that it refuses:
// `spec.password: Invalid value: "x": …`.
func refusedValue(s []byte, i int) (value int, ok bool) {
	for _, words := range [...]string{"Invalid value: ", "Unsupported value: ", "Duplicate value: "} {
		if bytes.HasPrefix(s[i:], []byte(words)) {
			return i + len(words), true
		}
	}
	return i, false
}

// quotedPassword finds the string in SQL's PASSWORD '…' and IDENTIFIED BY '…'.
func quotedPassword(s []byte, i int) (span, bool) {
	before := bytes.TrimRight(s[max(0, i-64):i], " ")
	if len(before) == 0 || s[i-1] != ' ' {
		return span{}, false
	}
	word := len(before)
	for word > 0 && isWord(before[word-1]) {
		word--
	}
	by := bytes.EqualFold(before[word:], []byte("by")) && hasSuffixFold(bytes.TrimRight(before[:word], " "), "identified")
	if !by && !bytes.EqualFold(before[word:], []byte("password")) {
		return span{}, false
	}
	return valueAfter(s, i)
}

// oneWord tells whether a line ends at i.
func oneWord(s []byte, i int) bool {
	return i >= len(s) || s[i] == '\n' || s[i] == '\r' || s[i] == '\\' || s[i] == '"'
}

// userinfo finds the password of a URL, or a token in place of the user.
func userinfo(s []byte, i int) (span, bool) {
	end := i
	at := -1
	for ; end < len(s) && end-i < 1024; end++ {
		c := s[end]
		if c == '@' {
			at = end
		}
		if c == '"' || c == '\'' || c == '\\' || c <= ' ' || (c == '/' || c == '?' || c == '#') && !inPassword(s[i:end]) {
			break
		}
	}
	if at <= i || bytes.HasPrefix(s[at+1:], []byte("sha256:")) { // an image's digest
		return span{}, false
	}
	if colon := bytes.IndexByte(s[i:at], ':'); colon >= 0 {
		v := span{i + colon + 1, at}
		return v, !isReference(s[v.from:v.to])
	}
	return span{i, at}, at-i >= 16 && bytes.ContainsAny(s[i:at], "0123456789")
}

// inPassword tells whether a URL's authority so far ends within a password, which
// people write with a slash in it, rather than in a port or an address.
func inPassword(authority []byte) bool {
	colon := bytes.LastIndexByte(authority, ':')
	if colon < 0 || bytes.IndexByte(authority, '@') >= 0 {
		return false
	}
	v := authority[colon+1:]
	return run(v, 0, isDigit) < len(v) && bytes.IndexByte(v, ']') < 0
}

// valueAfter is the value that begins at i: quoted, or up to where a shell, a
// query or a list would end it.
func valueAfter(s []byte, i int) (span, bool) {
	from := i
	for from < len(s) && s[from] == '\\' {
		from++
	}
	if from < len(s) && (s[from] == '"' || s[from] == '\'') {
		quote := s[from]
		from++
		to := from
		for to < len(s) && s[to] != quote {
			if s[to] == '\\' && to+1 < len(s) && s[to+1] != quote {
				to++ // an escape inside the value
			}
			to++
		}
		to = min(to, len(s))
		for to > from && s[to-1] == '\\' {
			to--
		}
		return keepable(s, from, to)
	}
	if bytes.HasPrefix(s[i:], []byte("[REDACTED")) {
		return span{}, false // redacted before
	}
	to := i
	if bytes.HasPrefix(s[i:], []byte("$(")) || bytes.HasPrefix(s[i:], []byte("${")) {
		to = run(s, i+2, isWord) + 1 // a reference, with its closing bracket
	}
	for to < len(s) && !endsValue(s[to]) {
		to++
	}
	return keepable(s, i, min(to, len(s)))
}

// keepable refuses what is no secret although it stands in the place of one.
func keepable(s []byte, from, to int) (span, bool) {
	v := s[from:to]
	switch string(v) {
	case "", "true", "false", "null", "none", "nil", "yes", "no":
		return span{}, false
	}
	return span{from, to}, !isMarker(v) && !isReference(v)
}

// isReference: $NAME, ${NAME} and $(NAME) lead to a value and are none.
func isReference(v []byte) bool {
	if len(v) < 2 || v[0] != '$' {
		return false
	}
	v = v[1:]
	if v[0] == '{' && v[len(v)-1] == '}' || v[0] == '(' && v[len(v)-1] == ')' {
		v = v[1 : len(v)-1]
	}
	return run(v, 0, isWord) == len(v)
}

func endsValue(c byte) bool {
	switch c {
	case ' ', '\t', '\n', '\r', '"', '\'', '&', ';', ',', ')', '}', ']', '|', '>', '<', '\\', '`':
		return true
	}
	return false
}
