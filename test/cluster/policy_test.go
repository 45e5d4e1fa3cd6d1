package cluster

import (
	"bytes"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"audit_s3/test/oracle"
	"audit_s3/test/rig"
)

// kind is what requests of the driver have in common in two clusters that got the
// same ones: everything but names that are made up by the cluster.
type kind struct {
	user, impersonated, verb, uri, stage string
	code                                 int64
}

// outcome is what a policy made of an event.
type outcome struct {
	level                       string
	request, response, managers bool
}

func (o outcome) String() string {
	return fmt.Sprintf("%s (request %t, response %t, managedFields %t)", o.level, o.request, o.response, o.managers)
}

var madeUp = regexp.MustCompile(`CANARY-c\d+|\[REDACTED\]|resourceVersion=\d+`)

func kindOf(e oracle.Event) kind {
	// Where redaction takes something out of a query it may write the rest in another
	// encoding.
	uri, err := url.QueryUnescape(e.RequestURI)
	if err != nil {
		uri = e.RequestURI
	}
	k := kind{user: e.User.Username, verb: e.Verb, uri: madeUp.ReplaceAllString(uri, "…"), stage: e.Stage}
	if e.ImpersonatedUser != nil {
		k.impersonated = e.ImpersonatedUser.Username
	}
	if e.ResponseStatus != nil && e.ResponseStatus.Code != nil {
		k.code = *e.ResponseStatus.Code
	}
	return k
}

func outcomeOf(e oracle.Event) outcome {
	o := outcome{level: e.Level, request: e.RequestObject != nil, response: e.ResponseObject != nil}
	o.managers = bytes.Contains(e.RequestObject, []byte(`"managedFields"`)) || bytes.Contains(e.ResponseObject, []byte(`"managedFields"`))
	return o
}

// byKind sorts the driver's events.
func byKind(events []oracle.Event) map[kind][]outcome {
	kinds := map[kind][]outcome{}
	for _, e := range events {
		if e.UserAgent == agent {
			kinds[kindOf(e)] = append(kinds[kindOf(e)], outcomeOf(e))
		}
	}
	for _, list := range kinds {
		slices.SortFunc(list, func(a, b outcome) int { return strings.Compare(a.String(), b.String()) })
	}
	return kinds
}

// TestTheReceiverDecidesAsTheAPIServer: an API server that records everything, with
// a policy at the receiver, fills the table with what another API server that runs
// the policy itself writes of the same requests.
func TestTheReceiverDecidesAsTheAPIServer(t *testing.T) {
	build, err := rig.BuildDir()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"compliance", "security", "minimal"} {
		t.Run(name, func(t *testing.T) {
			policy := filepath.Join(filepath.Dir(build), "conf", "policy", name+".yaml")
			own, _ := driven(t, options{version: "v1.37", serverPolicy: policy, withoutWebhook: true})
			events, _, err := own.logged()
			if err != nil {
				t.Fatal(err)
			}
			l, ctx := driven(t, options{version: "v1.37", serverPolicy: everythingPolicy,
				receiver: []string{"AUDIT_S3_POLICY_FILE=" + policy, "AUDIT_S3_SHUTDOWN_TIMEOUT=60s"}})
			rows, err := l.rows(ctx, `SELECT auditid, stage, verb, requesturi, useragent, level, requestobject, responseobject,
				userinfo.username, impersonateduser.username, responsestatus.code::BIGINT FROM audit`)
			if err != nil {
				t.Fatal(err)
			}
			all, _, err := l.logged()
			if err != nil {
				t.Fatal(err)
			}
			var archived []oracle.Event
			for _, row := range rows {
				archived = append(archived, eventOf(row))
			}
			want, got := byKind(events), byKind(archived)
			t.Logf("%d requests; recorded by an API server that records all: %d events of the driver; kept by the API server's policy: %d, by the receiver's: %d, of %d kinds",
				l.driver.sent, len(count(byKind(all))), len(count(want)), len(count(got)), len(got))
			lines, caps := differences(want, got)
			for _, line := range lines {
				t.Error(line)
			}
			for _, line := range caps {
				t.Log("a cap: ", line)
			}
			if len(got) < 20 {
				t.Errorf("only %d kinds of requests were kept", len(got))
			}
		})
	}
}

// count makes one list of all.
func count(kinds map[kind][]outcome) (all []outcome) {
	for _, list := range kinds {
		all = append(all, list...)
	}
	return all
}

// differences are those between what the API server's policy keeps and what the
// receiver's does; caps those that are the receiver's on purpose: of resources that
// hold secrets no bodies, unless a rule names them exactly.
func differences(want, got map[kind][]outcome) (lines, caps []string) {
	for k, w := range want {
		g := got[k]
		if slices.Equal(w, g) {
			continue
		}
		line := fmt.Sprintf("%+v: the API server keeps %v, the receiver %v", k, w, g)
		if (oracle.Event{RequestURI: k.uri}).Capped() && len(g) == len(w) && !slices.ContainsFunc(g, func(o outcome) bool { return o.level != "Metadata" }) {
			caps = append(caps, line)
		} else {
			lines = append(lines, line)
		}
	}
	for k, g := range got {
		if want[k] == nil {
			lines = append(lines, fmt.Sprintf("%+v: the API server keeps nothing, the receiver %v", k, g))
		}
	}
	slices.Sort(lines)
	slices.Sort(caps)
	return lines, caps
}

// eventOf makes an event of the columns that the comparison by kind reads.
func eventOf(row []any) oracle.Event {
	text := func(i int) string { s, _ := row[i].(string); return s }
	e := oracle.Event{AuditID: text(0), Stage: text(1), Verb: text(2), RequestURI: text(3), UserAgent: text(4), Level: text(5)}
	if row[6] != nil {
		e.RequestObject = []byte(text(6))
	}
	if row[7] != nil {
		e.ResponseObject = []byte(text(7))
	}
	e.User.Username = text(8)
	if row[9] != nil {
		e.ImpersonatedUser = &oracle.User{Username: text(9)}
	}
	if code, ok := row[10].(int64); ok {
		e.ResponseStatus = &oracle.Status{Code: &code}
	}
	return e
}
