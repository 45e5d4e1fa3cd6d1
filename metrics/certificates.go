package metrics

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// maxCertificateFile bounds what is read: a bundle of CAs has some 200 kB.
const maxCertificateFile = 4 << 20

// Certificates are the files of certificate_files. They are read again when they
// change, since Kubernetes and cert-manager replace them while the process runs.
type Certificates struct {
	log *slog.Logger

	mu    sync.Mutex
	files []*certificateFile
}

// certificateFile is one file as it was found last.
type certificateFile struct {
	certificateState
	info fs.FileInfo // nil if it could not be read
}

// certificateState is what one file tells.
type certificateState struct {
	file    string
	ends    time.Time // of the certificate that ends first
	problem string    // "" for none
}

// NewCertificates reads the files, and says which cannot be: a Secret may come
// later, so that is no error.
func NewCertificates(files []string, log *slog.Logger) *Certificates {
	c := &Certificates{log: log}
	for _, file := range files {
		c.files = append(c.files, &certificateFile{certificateState: certificateState{file: file}})
	}
	c.read()
	return c
}

// read looks at every file, reads those that have changed, and logs what is new
// about them.
func (c *Certificates) read() []certificateState {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	states := make([]certificateState, 0, len(c.files))
	for _, f := range c.files {
		before := f.problem
		f.look()
		switch {
		case f.problem != "" && f.problem != before:
			c.log.Warn("when a certificate ends cannot be told; it is tried again at each scrape", "file", f.file, "reason", f.problem)
		case f.problem == "" && before != "":
			c.log.Info("a file of certificates can be read again", "file", f.file, "first_ends", f.ends.UTC().Format(time.RFC3339))
		}
		states = append(states, f.certificateState)
	}
	return states
}

// look brings the state up to date. A problem holds nothing of the file: it may be
// the one with the key.
func (f *certificateFile) look() {
	info, err := os.Stat(f.file)
	if err == nil && f.info != nil && os.SameFile(info, f.info) && info.Size() == f.info.Size() && info.ModTime().Equal(f.info.ModTime()) {
		return
	}
	f.info, f.ends = nil, time.Time{}
	var content []byte
	if err == nil {
		content, err = readCertificateFile(f.file, info)
	}
	if err != nil {
		f.problem = reasonOf(err)
		return
	}
	f.info, f.problem = info, ""
	if f.ends, err = earliestEnd(content); err != nil {
		f.problem = err.Error()
	}
}

func reasonOf(err error) string {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err.Error()
	}
	return err.Error()
}

func readCertificateFile(file string, info fs.FileInfo) ([]byte, error) {
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file") // reading a pipe would wait
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxCertificateFile+1))
	if err == nil && len(content) > maxCertificateFile {
		err = fmt.Errorf("it has more than %d bytes", maxCertificateFile)
	}
	return content, err
}

// earliestEnd is when the first of the certificates in a PEM file ends. Blocks of
// other kinds, keys among them, are skipped.
func earliestEnd(content []byte) (ends time.Time, err error) {
	found := 0
	for block, rest := pem.Decode(content); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		found++
		// The parser's own error may quote what it was given.
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return time.Time{}, fmt.Errorf("certificate %d in it does not parse", found)
		}
		if found == 1 || certificate.NotAfter.Before(ends) {
			ends = certificate.NotAfter
		}
	}
	if found == 0 {
		return time.Time{}, errors.New("there is no certificate in it")
	}
	return ends, nil
}
