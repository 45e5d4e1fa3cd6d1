package table

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
)

// goldenDigest is of testdata/schema-v1.parquet as it was committed.
//
// That file may never be made anew, not by -update either: it stands for all files
// of version 1 that lie in buckets under a retention lock and cannot be rewritten.
// A file made again would be of today's writer, and what reads it would show only
// that today's writer and readers agree.
const goldenDigest = "bd09d04e63e8abc5b1e4926bca8ecd30d2f7d1adeb19770a2056db442b25110a"

// rowsDigest is of testdata/schema-v1.json, the rows of that file.
const rowsDigest = "e580063ac43d541cd2201aca3875c392b7ef241f0cfbcdbc6d971a6292237926"

func TestGoldenFileIsAsCommitted(t *testing.T) {
	for name, want := range map[string]string{"schema-v1.parquet": goldenDigest, "schema-v1.json": rowsDigest} {
		data, err := testdata(name)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(data)
		if got := hex.EncodeToString(sum[:]); got != want {
			t.Errorf("testdata/%s has the SHA-256 %s, want %s: it must be put back as it was committed, see goldenDigest", name, got, want)
		}
	}
}
