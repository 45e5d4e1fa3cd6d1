package receiver

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestFortyMegabyteList posts what 400 events of 100 KB make, over both versions
// of HTTP, and tells what memory that takes.
func TestFortyMegabyteList(t *testing.T) {
	s := newStand(t)
	r := s.run("receiver", "fluent-bit.conf", "GOMAXPROCS=2") // as in conf/kubernetes
	_, before, err := r.Memory()
	if err != nil {
		t.Fatal(err)
	}
	for i, g := range []guest{{certificate: s.client}, {certificate: s.client, version2: true}} {
		var events []string
		for n := range 400 {
			body := fmt.Sprintf(`"requestObject":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"p","annotations":{"filling":%q}}},"responseStatus"`,
				strings.Repeat(fmt.Sprintf("%06d", n), 100_000/6))
			events = append(events, strings.NewReplacer(`"responseStatus"`, body, `"delete"`, `"create"`, `/pods/p"`, `/pods"`).Replace(event(fmt.Sprintf("large-%d-%d", i, n))))
		}
		body := list(events...)
		if len(body) < 40_000_000 {
			t.Fatalf("the list has only %d bytes", len(body))
		}
		begin := time.Now()
		response, err := s.postAs(g, r, body)
		if err != nil || response.StatusCode != http.StatusCreated {
			t.Fatalf("%d bytes: %v, %v", len(body), response, err)
		}
		took := time.Since(begin)
		s.waitRows(400, fmt.Sprintf("auditid LIKE 'large-%d-%%' AND length(requestobject) > 100000", i))
		_, most, err := r.Memory()
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d bytes over %s: %s after %v; at most %d MB resident so far, %d MB before", len(body), response.Proto, response.Status,
			took.Round(time.Millisecond), most>>20, before>>20)
	}
	// What is larger than buffer_max_size is refused, and the receiver goes on.
	response, err := s.postAs(guest{certificate: s.client}, r, list(event("large-"+strings.Repeat("x", 70<<20))))
	switch {
	case err != nil: // cut off before it had sent all
		t.Log("70 MB: ", err)
	case response.StatusCode != http.StatusRequestEntityTooLarge:
		t.Errorf("70 MB were answered %s", response.Status)
	default:
		t.Log("70 MB: ", response.Status)
	}
	if response, err := s.postAs(guest{certificate: s.client}, r, list(event("after"))); err != nil || response.StatusCode != http.StatusCreated {
		t.Errorf("after that: %v, %v", response, err)
	}
	s.waitRows(1, "auditid = 'after'")
	s.stop(r)
}
