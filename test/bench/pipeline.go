package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"audit_s3/convert"
	"audit_s3/test/rig"
)

// pipelineOptions are how much is measured.
type pipelineOptions struct {
	repetitions int
	rates       []int
	events      int64         // of an unlimited run
	lasts       time.Duration // of the others
	connections int
}

// eventsAt is how many events a run of a rate has.
func (o pipelineOptions) eventsAt(rate int) int64 {
	if rate == unlimited {
		return o.events
	}
	return max(perList, int64(float64(rate)*o.lasts.Seconds())/perList*perList)
}

// pipeline runs all cases at all rates. Within a repetition and a rate all cases
// get the same bytes.
func (b *bench) pipeline(ctx context.Context, o pipelineOptions) ([]Run, error) {
	cases := []string{null, outS3, auditNone, auditLess}
	if b.against != "" {
		cases = append(cases, auditOther)
	}
	var runs []Run
	for repetition := range o.repetitions {
		for _, rate := range o.rates {
			day, err := rig.NewDay(uint64(repetition*1_000_003 + rate + 1))
			if err != nil {
				return runs, err
			}
			l := newLoad(day, o.eventsAt(rate))
			b.say("repetition %d, %s", repetition+1, rateName(rate))
			for _, name := range cases {
				r, err := b.run(ctx, Run{Case: name, Repetition: repetition, Rate: rate, Connections: o.connections}, l)
				if err != nil {
					return runs, err
				}
				runs = append(runs, r)
			}
		}
		slices.Reverse(cases) // what changes in the course of a run shall not favour one
	}
	return runs, nil
}

func rateName(rate int) string {
	if rate == unlimited {
		return "as fast as it goes"
	}
	return thousands(int64(rate)) + " events/s"
}

// growthOptions are the values of each axis.
type growthOptions struct {
	events, bodies, connections []int64
	bodyBytes                   int64 // of all events of a run with bodies of one size
	connectionEvents            int64
}

// growth runs null and audit_s3 with one value changed at a time.
func (b *bench) growth(ctx context.Context, o growthOptions) ([]Run, error) {
	var runs []Run
	pair := func(axis string, value int64, connections int, l *load) error {
		for _, name := range []string{null, auditNone} {
			r, err := b.run(ctx, Run{Case: name, Axis: axis, Value: value, Connections: connections}, l)
			if err != nil {
				return err
			}
			runs = append(runs, r)
		}
		return nil
	}
	for _, n := range o.events {
		day, err := rig.NewDay(uint64(n))
		if err == nil {
			err = pair(axisEvents, n, 4, newLoad(day, n))
		}
		if err != nil {
			return runs, err
		}
	}
	for _, size := range o.bodies {
		l, err := newBodies(size, o.bodyBytes)
		if err == nil {
			err = pair(axisBody, size, 4, l)
		}
		if err != nil {
			return runs, err
		}
	}
	day, err := rig.NewDay(1)
	if err != nil {
		return runs, err
	}
	for _, n := range o.connections {
		if err := pair(axisConnections, n, int(n), newLoad(day, o.connectionEvents)); err != nil {
			return runs, err
		}
	}
	return runs, nil
}

// The axes.
const (
	axisEvents      = "events"
	axisBody        = "body"
	axisConnections = "connections"
)

// newBodies makes events, all lists of pods, whose bodies are lists of recorded
// objects of size bytes together.
func newBodies(size, total int64) (*load, error) {
	day, err := rig.NewDay(uint64(size))
	if err != nil {
		return nil, err
	}
	objects, err := recordedResponses(day)
	if err != nil {
		return nil, err
	}
	perBatch := int(min(perList, max(1, 1_000_000/size)))
	l := &load{}
	for n := 0; l.bytes < total; {
		list := []byte(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[`)
		for i := range perBatch {
			if i > 0 {
				list = append(list, ',')
			}
			n++
			at := time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")
			list = fmt.Appendf(list, `{"level":"RequestResponse","auditID":"%08x-0000-4000-8000-%012x","stage":"ResponseComplete","requestURI":"/api/v1/pods?limit=500","verb":"list",`+
				`"user":{"username":"system:kube-scheduler","groups":["system:authenticated"]},"sourceIPs":["127.0.0.1"],"userAgent":"kube-scheduler/v1.37.2",`+
				`"objectRef":{"resource":"pods","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":200},"responseObject":`, size, n)
			list = objects.appendList(list, int(size))
			list = fmt.Appendf(list, `,"requestReceivedTimestamp":%q,"stageTimestamp":%q}`, at, at)
		}
		l.add(append(list, "]}"...), perBatch)
	}
	return l, nil
}

// responses are the recorded response objects, over and over.
type responses struct {
	objects []json.RawMessage
	next    int
}

func recordedResponses(day *rig.Day) (*responses, error) {
	r := &responses{}
	for range recorded / perList {
		var list struct {
			Items []struct{ ResponseObject json.RawMessage }
		}
		if err := json.Unmarshal(day.AppendList(nil, perList, time.Now().UTC(), 0), &list); err != nil {
			return nil, err
		}
		for _, item := range list.Items {
			if item.ResponseObject != nil {
				r.objects = append(r.objects, item.ResponseObject)
			}
		}
	}
	return r, nil
}

// appendList appends a list of as many objects as size bytes hold. What does not fit
// is passed over, so that small bodies are of small objects.
func (r *responses) appendList(b []byte, size int) []byte {
	end := len(b) + size
	b = append(b, `{"kind":"PodList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[`...)
	first := true
	for passed := 0; passed < 100; r.next++ {
		object := r.objects[r.next%len(r.objects)]
		if len(b)+len(object)+3 > end {
			passed++
			continue
		}
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, object...)
	}
	return append(b, "]}"...)
}

// decide finds out how many of the first n recorded events the policy keeps, for
// every n.
func (b *bench) decide(policy []byte) error {
	loaded, err := convert.LoadPolicy(b.policy, policy)
	if err != nil {
		return err
	}
	redaction, err := convert.LoadRedaction("default", "", nil, nil)
	if err != nil {
		return err
	}
	day, err := rig.NewDay(1)
	if err != nil {
		return err
	}
	converter := convert.New(loaded, redaction)
	var batch convert.Batch
	b.kept = []int64{0}
	for range recorded {
		chunk, err := rig.Chunk(day.AppendList(nil, 1, time.Now().UTC(), 0))
		if err != nil {
			return err
		}
		batch.Reset(time.Now())
		if err := converter.Convert(&batch, "node_1", bytes.Clone(chunk)); err != nil {
			return err
		}
		b.kept = append(b.kept, b.kept[len(b.kept)-1]+batch.Counts().Archived)
	}
	return nil
}
