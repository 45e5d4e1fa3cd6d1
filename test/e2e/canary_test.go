package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"audit_s3/test/canary"
	"audit_s3/test/rig"
)

// keptByDefault are the places where a canary may stay under `redaction default`,
// each with the reason. They may stay in the bodies of events only (the spool and
// the objects), as they are; strict keeps none.
var keptByDefault = map[string]string{
	"CANARY-cmd-60":                   "captured: an argument of a container's command, which is where a reverse shell stands; not named by a flag or an assignment",
	"CANARY-exec-62":                  "captured: what was run by exec, which an investigator looks for first",
	"CANARY-uri-63":                   "captured: what was run by exec, as above",
	"container command":               "evidence, as in the captured events; what looks like a secret in it goes",
	"JSON Patch to a command":         "evidence, as above",
	"container args":                  "evidence, as above",
	"probe's command":                 "evidence, as above",
	"lifecycle hook's command":        "evidence, as above",
	"exec command":                    "evidence, as above",
	"attach command":                  "evidence, as above",
	"proxy path":                      "what was asked of the program behind the proxy: rule 4 takes the query's values, the path falls under rule 7",
	"proxy path, escaped":             "as above",
	"proxy path of a broken URI":      "as above",
	"proxy path with doubled slashes": "as above",
	"annotation":                      "free text of an annotation: rule 7 takes what looks like a secret",
	"message":                         "error text that is not about a Secret or its like: rule 7 takes what looks like a secret",
	"cause":                           "as above",
	"message in a body":               "as above",
	"cause in a body":                 "as above",
}

// judge sorts hits into leaks, one line for each place where a canary was put, and
// those that a mode allows; used notes the latter.
func judge(c *canaries, hits []canary.Hit, cluster func(canary.Hit) string, used map[string]bool) (leaks []string) {
	found := map[string]map[string]bool{}
	first := map[string]canary.Hit{}
	for _, h := range hits {
		where := c.place(h.Canary)
		_, allowed := keptByDefault[where]
		if allowed && h.Encoding == "plain" && strings.HasPrefix(cluster(h), "default") {
			used[where] = true
			continue
		}
		if found[where] == nil {
			found[where], first[where] = map[string]bool{}, h
		}
		found[where][h.Kind+" of "+cluster(h)] = true
	}
	for where, places := range found {
		leaks = append(leaks, fmt.Sprintf("%q leaks into %s: %s", where, strings.Join(slices.Sorted(maps.Keys(places)), ", "), first[where]))
	}
	slices.Sort(leaks)
	return leaks
}

// canaryRun is a host that takes canaries, and what it leaves behind.
type canaryRun struct {
	*setup
	*canaries
	clusters []string
	tmp      string
	mu       sync.Mutex
	spool    map[string]canary.Place // files of the spool as they were at any time
	copied   map[string]int64        // bytes of them then
	endLook  func()
}

// everythingExactly lifts the caps of the resources that hold secrets, so that
// their bodies are kept and redacted.
const everythingExactly = `apiVersion: audit.k8s.io/v1
kind: Policy
rules:
- level: %[1]s
  resources:
  - {group: "", resources: [secrets, configmaps, serviceaccounts/token]}
  - {group: authentication.k8s.io, resources: [tokenreviews]}
- level: %[1]s
`

// newCanaryRun starts S3 and a host with sections of these modes: each with a
// policy that keeps all bodies, one that keeps requests' and with none at all.
func newCanaryRun(t *testing.T, modes ...string) *canaryRun {
	s := newSetup(t)
	r := &canaryRun{setup: s, canaries: &canaries{}, tmp: filepath.Join(s.dir, "tmp"), spool: map[string]canary.Place{}, copied: map[string]int64{}}
	if err := os.Mkdir(r.tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", r.tmp) // of the host
	r.at("the key of the markers")
	key := s.write("hmac.key", canary.Stem+"g0001-"+strings.Repeat("k", 32))
	var sections []rig.Section
	for _, mode := range modes {
		for _, policy := range []string{"RequestResponse", "Request", "none"} {
			name := mode + "-" + policy
			section := s.section(name).Set("redaction", mode)
			if policy != "none" {
				section = section.Set("policy_file", s.write(name+".yaml", fmt.Sprintf(everythingExactly, policy)))
			}
			if mode != "off" && policy == "Request" {
				section = section.Set("redaction_hmac_key_file", key)
			}
			sections = append(sections, section)
			r.clusters = append(r.clusters, name)
		}
	}
	s.run(sections...)
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			case <-time.After(50 * time.Millisecond):
				r.look()
			}
		}
	}()
	r.endLook = sync.OnceFunc(func() { close(done); <-stopped; r.look() })
	t.Cleanup(r.endLook)
	return r
}

