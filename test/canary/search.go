// Package canary looks for secrets that were put into events, in everything that
// is left behind of them and in every encoding that comes up on the way.
//
// It is for tests, and knows nothing of where canaries may stay.
package canary

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"sync"

	"audit_s3/test/rig"
)

// Stem begins every canary, captured or made. What is searched for is the stem, so
// that pieces of canaries, and canaries that a test forgot to write down, are found
// as well.
const Stem = "CANARY-"

// Stems are what is searched for: what all canaries begin with, the captured one
// that has another name, and the key to the S3 server, which the plugin holds too.
var Stems = []string{Stem, "SUPERSECRETVALUE1", rig.SecretKey}

// needle is a stem in one encoding.
type needle struct {
	encoding string
	text     []byte
}

// needles are the stems in every encoding. JSON escapes and percent-encoding leave
// the letters of a stem alone, so the plain search finds a canary in either; those
// that change every byte are looked for as well. Base64 at each alignment is what
// stays the same whatever stands before and behind; its own output may have been
// encoded once more, as the data of a Secret is in a text that is encoded.
var needles = sync.OnceValue(func() []needle {
	var all []needle
	for _, stem := range Stems {
		once := encodings([]byte(stem))
		all = append(all, needle{"plain", []byte(stem)})
		all = append(all, once...)
		for _, n := range once {
			if strings.HasPrefix(n.encoding, "base64") {
				for _, m := range encodings(n.text) {
					all = append(all, needle{m.encoding + " of " + n.encoding, m.text})
				}
			}
		}
	}
	return all
})

func encodings(b []byte) []needle {
	all := []needle{
		{"hex", []byte(hex.EncodeToString(b))},
		{"HEX", bytes.ToUpper([]byte(hex.EncodeToString(b)))},
	}
	percent, unicode := "", ""
	for _, c := range b {
		percent += fmt.Sprintf("%%%02X", c)
		unicode += fmt.Sprintf(`\u%04x`, c)
	}
	all = append(all, needle{"percent", []byte(percent)}, needle{"unicode", []byte(unicode)})
	if lower := strings.ToLower(percent); lower != percent {
		all = append(all, needle{"percent, lower case", []byte(lower)})
	}
	for shift := range 3 {
		for name, encoding := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
			padded := append(make([]byte, shift), b...)
			text := encoding.EncodeToString(padded)
			// Only the characters all of whose six bits are the stem's.
			from, to := (shift*8+5)/6, len(padded)*8/6
			all = append(all, needle{fmt.Sprintf("%s+%d", name, shift), []byte(text[from:to])})
		}
	}
	return all
}

// Place is something that is searched: its kind, what it is called, and bytes.
// The name is searched as well.
type Place struct {
	Kind, Name string
	Content    []byte
}

// Hit is a canary that was found.
type Hit struct {
	Kind, Name, Encoding string
	Canary               string // as much of it as can be told
	Around               string
}

func (h Hit) String() string {
	return fmt.Sprintf("%s in %s %s, %s: %q", h.Canary, h.Kind, h.Name, h.Encoding, h.Around)
}

var canaryName = regexp.MustCompile(`CANARY-[A-Za-z0-9]+(-[0-9]+)?`)

// Search finds every stem in every encoding, once for each canary and place.
func Search(places []Place) []Hit {
	var hits []Hit
	seen := map[string]bool{}
	for _, p := range places {
		for _, text := range [][]byte{p.Content, []byte(p.Name)} {
			for _, n := range needles() {
				for from := 0; ; {
					i := bytes.Index(text[from:], n.text)
					if i < 0 {
						break
					}
					i += from
					from = i + len(n.text)
					h := Hit{p.Kind, p.Name, n.encoding, "a canary", string(text[max(0, i-60):min(len(text), i+80)])}
					switch {
					case n.encoding != "plain":
						h.Canary = decoded(text, i, n.encoding)
					case canaryName.Match(text[i:]):
						h.Canary = string(canaryName.Find(text[i:min(len(text), i+40)]))
					}
					if key := h.Kind + "\x00" + h.Name + "\x00" + h.Encoding + "\x00" + h.Canary; !seen[key] {
						seen[key] = true
						hits = append(hits, h)
					}
				}
			}
		}
	}
	return hits
}

// decoded names the canary of a hit in another encoding, as well as it can.
func decoded(text []byte, at int, encoding string) string {
	if strings.Contains(encoding, " of ") || !strings.HasPrefix(encoding, "base64") {
		return "a canary"
	}
	isBase64 := func(c byte) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '+' || c == '/' || c == '-' || c == '_'
	}
	end := at
	for end < len(text) && end < at+60 && isBase64(text[end]) {
		end++
	}
	for shift := range min(4, at+1) {
		run := text[at-shift : end]
		if len(run)%4 == 1 {
			run = run[:len(run)-1]
		}
		for _, alphabet := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			plain := make([]byte, len(run))
			n, _ := alphabet.Decode(plain, run)
			if name := canaryName.Find(plain[:n]); name != nil {
				return string(name)
			}
		}
	}
	return "a canary"
}

// Needles is how many stems in how many encodings are looked for.
func Needles() int { return len(needles()) }
