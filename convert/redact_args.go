package convert

import "bytes"

// arguments follows the arguments of a command, which stand apart from each other.
type arguments struct {
	secret        bool // the last one was a flag whose value is a secret
	user          bool // it was a flag for a user and a password
	curl, sshpass bool // a program that was named before
}

// next tells whether the next argument is a secret.
func (a *arguments) next(s []byte) (secret bool) {
	if !isFlag(s) {
		secret = a.secret || a.user && bytes.IndexByte(s, ':') >= 0
		a.curl = a.curl || bytes.HasSuffix(s, []byte("curl"))
		a.sshpass = a.sshpass || bytes.HasSuffix(s, []byte("sshpass"))
		a.secret, a.user = false, false
		return secret
	}
	flag := string(s)
	a.secret = secretFlag(s) || a.sshpass && flag == "-p"
	a.user = a.curl && (flag == "-u" || flag == "--user" || flag == "--proxy-user")
	return false
}

// isFlag tells whether an argument is a flag.
func isFlag(s []byte) bool { return len(s) > 1 && s[0] == '-' }

// secretFlag tells whether a flag without a value takes a secret as the next
// argument.
func secretFlag(s []byte) bool {
	for len(s) > 0 && s[0] == '-' {
		s = s[1:]
	}
	for _, c := range s {
		if c == '=' || c == ' ' {
			return false
		}
	}
	return secretKey(s)
}
