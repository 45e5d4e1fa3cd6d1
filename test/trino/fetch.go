package trino

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// central is where Trino publishes what it releases.
const central = "https://repo.maven.apache.org/maven2/io/trino/"

// fetch gives the path of the file at url. One that lies in the cache already was
// put there by somebody who could not download it, and is left there; one that was
// downloaded is removed by discard, since only what was unpacked is needed.
func fetch(ctx context.Context, url, cache string, logf logf) (path string, discard func(), err error) {
	path = filepath.Join(cache, url[strings.LastIndex(url, "/")+1:])
	if _, err := os.Stat(path); err == nil {
		logf("using %s", path)
		return path, func() {}, nil
	}
	if err := download(ctx, url, path, logf); err != nil {
		return "", nil, fmt.Errorf("%w; a file that was fetched elsewhere may be put at %s", err, path)
	}
	return path, func() { _ = os.Remove(path) }, nil
}

// download gives path its name only when its checksum is right.
func download(ctx context.Context, url, path string, logf logf) error {
	want, err := checksum(ctx, url+".sha1")
	if err != nil {
		return err
	}
	body, size, err := get(ctx, url)
	if err != nil {
		return err
	}
	defer body.Close()
	logf("downloading %s (%d MB)", url, size/1_000_000)
	part, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+partSuffix)
	if err != nil {
		return err
	}
	defer os.Remove(part.Name())
	defer part.Close()
	hash := sha1.New()
	if _, err := io.Copy(io.MultiWriter(part, hash), body); err != nil {
		return fmt.Errorf("downloading %s: %w", url, err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != want {
		return fmt.Errorf("%s has SHA-1 %s where %s.sha1 says %s", url, got, url, want)
	}
	if err := part.Close(); err != nil {
		return err
	}
	return os.Rename(part.Name(), path)
}

// checksum reads the digest that lies beside a file.
func checksum(ctx context.Context, url string) (string, error) {
	body, _, err := get(ctx, url)
	if err != nil {
		return "", err
	}
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, 1<<10))
	if err != nil {
		return "", fmt.Errorf("downloading %s: %w", url, err)
	}
	words := strings.Fields(string(b))
	if len(words) == 0 || len(words[0]) != 2*sha1.Size {
		return "", fmt.Errorf("%s holds no SHA-1", url)
	}
	return words[0], nil
}

func get(ctx context.Context, url string) (body io.ReadCloser, size int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, 0, fmt.Errorf("downloading %s: %w", url, err)
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, 0, fmt.Errorf("downloading %s: %s", url, resp.Status)
	}
	return resp.Body, resp.ContentLength, nil
}
