package spool

import (
	"strings"
	"testing"
)

func TestNamesReadBackAsWritten(t *testing.T) {
	id := strings.Repeat("ab", 16)
	for base, want := range map[string]name{
		"0000000000000001-" + id + ".new":                      {1, id, 0, 0, stateNew},
		"0000000000000002-" + id + ".open":                     {2, id, 0, 0, stateOpen},
		"0000000000000003-" + id + "-4096.sealed":              {3, id, 4096, 0, stateSealed},
		"0000000000000004-" + id + "-4096-try2.sealed":         {4, id, 4096, 2, stateSealed},
		"0000000000000005-" + id + "-1.damaged":                {5, id, 1, 0, stateDamaged},
		"0000000000000006-" + id + "-try1.damaged":             {6, id, 0, 1, stateDamaged},
		"0000000000000007-" + id + ".unconvertible":            {7, id, 0, 0, stateUnconvertible},
		"18446744073709551615-" + id + "-9-try3.kept":          {1<<64 - 1, id, 9, 3, stateKept},
		"10000000000000000-" + id + "-9.sealed":                {1e16, id, 9, 0, stateSealed}, // beyond 16 digits
		"0000000000000008-" + id + "-9223372036854775807.kept": {8, id, 1<<63 - 1, 0, stateKept},
	} {
		if n, ok := parseName(base); !ok || n != want {
			t.Errorf("%s is read as %+v, %v", base, n, ok)
		}
		if got := want.String(); got != base {
			t.Errorf("%+v is written as %s, want %s", want, got, base)
		}
	}
}

// TestForeignNamesAreToldApart: only their state is known, by the extension.
func TestForeignNamesAreToldApart(t *testing.T) {
	id := strings.Repeat("ab", 16)
	for _, base := range []string{
		"", ".", ".sealed", "-.sealed", "x.sealed", "1.sealed", "1-.sealed", "1-x.sealed", "1-" + id[1:] + ".sealed", "1-" + id + "ab.sealed",
		"0-" + id + ".sealed", "-1-" + id + ".sealed", "x-" + id + ".sealed", "18446744073709551616-" + id + ".sealed",
		"1-" + id + "-.sealed", "1-" + id + "-0.sealed", "1-" + id + "--1.sealed", "1-" + id + "-1-1.sealed", "1-" + id + "-x.sealed", "1-" + id + "-9223372036854775808.sealed",
		"1-" + id + "-try.sealed", "1-" + id + "-try0.sealed", "1-" + id + "-try-1.sealed", "1-" + id + "-try1-1.sealed", "1-" + id + "-1-tr1.sealed", "1-" + id + "-1-try1-.sealed",
	} {
		n, ok := parseName(base)
		if ok {
			t.Errorf("%q is taken for %+v", base, n)
		}
		if strings.HasSuffix(base, ".sealed") && n.state != stateSealed {
			t.Errorf("the state of %q is %q", base, n.state)
		}
	}
}

// FuzzName: whatever is taken for a name of ours is one, and names the same after
// it was written.
func FuzzName(f *testing.F) {
	id := strings.Repeat("ab", 16)
	for _, base := range []string{"", "x.sealed", "0000000000000003-" + id + "-4096-try2.sealed", "3-" + id + ".open", "3-" + strings.ToUpper(id) + "-+5-try+1.kept"} {
		f.Add(base)
	}
	f.Fuzz(func(t *testing.T, base string) {
		n, ok := parseName(base)
		if !ok {
			return
		}
		if again, ok := parseName(n.String()); !ok || again != n {
			t.Errorf("%q is %+v, written %q, and then %+v, %v", base, n, n, again, ok)
		}
	})
}
