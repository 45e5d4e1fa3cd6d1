package ask

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/itchyny/gojq"
)

// RunJQ puts the question of a query's head to events as JSON, and returns what
// it answers: one object per row, of column and value.
func (q Query) RunJQ(events []map[string]any) ([]map[string]any, error) {
	conf, err := Conf()
	if err != nil {
		return nil, err
	}
	prelude, err := os.ReadFile(filepath.Join(conf, "athena/queries/audit.jq"))
	if err != nil {
		return nil, err
	}
	program, err := gojq.Parse(string(prelude) + "\n" + q.JQ)
	if err != nil {
		return nil, fmt.Errorf("the jq program of %s: %w", q.Name, err)
	}
	input := make([]any, len(events))
	for i, e := range events {
		input[i] = e
	}
	var rows []map[string]any
	for iter := program.Run(input); ; {
		value, ok := iter.Next()
		if !ok {
			return rows, nil
		}
		switch value := value.(type) {
		case error:
			return nil, fmt.Errorf("the jq program of %s: %w", q.Name, value)
		case map[string]any:
			rows = append(rows, value)
		default:
			return nil, fmt.Errorf("the jq program of %s answers %T, not an object", q.Name, value)
		}
	}
}