// look copies the spools' files, which are deleted after the upload: segments,
// whose frames are searched unpacked too, and scratch. Fluent Bit's own chunks, in
// the host's folder, are outside: they hold events as they came, before any plugin
// sees them, and are the operator's to protect.
func (r *canaryRun) look() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, cluster := range r.clusters {
		root := filepath.Join(r.dir, "store-"+cluster)
		_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				r.copyFile(path)
			}
			return nil //nolint:nilerr // files may go at any time
		})
	}
}

// copyFile notes a file's bytes, if there are more than before.
func (r *canaryRun) copyFile(path string) {
	name, err := filepath.Rel(r.dir, path)
	if err != nil {
		return
	}
	before, known := r.copied[name]
	info, err := os.Stat(path)
	if err != nil || known && info.Size() <= before {
		return
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return
	}
	r.copied[name] = int64(len(content))
	if r.spool[name], err = canary.Spooled("spool", name, content); err != nil {
		r.t.Error(err)
	}
}

// left is everything that the plugin has left behind: the spool at any time, files for
// a moment, objects with keys and metadata, raw and decoded, and the log. The
// plugin has no metrics yet but those in the log.
func (r *canaryRun) left() []canary.Place {
	r.t.Helper()
	r.mu.Lock()
	all := slices.Collect(maps.Values(r.spool))
	r.mu.Unlock()
	all = append(all, canary.Place{Kind: "log", Name: "", Content: []byte(r.host.Log())})
	for dir, kind := range map[string]string{r.tmp: "temporary file"} {
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			content, err := os.ReadFile(path)
			name, _ := filepath.Rel(r.dir, path)
			all = append(all, canary.Place{Kind: kind, Name: name, Content: content})
			return err
		})
		if err != nil {
			r.t.Fatal(err)
		}
	}
	objects, err := r.s3.Objects(bucket)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, o := range objects {
		metadata, body := r.get(o.Key)
		all = append(all, canary.Place{Kind: "object", Name: o.Key, Content: body})
		for k, v := range metadata {
			all = append(all, canary.Place{Kind: "object metadata", Name: o.Key + " " + k, Content: []byte(v)})
		}
		switch {
		case strings.HasSuffix(o.Key, ".gz"):
			all = append(all, canary.Place{Kind: "rejects", Name: o.Key, Content: []byte(gunzip(r.t, o.Path))})
		case strings.HasSuffix(o.Key, ".parquet"):
			_, rows, err := rig.Query(r.ctx, o.Path, "SELECT to_json(audit)::VARCHAR FROM audit")
			if err != nil {
				r.t.Fatal(err)
			}
			var text bytes.Buffer
			for _, row := range rows {
				fmt.Fprintln(&text, row...)
			}
			all = append(all, canary.Place{Kind: "rows", Name: o.Key, Content: text.Bytes()})
		case strings.Contains(o.Key, "/_writer/"), strings.Contains(o.Key, "/_policy/"): // plain text
		default:
			r.t.Errorf("object %s is of no known kind", o.Key)
		}
	}
	return all
}

// clusterOf is the section that a hit belongs to.
func clusterOf(h canary.Hit) string {
	_, after, ok := strings.Cut(h.Name, "cluster=")
	if !ok {
		if _, after, ok = strings.Cut(h.Name, "store-"); !ok {
			return "all"
		}
	}
	name, _, _ := strings.Cut(after, "/")
	return name
}

