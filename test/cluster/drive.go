package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"audit_s3/test/canary"
	"audit_s3/test/rig"
)

// driver sends requests to an API server as somebody. A request that a client
// cannot send at all is an error; an answer is never one: refusals are events too.
type driver struct {
	plane  *rig.ControlPlane
	client *http.Client
	// canaries are what was put into requests, each in a place of its own.
	canaries map[string]string // by canary: the place
	sent     int
	err      error
}

// agent tells the driver's requests from those of the cluster's own parts.
const agent = "drive/1.0"

// request is one. Body is JSON or YAML; Type defaults to JSON.
type request struct {
	as, method, path, body string
	kind                   string // Content-Type
	header                 map[string]string
	// linger leaves the answer open for so long: a watch.
	linger time.Duration
	want   int // the status; 0: any
}

func newDriver(plane *rig.ControlPlane) (*driver, error) {
	client, err := plane.Client()
	return &driver{plane: plane, client: client, canaries: map[string]string{}}, err
}

// canary makes one for a place.
func (d *driver) canary(place string) string {
	name := fmt.Sprintf("%sc%04d", canary.Stem, len(d.canaries)+1)
	d.canaries[name] = place
	return name
}

// do sends a request and returns what was answered. After the first error it does
// nothing: see d.err.
func (d *driver) do(ctx context.Context, r request) (body []byte) {
	if d.err != nil {
		return nil
	}
	d.sent++
	status, body, err := d.send(ctx, r)
	if err == nil && r.want != 0 && status != r.want {
		err = fmt.Errorf("answered %d, want %d: %.300s", status, r.want, body)
	}
	if err != nil {
		d.err = fmt.Errorf("%s %s as %q: %w", r.method, r.path, r.as, err)
	}
	return body
}

func (d *driver) send(ctx context.Context, r request) (status int, body []byte, err error) {
	out, err := http.NewRequestWithContext(ctx, r.method, d.plane.URL+r.path, strings.NewReader(r.body))
	if err != nil {
		return 0, nil, err
	}
	if r.as != "" {
		out.Header.Set("Authorization", "Bearer "+r.as)
	}
	if r.body != "" {
		if r.kind == "" {
			r.kind = "application/json"
		}
		out.Header.Set("Content-Type", r.kind)
	}
	out.Header.Set("User-Agent", agent)
	for name, value := range r.header {
		out.Header.Set(name, value)
	}
	response, err := d.client.Do(out)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	if response.StatusCode == http.StatusSwitchingProtocols {
		return response.StatusCode, nil, nil
	}
	if r.linger > 0 {
		first := make([]byte, 64<<10)
		timer := time.AfterFunc(r.linger, func() { _ = response.Body.Close() })
		defer timer.Stop()
		n, _ := response.Body.Read(first)
		time.Sleep(r.linger)
		return response.StatusCode, first[:n], nil
	}
	var b bytes.Buffer
	_, err = io.Copy(&b, response.Body)
	return response.StatusCode, b.Bytes(), err
}

// wait asks until ok says that the answer is what is waited for.
func (d *driver) wait(ctx context.Context, r request, ok func(body []byte) bool) {
	r.header = map[string]string{"User-Agent": "wait"} // how often it is asked differs from run to run
	for i := 0; d.err == nil; i++ {
		if ok(d.do(ctx, r)) {
			return
		}
		if i == 100 {
			d.err = fmt.Errorf("%s %s: what was waited for did not come", r.method, r.path)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
