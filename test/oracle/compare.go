package oracle

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Query reads the rows that Compare takes.
const Query = `SELECT auditid, stage, level, recordedlevel, verb,
	epoch_us(requestreceivedtimestamp), epoch_us(stagetimestamp), epoch_us(receivedtimestamp), requesturi,
	to_json(userinfo)::VARCHAR, to_json(impersonateduser)::VARCHAR, to_json(authenticationmetadata)::VARCHAR,
	to_json(sourceips)::VARCHAR, useragent, to_json(objectref)::VARCHAR, to_json(responsestatus)::VARCHAR,
	requestobject, responseobject, to_json(annotations)::VARCHAR, decision, decisionreason, otherfields,
	source, policyrule, policydigest, redactions, cluster, dt::VARCHAR FROM audit`

var columns = strings.Fields(`auditid stage level recordedlevel verb requestreceivedtimestamp stagetimestamp
	receivedtimestamp requesturi userinfo impersonateduser authenticationmetadata sourceips useragent objectref
	responsestatus requestobject responseobject annotations decision decisionreason otherfields source policyrule
	policydigest redactions cluster dt`)

// columnsOfKey are those that Event.Key is made of, by their place in Query.
const auditID, stage, received, staged, archived, uri = 0, 1, 5, 6, 7, 8

// jsonColumns are compared as JSON, order and number forms included.
var jsonColumns = []string{"requestobject", "responseobject"}

// structColumns are compared as JSON values.
var structColumns = []string{"userinfo", "impersonateduser", "authenticationmetadata", "sourceips", "objectref", "annotations"}

// Report is what a comparison found.
type Report struct {
	Events, Rows int
	// Bodies is how many responses were compared: without any, little was shown.
	Bodies                      int
	Missing, Doubled, Different []string
}

func (r Report) String() string {
	return fmt.Sprintf("%d events, %d rows, %d bodies compared: %d missing, %d doubled or unknown, %d values different",
		r.Events, r.Rows, r.Bodies, len(r.Missing), len(r.Doubled), len(r.Different))
}

// Equal tells whether every event is there once, and nothing else.
func (r Report) Equal() bool { return len(r.Missing)+len(r.Doubled)+len(r.Different) == 0 }

// Compare holds rows, as Query gives them, against events, of which each must be
// there once. began is before the first was received.
func Compare(events []Event, rows [][]any, cluster, source string, began time.Time) Report {
	now := time.Now()
	report := Report{Events: len(events), Rows: len(rows)}
	left := map[string][][]any{}
	for _, row := range rows {
		k := fmt.Sprint(row[auditID], row[stage], row[received], row[staged], row[uri])
		left[k] = append(left[k], row)
	}
	for _, e := range events {
		k := e.Key()
		name := e.AuditID + " " + e.Stage + " " + e.Verb + " " + e.RequestURI
		if len(left[k]) == 0 {
			report.Missing = append(report.Missing, name)
			continue
		}
		row := left[k][0]
		left[k] = left[k][1:]
		want := e.Row(cluster, source, now)
		if want["responseobject"] != nil {
			report.Bodies++
		}
		for i, column := range columns {
			if i == archived {
				us, _ := row[i].(int64)
				if at := time.UnixMicro(us); at.Before(began.Add(-time.Second)) || at.After(now) {
					report.Different = append(report.Different, fmt.Sprintf("%s: receivedtimestamp %v is not when it was received", name, at))
				}
				continue
			}
			if same, err := sameValue(column, want[column], row[i]); !same || err != nil {
				report.Different = append(report.Different, fmt.Sprintf("%s: column %s is %.300v, want %.300v (%v)", name, column, row[i], want[column], err))
			}
		}
	}
	for _, rest := range left {
		for _, row := range rest {
			report.Doubled = append(report.Doubled, fmt.Sprint(row[auditID], " ", row[stage], " ", row[uri]))
		}
	}
	return report
}

func sameValue(column string, want, got any) (bool, error) {
	if want == nil || got == nil {
		return want == nil && got == nil, nil
	}
	text, _ := got.(string)
	switch {
	case slices.Contains(jsonColumns, column):
		return sameTokens(want.(string), text)
	case column == "responsestatus":
		return sameStatus(want.(map[string]any), text)
	case slices.Contains(structColumns, column):
		return sameJSON(want, text)
	case column == "redactions":
		return fmt.Sprint(want) == fmt.Sprint(got), nil
	}
	return reflect.DeepEqual(want, got), nil
}

// sameStatus: details is JSON text inside a column, compared as JSON by itself.
func sameStatus(want map[string]any, text string) (bool, error) {
	got := map[string]any{}
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		return false, err
	}
	if raw, ok := want["details"].(json.RawMessage); ok {
		details, _ := got["details"].(string)
		if same, err := sameTokens(string(raw), details); !same || err != nil {
			return false, err
		}
		want["details"], got["details"] = nil, nil
	}
	b, err := json.Marshal(got)
	if err != nil {
		return false, err
	}
	return sameJSON(want, string(b))
}

// sameJSON tells whether v is what text says.
func sameJSON(v any, text string) (bool, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return false, err
	}
	var want, got any
	if err := json.Unmarshal(b, &want); err != nil {
		return false, err
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		return false, err
	}
	return reflect.DeepEqual(want, got), nil
}

func sameTokens(want, got string) (bool, error) {
	w, err := tokens(want)
	if err != nil {
		return false, err
	}
	g, err := tokens(got)
	return reflect.DeepEqual(w, g), err
}

// tokens takes JSON apart: the same tokens mean the same keys in the same order
// and the same numbers, written the same way.
func tokens(text string) ([]json.Token, error) {
	dec := json.NewDecoder(strings.NewReader(text))
	dec.UseNumber()
	var list []json.Token
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w in %.200s", err, text)
		}
		list = append(list, token)
	}
}