// feed posts the captured lists, then without S3 the generated events at each
// level and those that become rejects, lets uploads fail, and ends well.
func (r *canaryRun) feed() (events []canaryEvent, rejects int) {
	t := r.t
	t.Helper()
	captured := capturedLists(t)
	for _, list := range captured {
		r.post("audit", list)
	}
	r.waitRows(int64(406*len(r.clusters)), "true")
	r.s3.Stop()
	for _, level := range []string{"Metadata", "Request", "RequestResponse"} {
		events = append(events, generate(r.canaries, level)...)
	}
	// Slices of one list each, with what becomes a reject among them.
	broken := brokenEvents(r.canaries)
	for part := range slices.Chunk(events, 200) {
		var items []string
		for _, e := range part {
			items = append(items, e.event)
		}
		items = append(items, broken...)
		rejects += len(broken)
		r.post("audit", list(items...))
	}
	// Text that a tail input would hand over: an event, and one that breaks off.
	text, err := json.Marshal(r.expand(`{"kind":"Event","auditID":"<text:log text that breaks off>`))
	if err != nil {
		t.Fatal(err)
	}
	r.post("audit", fmt.Appendf(nil, `{"log":%s}`, text))
	rejects++
	for _, list := range captured {
		r.post("again", list) // another source, or they would be repeats
	}
	want := fmt.Sprintf("accepted=%d", (len(events)+2*406)*len(r.clusters))
	r.waitLog(want)
	r.waitLog("everything stays in the spool and is tried again")
	time.Sleep(1200 * time.Millisecond) // until the last segment is sealed and tried
	r.look()
	if err := r.s3.Start(r.ctx); err != nil {
		t.Fatal(err)
	}
	r.stop()
	r.endLook()
	for _, cluster := range r.clusters {
		if left := r.spooled(cluster); len(left) > 0 {
			t.Errorf("the spool of %s still holds %v", cluster, left)
		}
	}
	return events, rejects
}

// TestCanaryIsFoundNowhere sends a secret to every place where secrets hide, and
// looks for it in everything that the plugin writes.
func TestCanaryIsFoundNowhere(t *testing.T) {
	r := newCanaryRun(t, "strict", "default")
	events, rejects := r.feed()

	// What is searched is really there: all events, bodies among them, rejects,
	// the spool's files, the errors in the log.
	for _, cluster := range r.clusters {
		if n := r.query("SELECT count(*) FROM audit WHERE cluster = '" + cluster + "'")[0][0]; fmt.Sprint(n) != fmt.Sprint(len(events)+2*406) {
			t.Errorf("%v rows of %s, want %d", n, cluster, len(events)+2*406)
		}
		sealed, scratch := 0, 0
		for name, p := range r.spool {
			if strings.Contains(name, "store-"+cluster+"/") && strings.HasSuffix(name, ".sealed") && bytes.Contains(p.Content, []byte("[REDACTED")) {
				sealed++
			}
			if strings.Contains(name, "store-"+cluster+"/audit_s3/scratch/") && len(p.Content) > 0 {
				scratch++
			}
		}
		if sealed == 0 || scratch == 0 {
			t.Errorf("%d segments and %d files in scratch of %s were seen while S3 was away", sealed, scratch, cluster)
		}
	}
	for _, resource := range []string{"secrets", "configmaps", "serviceaccounts", "tokenreviews"} {
		n := r.query(`SELECT count(*) FROM audit WHERE cluster = 'strict-RequestResponse' AND objectref.resource = '` + resource +
			`' AND coalesce(requestobject, responseobject) LIKE '%[REDACTED]%'`)[0][0]
		if fmt.Sprint(n) == "0" {
			t.Errorf("no body of %s was kept and redacted", resource)
		}
	}
	places := r.left()
	kinds := map[string]int{}
	lines := 0
	for _, p := range places {
		kinds[p.Kind]++
		if p.Kind == "rejects" {
			lines += bytes.Count(p.Content, []byte("\n"))
		}
	}
	t.Logf("searched %v for %d canaries in %d encodings", kinds, len(r.places)+14, canary.Needles())
	if want := rejects * len(r.clusters); lines != want {
		t.Errorf("%d rejects were searched, want %d", lines, want)
	}

	used := map[string]bool{}
	leaks := judge(r.canaries, canary.Search(places), clusterOf, used)
	for _, leak := range leaks {
		t.Error(leak)
	}
	for where := range keptByDefault {
		if !used[where] {
			t.Errorf("%s is allowed to stay under default, but did not: take it off the list", where)
		}
	}
	// An event of which nothing was removed, although it holds a canary, shows
	// that the body was lost or that the canary was kept.
	for _, row := range r.query(`SELECT auditid FROM audit WHERE cluster = 'default-RequestResponse' AND redactions = 0 AND auditid LIKE 'g-%-RequestResponse'`) {
		i := slices.IndexFunc(events, func(e canaryEvent) bool { return e.id == row[0] })
		for _, where := range events[i].places {
			_, kept := keptByDefault[where]
			told := slices.ContainsFunc(leaks, func(leak string) bool { return strings.HasPrefix(leak, fmt.Sprintf("%q ", where)) })
			if !kept && !told {
				t.Errorf("nothing was removed from %s: %.400s", where, events[i].event)
			}
		}
	}
}

