package convert

import (
	"net/url"
	"strings"
	"unsafe"

	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// envelope redacts everything of an event but its bodies. The policy has been
// applied before, since it goes by the requestURI as it was.
func (x *redactor) envelope(e *Event, attrs *authorizer.AttributesRecord) {
	e.RequestURI = x.uri(e.RequestURI, attrs)
	e.UserAgent = x.textOf(e.UserAgent)
	if !isUUID(e.AuditID) { // the client may choose it
		e.AuditID = x.textOf(e.AuditID)
	}
	x.user(&e.User)
	if e.ImpersonatedUser != nil {
		x.user(e.ImpersonatedUser)
	}
	if e.ObjectRef != nil { // it repeats what stands in the URI
		e.ObjectRef.Name = x.textOf(e.ObjectRef.Name)
		e.ObjectRef.Namespace = x.textOf(e.ObjectRef.Namespace)
	}
	for i := range e.Annotations {
		x.annotation(&e.Annotations[i])
	}
	if s := e.ResponseStatus; s != nil {
		if mayQuote(s.Reason) && x.quoting() {
			s.Message = x.markerFor("responseStatus.message", s.Message)
		} else {
			s.Message = x.textOf(s.Message)
		}
	}
}

// user redacts an identity: names and groups as text, since an authenticator may
// take them from a token it did not check, and the claims in extra.
func (x *redactor) user(u *User) {
	u.Username, u.UID = x.textOf(u.Username), x.textOf(u.UID)
	for i, group := range u.Groups {
		u.Groups[i] = x.textOf(group)
	}
	for _, extra := range u.Extra {
		if keepsExtra(x.rules.file.KeepUserExtra, extra.Key) {
			continue
		}
		for i, v := range extra.Values {
			extra.Values[i] = x.markerFor("user.extra/"+extra.Key, v)
		}
	}
}

// keepsExtra compares without regard to case: a key that came through a header,
// as from an aggregating API server, is in lower case.
func keepsExtra(list []string, key string) bool {
	for _, pattern := range list {
		if matchesAny([]string{strings.ToLower(pattern)}, strings.ToLower(key)) {
			return true
		}
	}
	return false
}

func (x *redactor) annotation(a *Annotation) {
	switch {
	case matchesAny(x.rules.file.KeepAnnotations, a.Key):
	case x.rules.strict:
		a.Value = x.markerFor("annotations/"+a.Key, a.Value)
	case strings.HasPrefix(a.Key, patchAnnotations):
		a.Value = x.patchAnnotation(a.Value)
	default:
		a.Value = x.textOf(a.Value)
	}
}

// uri redacts a requestURI. Where the request could not be told from it, every
// value of the query goes, as for a proxy.
func (x *redactor) uri(uri string, attrs *authorizer.AttributesRecord) string {
	proxied := attrs == nil || isProxy(attrs)
	path, query, hasQuery := strings.Cut(uri, "?")
	switch {
	case x.rules.strict && (attrs == nil || strings.Contains(path, "//")):
		path = x.proxyPath(path, "") // what is proxied there, if anything is, cannot be told
	case x.rules.strict && proxied:
		path = x.proxyPath(path, attrs.Name)
	default:
		path = x.pathText(path)
	}
	if !hasQuery {
		return path
	}
	runs := attrs != nil && (attrs.Subresource == "exec" || attrs.Subresource == "attach")
	parameters := strings.Split(query, "&")
	var args arguments
	for i, parameter := range parameters {
		name, value, hasValue := strings.Cut(parameter, "=")
		if !hasValue {
			name, value = "", parameter
		}
		name, plain := unescaped(name), unescaped(value)
		isSecret := proxied || secretParam(name) || isNested(plain)
		if runs {
			isArgument := name == "command" && args.next(bytesOf(plain))
			isSecret = isSecret || isArgument || x.rules.strict && !isStreamOption(name)
		}
		redacted := ""
		if isSecret {
			redacted = x.markerFor("requestURI/"+name, plain)
		} else {
			redacted = x.textOf(plain)
		}
		if redacted != plain {
			parameters[i] = strings.TrimSuffix(parameter, value) + url.QueryEscape(redacted)
		}
	}
	return path + "?" + strings.Join(parameters, "&")
}

// unescaped is s without percent escapes, or s if they are broken.
func unescaped(s string) string {
	if plain, err := url.QueryUnescape(s); err == nil {
		return plain
	}
	return s
}

// isNested tells whether a secret stands behind another layer of escapes, as in
// a URL inside a URL.
func isNested(s string) bool {
	for range 3 {
		inner := unescaped(s)
		if inner == s || !strings.Contains(s, "%") {
			return false
		}
		if s = inner; len(secretSpans(nil, bytesOf(s))) > 0 {
			return true
		}
	}
	return false
}

// isStreamOption: the parameters of exec and attach beside the command.
// Source: k8s.io/api v0.37.2, core/v1 PodExecOptions.
func isStreamOption(name string) bool {
	switch name {
	case "stdin", "stdout", "stderr", "tty", "container":
		return true
	}
	return false
}

// pathText redacts a path as text, and what is escaped in it.
func (x *redactor) pathText(path string) string {
	path = x.textOf(path)
	if !strings.Contains(path, "%") {
		return path
	}
	segments := strings.Split(path, "/")
	for i, segment := range segments {
		plain, err := url.PathUnescape(segment)
		if err != nil {
			continue
		}
		if redacted := x.textOf(plain); redacted != plain {
			segments[i] = url.PathEscape(redacted)
		}
	}
	return strings.Join(segments, "/")
}

func isProxy(attrs *authorizer.AttributesRecord) bool {
	return attrs.Subresource == "proxy" || attrs.Verb == "proxy"
}

// proxyPath replaces what stands behind the proxy in a path: it belongs to the
// program there, which may take tokens in it. name is the proxied object's.
func (x *redactor) proxyPath(path, name string) string {
	before, tail, found := cutProxy(path, name)
	if plain, err := url.PathUnescape(path); !found && err == nil {
		// The word itself may be escaped, or the name.
		before, tail, found = cutProxy((&url.URL{Path: plain}).EscapedPath(), name)
	}
	if !found || tail == "" {
		return x.pathText(path)
	}
	plain, err := url.PathUnescape(tail)
	if err != nil {
		plain = tail
	}
	if isMarker(bytesOf(plain)) {
		return path
	}
	return before + url.PathEscape(x.markerFor("requestURI", plain))
}

// cutProxy cuts a path behind the subresource proxy: the one of the object, since
// the namespace may be called proxy too.
func cutProxy(path, name string) (before, tail string, found bool) {
	for _, sep := range [...]string{"/" + name + "/proxy/", "/proxy/"} {
		if before, tail, found = strings.Cut(path, sep); found {
			return before + sep, tail, true
		}
	}
	return path, "", false
}

// bytesOf is s without copying it; the bytes must not be changed.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
