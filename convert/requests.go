package convert

import (
	"encoding/binary"
	"math/bits"
	"strings"

	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
)

// knownRequests remembers what URIs say. The same few come over and over, such as
// those of leases, and parsing one took a tenth of all that is done to an event. It
// belongs to one Batch.
type knownRequests struct {
	table *[1 << requestsBits]knownRequest

	// attrs and user are of the event at hand.
	attrs authorizer.AttributesRecord
	user  user.DefaultInfo
}

// knownRequest is what parseRequest says of a URI and a verb, and of nothing else.
type knownRequest struct {
	uri, verb string
	attrs     authorizer.AttributesRecord
}

// requestsBits bounds the table, since URIs come from the input; where two requests
// fall on one place, the later one has it. Longer URIs and verbs than these are not
// kept: with that, a table takes 1 MB at most.
const requestsBits, maxKnownURI, maxKnownVerb = 10, 256, 32

// attributes rebuilds what the API server matched its policy on; they are valid until
// the next call. The error holds nothing of the URI.
func (k *knownRequests) attributes(e *Event) (*authorizer.AttributesRecord, error) {
	request, err := k.find(e.RequestURI, e.Verb)
	if err != nil {
		return nil, err
	}
	k.attrs = *request
	// A nil *DefaultInfo in the interface would not be a nil user to upstream.
	if !e.User.anonymous() {
		k.user = user.DefaultInfo{Name: e.User.Username, UID: e.User.UID, Groups: e.User.Groups}
		k.attrs.User = &k.user
	}
	return &k.attrs, nil
}

// find is parseRequest, as a rule from memory.
func (k *knownRequests) find(uri, verb string) (*authorizer.AttributesRecord, error) {
	if uri == "" || len(uri) > maxKnownURI || len(verb) > maxKnownVerb {
		return parseRequest(uri, verb)
	}
	if k.table == nil {
		k.table = new([1 << requestsBits]knownRequest)
	}
	known := &k.table[placeOfRequest(uri, verb)]
	if known.uri == uri && known.verb == verb {
		return &known.attrs, nil
	}
	// Copies: the strings are views of the chunk, and the attributes of these.
	uri, verb = strings.Clone(uri), strings.Clone(verb)
	attrs, err := parseRequest(uri, verb)
	if err != nil {
		return nil, err
	}
	*known = knownRequest{uri, verb, *attrs}
	return &known.attrs, nil
}

// kept is what the next chunk may use again: nothing that points into this one.
func (k *knownRequests) kept() knownRequests { return knownRequests{table: k.table} }

// placeOfRequest is where in the table a request stands. URIs are alike at both ends,
// so all of one counts.
func placeOfRequest(uri, verb string) uint64 {
	const prime = 0x9e3779b97f4a7c15
	h := uint64(len(uri)<<8 | len(verb))
	b := bytesOf(uri)
	for ; len(b) >= 8; b = b[8:] {
		h = bits.RotateLeft64((h^binary.LittleEndian.Uint64(b))*prime, 29)
	}
	var last uint64
	for _, c := range b {
		last = last<<8 | uint64(c)
	}
	if verb != "" {
		last ^= uint64(verb[0]) << 56
	}
	return ((h ^ last) * prime) >> (64 - requestsBits)
}
