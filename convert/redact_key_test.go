package convert

import (
	"fmt"
	"testing"
)

// What one event taught must not show in another: a Batch that has seen all of
// them writes what a new one does.
func TestWhatIsRememberedChangesNothing(t *testing.T) {
	chunks, _ := clusterChunks(t)
	chunks = chunks[:12]
	for _, pair := range sameEnds {
		for _, order := range [][2]string{{pair[0], pair[1]}, {pair[1], pair[0]}} {
			for _, s := range order {
				chunks = append(chunks, record(t, requested(t, "create", "/api/v1/namespaces/a/pods", map[string]any{
					"requestObject": map[string]any{"kind": "Pod", "metadata": map[string]any{"name": "a", "annotations": map[string]any{"x": s}},
						"spec": map[string]any{s: "value-of-it", "env": []any{map[string]any{"name": s, "value": "value-of-it"}}}},
				})))
			}
		}
	}
	for _, mode := range []string{"default", "strict"} {
		t.Run(mode, func(t *testing.T) {
			converter := New(nil, loadRedaction(t, mode))
			var kept Batch
			for round := range 3 {
				for i, chunk := range chunks {
					var fresh Batch
					for _, b := range []*Batch{&kept, &fresh} {
						b.Reset(receivedAt)
						if err := converter.Convert(b, "audit", chunk); err != nil {
							t.Fatal(err)
						}
					}
					if string(kept.Payload()) != string(fresh.Payload()) {
						t.Fatalf("round %d, chunk %d: a batch that was used before writes something else", round, i)
					}
				}
			}
		})
	}
}

// sameEnds are pairs that are looked for at the same place: one is a secret's name,
// or holds a secret, the other does not.
var sameEnds = [][2]string{
	{"my-first-xx.password.of-all", "my-first-xx.passw-rd.of-all"},
	{"my-first-xx password=hunter22 of-all-of", "my-first-xx passwxrd=hunter22 of-all-of"},
	{"a-longer-text: curl -u jane:hunter2x https://example.org/", "a-longer-text: curl -x jane:hunter2x https://example.org/"},
}

func TestSameEndsShareAPlace(t *testing.T) {
	for _, pair := range sameEnds {
		t.Run(fmt.Sprintf("%.10s", pair[0]), func(t *testing.T) {
			if placeOf([]byte(pair[0])) != placeOf([]byte(pair[1])) {
				t.Error("they do not: they prove nothing of what happens where two do")
			}
		})
	}
}

// A text is remembered when it comes the second time, and goes when another one
// comes twice at its place.
func TestTextsAreRememberedFromTheSecondTime(t *testing.T) {
	x := redactor{known: new(known)}
	clean, other := []byte("my-first-xx nothing here of-all-of"), []byte("my-first-xx neither here of-all-of")
	remembered := func(s []byte) bool {
		return x.known.texts[placeOf(s)>>(64-knownTextBits)].text == string(s)
	}
	if placeOf(clean) != placeOf(other) {
		t.Fatal("they do not share a place")
	}
	for n, want := range []bool{false, true, true} {
		if x.findSecrets(clean); remembered(clean) != want {
			t.Errorf("after %d times: remembered %v, want %v", n+1, !want, want)
		}
	}
	if x.findSecrets([]byte("never the same xx: 1")); !remembered(clean) {
		t.Error("a text that came once pushed it out")
	}
	x.findSecrets(other)
	x.findSecrets(other)
	if !remembered(other) || x.findSecrets(clean) {
		t.Error("the later one is not there, or the earlier one is a secret now")
	}
	secret := []byte("my-first-xx password=hunter22 of-all-of")
	for range 3 {
		if !x.findSecrets(secret) || remembered(secret) {
			t.Fatal("a text with a secret was remembered, or not found again")
		}
	}
}

// Nothing that is remembered points into the chunk: that memory is Fluent Bit's.
func TestWhatIsRememberedIsACopy(t *testing.T) {
	x := redactor{known: new(known)}
	text := []byte("a text that comes twice")
	x.findSecrets(text)
	x.findSecrets(text)
	key := []byte("password")
	x.key(key)
	copy(text, "b text")
	copy(key, "passwxrd")
	if !x.findSecrets([]byte("x password=hunter22")) || x.key([]byte("password"))&keySecret == 0 {
		t.Error("a key or a text is read wrong after the chunk changed")
	}
	if x.known.texts[placeOf([]byte("a text that comes twice"))>>(64-knownTextBits)].text != "a text that comes twice" {
		t.Error("what was remembered changed with the chunk")
	}
}
