package convert

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
)

// TestAbsentStaysNull writes bodies in random patterns of there and absent, in
// portions of many sizes, and reads them back. Of rows whose optional columns are
// []byte, parquet-go v0.32.0 writes some of the NULLs as empty strings.
func TestAbsentStaysNull(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 0))
		file, err := os.Create(filepath.Join(t.TempDir(), "f"))
		if err != nil {
			t.Fatal(err)
		}
		w := newParquetWriter(file, "test", newPageCodec(), new(spareBlocks))
		var want []Event
		for range 1 + random.IntN(600) {
			e := Event{AuditID: fmt.Sprint(len(want)), PolicyRule: -1, ResponseStatus: &ResponseStatus{}}
			for _, body := range []*[]byte{&e.RequestObject, &e.ResponseObject, &e.OtherFields, &e.ResponseStatus.Details} {
				if random.IntN(3) > 0 {
					*body = []byte(`{}`)
				}
			}
			if random.IntN(3) == 0 {
				e.ResponseStatus = nil
			}
			if random.IntN(3) == 0 {
				e.PolicyRule = 7
			}
			want = append(want, e)
			if err := w.add(&e, &Frame{}, ""); err != nil {
				t.Fatal(err)
			}
			if random.IntN(50) == 0 {
				if err := w.flush(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := w.close(nil); err != nil {
			t.Fatal(err)
		}
		rows := readRows(t, file)
		if len(rows) != len(want) {
			t.Fatalf("%d rows, want %d", len(rows), len(want))
		}
		for i, e := range want {
			same(t, seed, i, "requestobject", e.RequestObject, rows[i].RequestObject)
			same(t, seed, i, "responseobject", e.ResponseObject, rows[i].ResponseObject)
			same(t, seed, i, "otherfields", e.OtherFields, rows[i].OtherFields)
			if (e.ResponseStatus == nil) != (rows[i].ResponseStatus == nil) {
				t.Errorf("seed %d row %d: responsestatus is %v, want %v", seed, i, rows[i].ResponseStatus, e.ResponseStatus)
			} else if e.ResponseStatus != nil {
				same(t, seed, i, "details", e.ResponseStatus.Details, rows[i].ResponseStatus.Details)
			}
			if (e.PolicyRule < 0) != (rows[i].PolicyRule == nil) {
				t.Errorf("seed %d row %d: policyrule is %v, want %d", seed, i, rows[i].PolicyRule, e.PolicyRule)
			}
		}
	}
}

func same(t *testing.T, seed uint64, row int, column string, want []byte, got *string) {
	t.Helper()
	if (want == nil) != (got == nil) || (got != nil && *got != string(want)) {
		t.Errorf("seed %d row %d: %s is %v, want %q", seed, row, column, got, want)
	}
}
