package conf

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Markdown is the README's table of keys.
func Markdown() string {
	var b strings.Builder
	b.WriteString("| key | default | meaning |\n|---|---|---|\n")
	for _, k := range keys {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", k.name, k.shownDefault(), k.meaning)
	}
	return b.String()
}

func (k key) shownDefault() string {
	switch {
	case k.required:
		return "required"
	case k.standard != "":
		return k.standard
	}
	return "`" + k.fallback + "`"
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
