package sink

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"audit_s3/conf"
	"audit_s3/convert"
	"audit_s3/sink/disk"
	"audit_s3/sink/disk/forgetful"
)

func mustOutbox(t *testing.T, fs disk.FS) *outbox {
	t.Helper()
	o, err := openOutbox(storeDir, fs, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// TestOutboxKeepsWhatItTook, in order, over a loss of power; and half of what
// failed never.
func TestOutboxKeepsWhatItTook(t *testing.T) {
	for op := 1; ; op++ {
		for _, how := range []forgetful.Fault{forgetful.Fail, forgetful.Crash, forgetful.CrashAfter, forgetful.CrashHalfway} {
			fs := forgetful.New(storeDir)
			o := mustOutbox(t, fs)
			fs.FailAt(fs.Ops()+op, how)
			var taken []string
			for _, key := range []string{"a", "b", "a"} {
				if err := o.add(letterHead{Bucket: "audit", Key: key, Check: key == "a"}, []byte("body of "+key)); err == nil && !slices.Contains(taken, key) {
					taken = append(taken, key)
				}
			}
			fs.Restart(forgetful.KeepNothing)
			o = mustOutbox(t, fs)
			var found []string
			var bytes int64
			for _, l := range o.list() {
				head, body, err := l.open(fs)
				if err != nil || string(body) != "body of "+head.Key || head.Check != (head.Key == "a") || head.Bucket != "audit" {
					t.Fatalf("%v at %d: %+v, %q, %v", how, op, head, body, err)
				}
				found = append(found, head.Key)
				bytes += l.size
			}
			for _, key := range taken {
				if !slices.Contains(found, key) {
					t.Fatalf("%v at %d: took %v, kept %v", how, op, taken, found)
				}
			}
			if o.size() != bytes {
				t.Errorf("%d bytes are counted, want %d", o.size(), bytes)
			}
			for _, l := range o.list() {
				if err := o.sent(l); err != nil {
					t.Fatal(err)
				}
			}
			if !o.empty() || o.size() != 0 || !mustOutbox(t, fs).empty() {
				t.Errorf("something is left: %d bytes", o.size())
			}
			if how == forgetful.CrashHalfway && op > 12 {
				return
			}
		}
	}
}

// TestForeignFilesInTheOutboxAreLeftAlone.
func TestForeignFilesInTheOutboxAreLeftAlone(t *testing.T) {
	dir := t.TempDir()
	opts := options(dir, &logged{})
	drain(t, start(t, opts, &memory{}))
	box := filepath.Join(dir, "audit_s3", "outbox")
	for name, text := range map[string]string{"notes.txt": "x", "0000000000000009.put": "no JSON\nx", "0000000000000010.put": "", "0000000000000011.put.new": "half"} {
		if err := os.WriteFile(filepath.Join(box, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	store := &memory{}
	drain(t, start(t, opts, store))
	if len(store.records) != 1 || !strings.Contains(store.records[0].key, "-stop-") {
		t.Errorf("%d records", len(store.records))
	}
	left := segmentFiles(t, dir, "outbox/*")
	if len(left) != 3 { // half of a file is gone; the number of none is given again
		t.Errorf("left: %v", left)
	}
}

// TestStartRecordTellsWhatTheStoreMakesOfACondition.
func TestStartRecordTellsWhatTheStoreMakesOfACondition(t *testing.T) {
	for said, answers := range map[string][]Stored{
		"level=INFO msg=\"S3 can be written, and refuses to overwrite\"":                   {Created, Existed},
		"level=WARN msg=\"S3 can be written, but this server ignores If-None-Match":        {Created, Created},
		"level=WARN msg=\"S3 can be written, but this server refuses If-None-Match, which": {Unconditional},
	} {
		log := &logged{}
		store := &scripted{answers: answers}
		s, err := prepare(options(t.TempDir(), log), store, fast)
		if err != nil {
			t.Fatal(err)
		}
		s.recordStart()
		s.start()
		eventually(t, said, func() bool { return len(log.lines(said)) == 1 })
		drain(t, s)
		if store.puts != len(answers)+1 { // the stop is not put twice
			t.Errorf("%s: %d puts", said, store.puts)
		}
	}
}

// scripted is a Store that answers as it is told, then Created.
type scripted struct {
	memory
	answers []Stored
	puts    int
}

func (s *scripted) Put(context.Context, string, convert.Object, *io.SectionReader) (Stored, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.puts++
	if s.puts > len(s.answers) {
		return Created, nil
	}
	return s.answers[s.puts-1], nil
}

// TestRecordsOfARun: what they say, and where they go.
func TestRecordsOfARun(t *testing.T) {
	dir, log := t.TempDir(), &logged{}
	var all []put
	run := func(settings map[string]string, version string, events ...string) {
		t.Helper()
		store := &memory{}
		opts := options(dir, log)
		opts.Frozen.Plugin, opts.Frozen.PolicyDigest, opts.Frozen.RedactionDigest = version, "abc", "def"
		opts.Run = Run{Host: "receiver-0", Policy: []byte("the policy"), Redaction: []byte("the rules")}
		for _, key := range slices.Sorted(maps.Keys(settings)) {
			opts.Run.Settings = append(opts.Run.Settings, conf.Setting{Key: key, Value: settings[key]})
		}
		s, err := prepare(opts, store, fast)
		if err != nil {
			t.Fatal(err)
		}
		s.recordStart()
		s.start()
		appendAll(t, s, events...)
		drain(t, s)
		all = append(all, store.records...)
	}
	run(map[string]string{"bucket": "audit", "sse": "-"}, "1", "a", "b")
	run(map[string]string{"bucket": "audit", "sse": "aws:kms"}, "1")
	run(map[string]string{"bucket": "audit", "sse": "aws:kms"}, "2", "c")

	var records []record
	documents := map[string]string{}
	for _, p := range all {
		if strings.HasPrefix(p.key, "k8s-audit/_policy/") {
			documents[p.key] = string(p.body)
			continue
		}
		var r record
		if err := json.Unmarshal(p.body, &r); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(p.key, "k8s-audit/_writer/cluster=prod-1/dt="+r.Time[:10]+"/") || !strings.Contains(p.key, "-"+r.Writer+"-"+r.Kind+"-") {
			t.Errorf("key %s of %+v", p.key, r)
		}
		if len(records) > 0 && r.Kind == "start" && records[len(records)-1].Kind == "start" {
			continue // put twice, to see what the store makes of a condition
		}
		records = append(records, r)
	}
	if want := map[string]string{"k8s-audit/_policy/abc.yaml": "the policy", "k8s-audit/_policy/def.yaml": "the rules"}; !maps.Equal(documents, want) {
		t.Errorf("documents %v", documents)
	}
	if len(records) != 6 {
		t.Fatalf("%d records, want 6", len(records))
	}
	for i, want := range []struct {
		kind     string
		sequence uint64
		changed  string
	}{{"start", 0, `null`}, {"stop", 2, `null`}, {"start", 2, `{"sse":{"from":"-","to":"aws:kms"}}`}, {"stop", 2, `null`},
		{"start", 2, `{"plugin version":{"from":"1","to":"2"}}`}, {"stop", 3, `null`}} {
		r := records[i]
		changed, err := json.Marshal(r.Changed)
		if err != nil || r.Kind != want.kind || r.Sequence != want.sequence || string(changed) != want.changed || r.Host != "receiver-0" || r.Cluster != "prod-1" || r.Writer != records[0].Writer {
			t.Errorf("record %d: %+v, changed %s, want %+v", i, r, changed, want)
		}
		if (r.SegmentSHA256 == "") != (r.Sequence == 0) || (r.Kind == "stop") != (r.Accepted != nil) || (r.Kind == "start") != (r.Configuration["bucket"] == "audit") {
			t.Errorf("record %d: %+v", i, r)
		}
	}
	if *records[1].Accepted != 2 || records[1].Why != "exit" {
		t.Errorf("the first stop: %+v", records[1])
	}
}
