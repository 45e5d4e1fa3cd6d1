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
	e.AuditID = x.textOf(e.AuditID) // the client may choose it
	x.userExtra(&e.User)
	if e.ImpersonatedUser != nil {
		x.userExtra(e.ImpersonatedUser)
	}
	for i := range e.Annotations {
		x.annotation(&e.Annotations[i])
	}
	if s := e.ResponseStatus; s != nil {
		if mayQuote(s.Reason) && (x.program.secret || x.rules.strict) {
			s.Message = x.markerFor("responseStatus.message", s.Message)
		} else {
			s.Message = x.textOf(s.Message)
		}
	}
}

func (x *redactor) userExtra(u *User) {
	for _, extra := range u.Extra {
		if matchesAny(x.rules.file.KeepUserExtra, extra.Key) {
			continue
		}
		for i, v := range extra.Values {
			extra.Values[i] = x.markerFor("user.extra/"+extra.Key, v)
		}
	}
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
	if x.rules.strict && attrs != nil && proxied {
		path = x.proxyPath(path)
	} else {
		path = x.textOf(path)
	}
	if !hasQuery {
		return path
	}
	runs := attrs != nil && (attrs.Subresource == "exec" || attrs.Subresource == "attach")
	parameters := strings.Split(query, "&")
	flagged := false // the command before is a flag whose value comes next
	for i, parameter := range parameters {
		name, value, hasValue := strings.Cut(parameter, "=")
		if !hasValue {
			name, value = "", parameter
		}
		name, plain := unescaped(name), unescaped(value)
		isCommand := runs && name == "command"
		whole := proxied || secretParam(name) || isCommand && (x.rules.strict || flagged && !isFlag(bytesOf(plain)))
		if redacted := x.parameter(name, plain, whole); redacted != plain {
			parameters[i] = strings.TrimSuffix(parameter, value) + url.QueryEscape(redacted)
		}
		flagged = isCommand && isFlag(bytesOf(plain)) && secretFlag(bytesOf(plain))
	}
	return path + "?" + strings.Join(parameters, "&")
}

// parameter redacts one value of a query: whole, or what looks like a secret in it.
func (x *redactor) parameter(name, value string, whole bool) string {
	if whole {
		return x.markerFor("requestURI/"+name, value)
	}
	return x.textOf(value)
}

// unescaped is a part of a query as its reader would see it; what is no escape
// stays as it is.
func unescaped(s string) string {
	if plain, err := url.QueryUnescape(s); err == nil {
		return plain
	}
	return s
}

func isProxy(attrs *authorizer.AttributesRecord) bool {
	return attrs.Subresource == "proxy" || attrs.Verb == "proxy"
}

// proxyPath replaces what stands behind the proxy in a path: it belongs to the
// program there, which may take tokens in it.
func (x *redactor) proxyPath(path string) string {
	before, tail, found := strings.Cut(path, "/proxy/")
	if !found || tail == "" {
		return x.textOf(path)
	}
	plain, err := url.PathUnescape(tail)
	if err != nil {
		plain = tail
	}
	if isMarker(bytesOf(plain)) {
		return path
	}
	return before + "/proxy/" + url.PathEscape(x.markerFor("requestURI", plain))
}

// bytesOf is s without copying it; the bytes must not be changed.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }
