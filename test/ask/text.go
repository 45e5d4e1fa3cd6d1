package ask

import (
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// Text is a value of an engine or of jq in one form for all of them, so that
// answers can be compared and printed.
func Text(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case string:
		return v
	case []byte:
		return string(v)
	case time.Time:
		return v.UTC().Format("2006-01-02 15:04:05.000")
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case *big.Int:
		return v.String()
	case json.Number:
		return v.String()
	case map[string]any, []any:
		b, err := json.Marshal(v)
		if err != nil {
			return fmt.Sprint(v)
		}
		return string(b)
	}
	return fmt.Sprint(v)
}

// Project is rows cut down to some of their columns, each row one text. A value
// that is JSON text is brought to one form first: engines space it differently.
func Project(columns []string, rows [][]any, names []string) ([]string, error) {
	at := make([]int, len(names))
	for i, name := range names {
		at[i] = -1
		for j, column := range columns {
			if column == name {
				at[i] = j
			}
		}
		if at[i] < 0 {
			return nil, fmt.Errorf("no column %s among %s", name, strings.Join(columns, ", "))
		}
	}
	out := make([]string, len(rows))
	for r, row := range rows {
		values := make([]string, len(names))
		for i, j := range at {
			values[i] = names[i] + "=" + canonical(Text(row[j]))
		}
		out[r] = strings.Join(values, " ")
	}
	return out, nil
}

func canonical(s string) string {
	if !strings.HasPrefix(s, "{") && !strings.HasPrefix(s, "[") {
		return s
	}
	var v any
	if json.Unmarshal([]byte(s), &v) != nil {
		return s
	}
	b, err := json.Marshal(v)
	if err != nil {
		return s
	}
	return string(b)
}
