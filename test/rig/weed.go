package rig

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// Weed is a SeaweedFS: an S3 server of another make, whose objects are parts of
// volumes.
type Weed struct {
	Endpoint string
	dir      string
	ports    []int
	process  *process
}

// NewWeed prepares a server over dir; the error says if it is not built.
func NewWeed(dir string) (*Weed, error) {
	if _, err := Built("weed"); err != nil {
		return nil, err
	}
	w := &Weed{dir: dir}
	for range 8 { // each of its four servers has a second port
		port, err := freePort()
		if err != nil {
			return nil, err
		}
		w.ports = append(w.ports, port)
	}
	w.Endpoint = fmt.Sprintf("http://127.0.0.1:%d", w.ports[6])
	identities := fmt.Sprintf(`{"identities":[{"name":"rig","credentials":[{"accessKey":%q,"secretKey":%q}],"actions":["Admin","Read","Write","List","Tagging"]}]}`, AccessKey, SecretKey)
	return w, os.WriteFile(filepath.Join(dir, "identities.json"), []byte(identities), 0o600)
}

// Start runs the server until Stop.
func (w *Weed) Start(ctx context.Context) error {
	program, err := Built("weed")
	if err != nil {
		return err
	}
	args := []string{"server", "-dir=" + w.dir, "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3", "-s3.autoCreateBucket=false", "-s3.config=" + filepath.Join(w.dir, "identities.json"),
		"-volume.max=500", "-master.volumeSizeLimitMB=64"}
	for i, name := range []string{"master", "volume", "filer", "s3"} {
		args = append(args, fmt.Sprintf("-%s.port=%d", name, w.ports[2*i]), fmt.Sprintf("-%s.port.grpc=%d", name, w.ports[2*i+1]))
	}
	if w.process, err = startProcess(exec.Command(program, args...)); err != nil {
		return err
	}
	if err := w.process.waitListening(ctx, fmt.Sprintf("127.0.0.1:%d", w.ports[6])); err != nil {
		return err
	}
	// It listens before it can store.
	return Wait(ctx, func() (bool, error) {
		_, err := w.Client().ListBuckets(ctx, &s3.ListBucketsInput{})
		return err == nil, nil
	})
}

// Stop ends the server.
func (w *Weed) Stop() {
	if w.process != nil {
		w.process.kill()
		w.process = nil
	}
}

// Client speaks to the server.
func (w *Weed) Client() *s3.Client { return clientOf(w.Endpoint) }
