package metrics

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var day = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

// certificate is one in PEM that ends at a time; key is its key.
func certificate(t testing.TB, ends time.Time) (text, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: ends.Add(-time.Hour), NotAfter: ends}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &k.PublicKey, k)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestEarliestEnd(t *testing.T) {
	early, key := certificate(t, day)
	late, _ := certificate(t, day.AddDate(1, 0, 0))
	mislabelled := bytes.ReplaceAll(key, []byte("PRIVATE KEY"), []byte("CERTIFICATE"))
	for name, test := range map[string]struct {
		content []byte
		want    string // the end, or the error
	}{
		"one":                {early, "2026-11-23"},
		"the first":          {join(early, late), "2026-11-23"},
		"the last":           {join(late, early), "2026-11-23"},
		"text around":        {join([]byte("# our CA\n"), late, []byte("\nhunter2\n"), early, []byte("end")), "2026-11-23"},
		"a key before":       {join(key, late), "2027-11-23"},
		"nothing":            {nil, "there is no certificate in it"},
		"no PEM":             {[]byte("hunter2"), "there is no certificate in it"},
		"a key alone":        {key, "there is no certificate in it"},
		"a key mislabelled":  {join(late, mislabelled), "certificate 2 in it does not parse"},
		"cut off":            {late[:len(late)/2], "there is no certificate in it"},
		"cut off behind one": {join(early, late[:len(late)/2]), "2026-11-23"},
	} {
		ends, err := earliestEnd(test.content)
		got := ends.Format(time.DateOnly)
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

// FuzzEarliestEnd: whatever stands in a file, it is an end or an error, which
// quotes nothing of it.
func FuzzEarliestEnd(f *testing.F) {
	early, key := certificate(f, day)
	for _, seed := range [][]byte{nil, early, key, join(key, early, early), early[:100], []byte("-----BEGIN CERTIFICATE-----\naHVudGVyMg==\n-----END CERTIFICATE-----\n"),
		[]byte("-----BEGIN CERTIFICATE-----\nA: b\n\nMA==\n-----END CERTIFICATE-----\n"), bytes.Repeat([]byte("-----BEGIN "), 1000)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		ends, err := earliestEnd(content)
		switch {
		case err == nil && (ends.IsZero() || !bytes.Contains(content, []byte("CERTIFICATE"))):
			t.Errorf("ends %v without a certificate", ends)
		case err != nil && !ends.IsZero():
			t.Errorf("ends %v, error %v", ends, err)
		case err != nil && err.Error() != "there is no certificate in it" && (!strings.HasPrefix(err.Error(), "certificate ") || !strings.HasSuffix(err.Error(), " in it does not parse")):
			t.Errorf("error %q", err)
		}
	})
}

// TestCertificateFilesAreReadAgainWhenTheyChange, and trouble is said once until
// it is another.
func TestCertificateFilesAreReadAgainWhenTheyChange(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "tls.crt")
	early, key := certificate(t, day)
	late, _ := certificate(t, day.AddDate(1, 0, 0))
	write := func(content []byte) {
		t.Helper() // as kubelet does: another file takes the name
		next := filepath.Join(dir, "next")
		if err := os.WriteFile(next, content, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, file); err != nil {
			t.Fatal(err)
		}
	}
	var log bytes.Buffer
	c := NewCertificates([]string{file}, slog.New(slog.NewTextHandler(&log, nil)))
	for _, step := range []struct {
		content []byte // nil: none is written
		want    string // the end, or the problem
		said    string
	}{
		{nil, "no such file or directory", "level=WARN msg=\"when a certificate ends cannot be told"}, // at the start
		{nil, "no such file or directory", ""},
		{early, "2026-11-23", "level=INFO msg=\"a file of certificates can be read again\""},
		{nil, "2026-11-23", ""},
		{late, "2027-11-23", ""},
		{key, "there is no certificate in it", "reason=\"there is no certificate in it\""},
		{key, "there is no certificate in it", ""},
		{join(early, late), "2026-11-23", "can be read again"},
	} {
		if step.content != nil {
			write(step.content)
		}
		state := c.read()[0]
		got := state.problem
		if got == "" {
			got = state.ends.UTC().Format(time.DateOnly)
		}
		if got != step.want || state.file != file {
			t.Errorf("%s: %s, want %s", state.file, got, step.want)
		}
		said := log.String()
		log.Reset()
		if (step.said == "") != (said == "") || !strings.Contains(said, step.said) || strings.Count(said, "\n") > 1 {
			t.Errorf("%s: said %q, want %q", step.want, said, step.said)
		}
		if strings.Contains(said, "BEGIN") || strings.Contains(said, "MII") {
			t.Errorf("the log holds what is in the file: %s", said)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := c.read()[0].problem; got != "it is no regular file" { // and it did not wait for a writer
		t.Errorf("a pipe: %s", got)
	}
	write(make([]byte, maxCertificateFile+1))
	if got := c.read()[0].problem; !strings.Contains(got, "it has more than") {
		t.Errorf("a huge file: %s", got)
	}
}
