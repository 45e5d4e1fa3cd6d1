package convert

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// requestsOfEvents are the verbs and URIs of everything that was recorded, and of
// what tests and fuzzers think of.
func requestsOfEvents(t testing.TB) (requests []Event) {
	t.Helper()
	texts := append(gunzipLines(t, "../test/bench/testdata/cluster-1.37.2.log.gz"), capturedEvents(t)...)
	for _, text := range texts {
		b := packed(t, text)
		requests = append(requests, Event{Verb: string(stringAt(b, "verb")), RequestURI: string(stringAt(b, "requestURI"))})
	}
	for _, uri := range []string{"", "/", "//", "/api", "/api/v1/watch", "/api/v1/watch/pods", "/api/v1/pods", "/api/v1/pods?limit=x&fieldSelector=metadata.name%3Da",
		"/api/v1/pods?fieldSelector=metadata.name%3Da", "/api/v1/pods?fieldSelector=metadata.name%3Db", "/api/v1/namespaces/a/secrets/s", "/api/v1/namespaces/a/secrets/s/",
		"/api/v1/namespaces/%61/secrets/s", "//%2e/%zz", "/%zz?token=SECRET", "/\x7fSECRET", "b:/healthz", "SECRET", "http://[SECRET/", "/api/v1/namespaces/a/pods\x00", "/healthz?x"} {
		for _, verb := range []string{"get", "list", "watch", "create", "delete", "GET", "", "proxy", strings.Repeat("v", maxKnownVerb), strings.Repeat("v", maxKnownVerb+1)} {
			requests = append(requests, Event{Verb: verb, RequestURI: uri})
		}
	}
	dice := newDice(1)
	for range 2000 {
		requests = append(requests, Event{Verb: "get", RequestURI: dice.target("GET")})
	}
	return requests
}

// TestKnownRequestsAreAsParsed: which rules apply must not depend on what came before.
func TestKnownRequestsAreAsParsed(t *testing.T) {
	requests := requestsOfEvents(t)
	order := rand.New(rand.NewPCG(1, 2))
	var known knownRequests
	hits := 0
	for round := range 2 {
		for i := range requests {
			e := requests[i]
			if i%3 > 0 {
				e.User = User{Username: fmt.Sprint("u", i), UID: "id", Groups: []string{fmt.Sprint("g", i)}}
			}
			want, wantErr := parseRequest(e.RequestURI, e.Verb)
			if known.table != nil {
				if place := known.table[placeOfRequest(e.RequestURI, e.Verb)]; place.uri == e.RequestURI && place.verb == e.Verb {
					hits++
				}
			}
			got, err := known.attributes(&e)
			if (err == nil) != (wantErr == nil) || err != nil && err.Error() != wantErr.Error() {
				t.Fatalf("round %d: %q %q gives %v, parsed %v", round, e.Verb, e.RequestURI, err, wantErr)
			}
			if err != nil {
				continue
			}
			requireUser(t, got.GetUser(), &e.User)
			got.User = nil
			if !reflect.DeepEqual(got, want) {
				t.Fatalf("round %d: %q %q gives %+v, parsed %+v", round, e.Verb, e.RequestURI, got, want)
			}
			got.Resource = "spoilt" // what is handed out is no part of what is remembered
		}
		order.Shuffle(len(requests), func(i, k int) { requests[i], requests[k] = requests[k], requests[i] })
	}
	if hits < len(requests) {
		t.Errorf("%d hits in %d look-ups: the test shows too little", hits, 2*len(requests))
	}
}

// requireUser: the user is the event's, not one who asked the same before.
func requireUser(t *testing.T, got interface {
	GetName() string
	GetUID() string
	GetGroups() []string
}, want *User) {
	t.Helper()
	if want.anonymous() {
		if got != nil {
			t.Fatalf("somebody, %+v, where the event has nobody", got)
		}
		return
	}
	if got == nil || got.GetName() != want.Username || got.GetUID() != want.UID || !reflect.DeepEqual(got.GetGroups(), want.Groups) {
		t.Fatalf("user %+v, want %+v", got, want)
	}
}

// TestRequestsOnOnePlaceAreToldApart: pairs that fall on one place of the table.
func TestRequestsOnOnePlaceAreToldApart(t *testing.T) {
	byPlace := map[uint64][]Event{}
	for i := range 20_000 {
		e := Event{Verb: []string{"get", "create", "delete"}[i%3], RequestURI: fmt.Sprintf("/api/v1/namespaces/n%d/pods/p%d", i%7, i)}
		place := placeOfRequest(e.RequestURI, e.Verb)
		byPlace[place] = append(byPlace[place], e)
	}
	if len(byPlace) != 1<<requestsBits {
		t.Errorf("%d requests share %d places of %d", 20_000, len(byPlace), 1<<requestsBits)
	}
	// A URI with two verbs: the verb is part of the request, whatever the place.
	const uri = "/api/v1/pods?fieldSelector=metadata.name%3Da"
	for _, verb := range []string{"get", "gut"} {
		byPlace[0] = append(byPlace[0], Event{Verb: verb, RequestURI: uri})
	}
	if placeOfRequest(uri, "get") != placeOfRequest(uri, "gut") {
		t.Error("two verbs no longer fall on one place: take others")
	}
	var known knownRequests
	for _, all := range byPlace {
		for range 2 {
			for i := range all {
				got, err := known.attributes(&all[i])
				want, wantErr := parseRequest(all[i].RequestURI, all[i].Verb)
				if err != nil || wantErr != nil || !reflect.DeepEqual(got, want) {
					t.Fatalf("%+v gives %+v, %v; parsed %+v, %v", all[i], got, err, want, wantErr)
				}
			}
		}
	}
}

// TestAnEmptyPlaceIsNoRequest: an event with neither a URI nor a verb must not be
// taken for one whose URI was read.
func TestAnEmptyPlaceIsNoRequest(t *testing.T) {
	known := knownRequests{table: new([1 << requestsBits]knownRequest)}
	if attrs, err := known.attributes(&Event{}); err == nil {
		t.Errorf("no URI gives %+v", attrs)
	}
}

// TestKnownRequestsAreBounded: what comes from the input must not fill memory.
func TestKnownRequestsAreBounded(t *testing.T) {
	var known knownRequests
	size := func() (n int) {
		for i := range known.table {
			r := &known.table[i]
			n += int(reflect.TypeFor[knownRequest]().Size()) + len(r.uri) + len(r.verb)
			if r.attrs.Path != "" {
				n += len(r.attrs.Path) + len(r.attrs.Name) // unescaped, they are text of their own
			}
		}
		return n
	}
	for i := range 50_000 {
		uri := fmt.Sprintf("/api/v1/namespaces/%d/%s", i, strings.Repeat("%61", 10+i%100))
		if _, err := known.attributes(&Event{Verb: strings.Repeat("v", i%50), RequestURI: uri}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range known.table {
		if r := &known.table[i]; len(r.uri) > maxKnownURI || len(r.verb) > maxKnownVerb {
			t.Fatalf("%q %q is remembered", r.verb, r.uri)
		}
	}
	if n := size(); n > 1<<20 {
		t.Errorf("%d bytes are remembered", n)
	}
}