// TestCanarySearchFindsPlantedLeaks: without redaction, and with one canary in
// each kind of place, the same search finds them all.
func TestCanarySearchFindsPlantedLeaks(t *testing.T) {
	r := newCanaryRun(t, "off")
	r.feed()
	// By kind of place, and of all of them.
	found := func() (kinds map[string]map[string]bool, canaries map[string]bool) {
		kinds, canaries = map[string]map[string]bool{}, map[string]bool{}
		for _, h := range canary.Search(r.left()) {
			kind := h.Kind + " of " + clusterOf(h)
			if kinds[kind] == nil {
				kinds[kind] = map[string]bool{}
			}
			kinds[kind][h.Canary], canaries[h.Canary] = true, true
		}
		return kinds, canaries
	}
	kinds, _ := found()
	for _, cluster := range r.clusters {
		for _, kind := range []string{"spool", "rows"} {
			if kinds[kind+" of "+cluster] == nil {
				t.Errorf("redaction off, but no canary was found in the %s of %s", kind, cluster)
			}
		}
		// What is packed is searched too: what repeats in a frame stands there once.
		for name := range kinds["rows of "+cluster] {
			if !kinds["spool of "+cluster][name] {
				t.Errorf("redaction off, but %s, which is in the rows of %s, was not found in its spool", name, cluster)
			}
		}
	}
	for _, kind := range []string{"log", "rejects", "object metadata", "temporary file"} {
		for k := range kinds {
			if strings.HasPrefix(k, kind+" of ") {
				t.Errorf("without redaction, too, a canary must not be in %s", k)
			}
		}
	}

	// One leak in each other kind of place, through the same collection.
	plant := func(key, body string, metadata map[string]string) {
		t.Helper()
		_, err := r.s3.Client().PutObject(r.ctx, &awss3.PutObjectInput{Bucket: aws.String(bucket), Key: aws.String(key),
			Body: strings.NewReader(body), Metadata: metadata, ChecksumAlgorithm: types.ChecksumAlgorithmSha256})
		if err != nil {
			t.Fatal(err)
		}
	}
	zipped := func(text string) string {
		var b bytes.Buffer
		w := gzip.NewWriter(&b)
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	const rejected = "k8s-audit/_rejected/cluster=off/dt=2026-01-01/"
	plant(rejected+"a.ndjson.gz", zipped(`{"reason":"`+base64.StdEncoding.EncodeToString([]byte("x"+canary.Stem+"planted1"))+`"}`), nil)
	plant(rejected+canary.Stem+"planted2.ndjson.gz", zipped("{}"), nil)
	plant(rejected+"b.ndjson.gz", zipped("{}"), map[string]string{"note": hex.EncodeToString([]byte(canary.Stem + "planted3"))})
	for path, content := range map[string]string{
		filepath.Join(r.tmp, "t"): canary.Stem + "planted4",
		filepath.Join(r.dir, "store-off-none", "audit_s3", "scratch", canary.Stem+"planted5"): "x",
	} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r.look()
	kinds, names := found()
	for _, want := range []string{"rejects of off", "object of off", "object metadata of off", "temporary file of all"} {
		if kinds[want] == nil {
			t.Errorf("the leak planted in %s was not found", want)
		}
	}
	for _, want := range []string{"planted1", "planted2", "planted4", "planted5"} { // 3 is in hex
		if !names[canary.Stem+want] {
			t.Errorf("%s was not found", want)
		}
	}
	r.host = loudHost{r.host, "error: " + url.QueryEscape(`"`+canary.Stem+`planted6"`)}
	if kinds, _ := found(); kinds["log of all"] == nil {
		t.Error("the leak planted in the log was not found")
	}
}

// loudHost is a host that has said something more.
type loudHost struct {
	rig.Host
	more string
}

func (h loudHost) Log() string { return h.Host.Log() + h.more }

// TestCanarySearchKnowsEveryEncoding is the search on made-up bytes.
func TestCanarySearchKnowsEveryEncoding(t *testing.T) {
	c := &canaries{}
	for _, stem := range canary.Stems {
		text := stem + `x9"\ é+/`
		escaped, err := json.Marshal(text)
		if err != nil {
			t.Fatal(err)
		}
		twice, err := json.Marshal(string(escaped))
		if err != nil {
			t.Fatal(err)
		}
		percent := ""
		for _, b := range []byte(text) {
			percent += fmt.Sprintf("%%%02x", b)
		}
		texts := map[string]string{
			"plain": text, "JSON": string(escaped), "JSON in JSON": string(twice),
			"query": url.QueryEscape(text), "path": url.PathEscape(text),
			"percent": percent, "PERCENT": strings.ToUpper(percent),
			"hex": hex.EncodeToString([]byte(text)), "HEX": strings.ToUpper(hex.EncodeToString([]byte(text))),
		}
		for shift := range 3 {
			for _, before := range []string{"\x00\x00", "zz", "\xff\xff"} {
				b := []byte(before[:shift] + text)
				if shift == 0 {
					b = []byte(before + "y" + text)
				}
				name := fmt.Sprintf("%d behind %q", shift, before)
				texts["base64, "+name] = base64.StdEncoding.EncodeToString(b)
				texts["base64url, "+name] = base64.RawURLEncoding.EncodeToString(b)
				for again := range 3 {
					text := "abc"[:again] + base64.StdEncoding.EncodeToString(b)
					texts[fmt.Sprintf("base64 twice, %d, %s", again, name)] = base64.StdEncoding.EncodeToString([]byte(text))
				}
				texts["hex of base64, "+name] = hex.EncodeToString([]byte(base64.StdEncoding.EncodeToString(b)))
			}
		}
		for what, text := range texts {
			for _, around := range []string{"", "\x00\xffx", strings.Repeat("0", 5000)} {
				if len(canary.Search([]canary.Place{{Kind: what, Content: []byte(around + text + around)}})) == 0 {
					t.Errorf("%s of %s was not found: %s", what, stem, text)
				}
			}
			if len(canary.Search([]canary.Place{{Kind: what, Name: text}})) == 0 {
				t.Errorf("%s of %s was not found in a name", what, stem)
			}
		}
	}
	// Also each generated form, whole: a token, a key, a document in a string.
	for _, template := range []string{"<text:a>", "<awkward:b>", "<base64:c>", "<jwt:d>", "<pem:e>", "<url:f>", c.text(`{"x":"<base64:g>"}`)} {
		text := c.expand(template)
		hits := canary.Search([]canary.Place{{Content: []byte(text)}})
		if len(hits) == 0 || !slices.ContainsFunc(hits, func(h canary.Hit) bool { return len(c.place(h.Canary)) == 1 }) {
			t.Errorf("the canary of %s was not found, or not told, in %s: %v", template, text, hits)
		}
	}
	if hits := canary.Search([]canary.Place{{Content: []byte("CANAR Y- canary- SUPERSECRET [REDACTED] Q0FOQVJZ 43414e415259")}}); len(hits) > 0 {
		t.Errorf("found %v where nothing is", hits)
	}
	// Only a canary that is on the list, as it is, in a section of default may stay.
	c.places = []string{"exec command", "Secret data"}
	for _, test := range []struct {
		text, name string
		leak       bool
	}{
		{"CANARY-g0001", "cluster=default-none/x", false},
		{"CANARY-g0001", "store-default-none/x", false},
		{"CANARY-g0001", "cluster=strict-none/x", true},
		{"CANARY-g0001", "", true},
		{"CANARY-g0002", "cluster=default-none/x", true},
		{base64.StdEncoding.EncodeToString([]byte("CANARY-g0001")), "cluster=default-none/x", true},
	} {
		leaks := judge(c, canary.Search([]canary.Place{{Kind: "rows", Name: test.name, Content: []byte(test.text)}}), clusterOf, map[string]bool{})
		if len(leaks) > 0 != test.leak {
			t.Errorf("%s in %q gives leaks %v", test.text, test.name, leaks)
		}
	}
}
