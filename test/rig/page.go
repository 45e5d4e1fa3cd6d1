package rig

import (
	"fmt"
	"os"
	"strings"
)

// Between holds what stands between two marks of a page, <!-- MARK:begin --> and
// <!-- MARK:end -->, against text; with update it writes it instead.
func Between(page, mark, text string, update bool) error {
	data, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	begin, end := "<!-- "+mark+":begin -->\n", "<!-- "+mark+":end -->\n"
	head, rest, ok := strings.Cut(string(data), begin)
	block, tail, ok2 := strings.Cut(rest, end)
	switch {
	case !ok || !ok2:
		return fmt.Errorf("%s lacks the lines %q and %q", page, begin, end)
	case block == text:
		return nil
	case update:
		return os.WriteFile(page, []byte(head+begin+text+end+tail), 0o644)
	}
	return fmt.Errorf("%s is not what the code says; write it with: make generate\ngot:\n%s\nwant:\n%s", page, block, text)
}
