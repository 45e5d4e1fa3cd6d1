package sizing

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"audit_s3/test/rig"
)

var (
	rates   = flag.String("rates", "", "events a second at which a real Fluent Bit is measured, such as 1000,4000")
	seconds = flag.Int("seconds", 60, "how long it is measured at each rate")
)

const bucket = "audit"

// TestReceiver measures CPU and memory of a real Fluent Bit with the shipped
// configuration: mutual TLS, HTTP/2, both volumes on this disk. What it says is of
// this machine and this moment, so it asserts only that all was archived.
func TestReceiver(t *testing.T) {
	if *rates == "" {
		t.Skip("-rates 1000,4000 measures it, for minutes")
	}
	if _, ok := rig.FluentBit(); !ok {
		t.Skip("no Fluent Bit on the PATH or in $FLUENT_BIT")
	}
	for _, policy := range []string{none, "compliance"} {
		for text := range strings.SplitSeq(*rates, ",") {
			var rate int
			if _, err := fmt.Sscan(text, &rate); err != nil {
				t.Fatal(err)
			}
			t.Run(fmt.Sprintf("%s/%d", policy, rate), func(t *testing.T) {
				r := newReceiver(t, policy)
				r.measure(rate)
			})
		}
	}
}

// receiver is a Fluent Bit that runs conf/fluent-bit.conf.
type receiver struct {
	*rig.Receiver
	t      *testing.T
	s3     *rig.S3
	client *http.Client
}

func newReceiver(t *testing.T, policy string) *receiver {
	t.Helper()
	r := &receiver{t: t}
	r.startS3()
	servers, err := rig.NewAuthority("servers")
	if err != nil {
		t.Fatal(err)
	}
	clients, err := rig.NewAuthority("clients")
	if err != nil {
		t.Fatal(err)
	}
	mine, err := clients.Issue(rig.CertificateOptions{Name: "node-1"})
	if err == nil {
		r.client, err = rig.Client(servers, mine, true)
	}
	if err != nil {
		t.Fatal(err)
	}
	environment := []string{"GOMAXPROCS=2", // as in conf/kubernetes
		"AUDIT_S3_BUCKET=" + bucket, "AUDIT_S3_CLUSTER=sizing", "AUDIT_S3_ENDPOINT=" + r.s3.Endpoint, "AUDIT_S3_UPLOAD_TIMEOUT=20s"}
	if policy == none {
		environment = append(environment, "AUDIT_S3_POLICY_FILE=none")
	}
	r.Receiver, err = rig.NewReceiver(rig.ReceiverOptions{Dir: t.TempDir(), Config: "fluent-bit.conf", ServerCA: servers, ClientCA: clients.PEM, Environment: environment})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Kill()
		if t.Failed() {
			t.Log(r.Log())
		}
	})
	return r
}

func (r *receiver) startS3() {
	r.t.Helper()
	var err error
	if r.s3, err = rig.NewS3(r.t.TempDir()); err == nil {
		err = r.s3.Start(r.t.Context())
	}
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(r.s3.Stop)
	if err := r.s3.CreateBucket(r.t.Context(), bucket); err != nil {
		r.t.Fatal(err)
	}
}

// measure posts at a rate and prints what the process took until all of it was in
// S3: conversions and uploads are part of the bill.
func (r *receiver) measure(rate int) {
	recording, err := recordedDay()
	if err != nil {
		r.t.Fatal(err)
	}
	before, began := r.cpu(), time.Now()
	n := rate * *seconds
	r.post(recording, rate, n)
	posted := time.Since(began)
	drained := func() (bool, error) {
		for _, dir := range []string{r.Spool(), r.Chunks()} {
			for _, extension := range []string{".open", ".sealed", ".flb"} {
				if holds(dir, extension) {
					return false, nil
				}
			}
		}
		return true, nil
	}
	if err := rig.Wait(r.t.Context(), drained); err != nil {
		r.t.Fatal(err)
	}
	used := r.cpu() - before
	_, most, err := r.Memory()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := r.Stop(r.t.Context()); err != nil {
		r.t.Error(err)
	}
	r.t.Logf("%d events sent in %v, %.0f/s; %.1f us of CPU an event, %.2f cores; resident at most %.0f MB; %s", n, posted.Round(time.Second),
		float64(n)/posted.Seconds(), float64(used.Microseconds())/float64(n), used.Seconds()/time.Since(began).Seconds(), float64(most)/1e6, r.counted())
	if !strings.Contains(r.Log(), fmt.Sprintf("events_accepted=%d ", n)) && strings.Contains(r.t.Name(), none) {
		r.t.Error("not every event was accepted")
	}
}

// counted is what the plugin says at its end.
func (r *receiver) counted() string {
	_, said, _ := strings.Cut(r.Log(), "] stopped ")
	said, _, _ = strings.Cut(said, "\n")
	return said
}

// recordedDay reads the recording once: it takes seconds.
var recordedDay = sync.OnceValues(func() (*rig.Day, error) { return rig.NewDay(1) })

func (r *receiver) post(recording *rig.Day, rate, n int) {
	const posters = 2
	var posting sync.WaitGroup
	began := time.Now()
	for i := range posters {
		day := recording.Another(uint64(i)+1, float64(i)/posters)
		posting.Go(func() {
			var list []byte
			for sent := i * perList; sent < n; sent += posters * perList {
				list = day.AppendList(list[:0], perList, time.Now().UTC(), time.Second/time.Duration(rate))
				time.Sleep(time.Until(began.Add(time.Duration(sent) * time.Second / time.Duration(rate))))
				if err := r.postList(list); err != nil {
					r.t.Error(err)
					return
				}
			}
		})
	}
	posting.Wait()
}

func (r *receiver) postList(list []byte) error {
	response, err := r.client.Post("https://"+r.Addr+"/node_1", "application/json", bytes.NewReader(list))
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		return err
	}
	if response.StatusCode != http.StatusCreated || response.ProtoMajor != 2 {
		return fmt.Errorf("answered %s over %s", response.Status, response.Proto)
	}
	return nil
}

// cpu is what the process has used, all its threads, user and system.
func (r *receiver) cpu() time.Duration {
	r.t.Helper()
	_, said, _ := strings.Cut(r.Log(), " pid=") // the first line of the log
	pid, _, _ := strings.Cut(said, "\n")
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%s/stat", pid))
	if err != nil {
		r.t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(after)
	var user, system int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		r.t.Fatal(err)
	}
	const tick = time.Second / 100 // USER_HZ, the same on every Linux
	return time.Duration(user+system) * tick
}

// holds tells whether a file of an extension lies below dir.
func holds(dir, extension string) (found bool) {
	_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		found = found || (err == nil && strings.HasSuffix(path, extension))
		return nil
	})
	return found
}
