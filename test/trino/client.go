package trino

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// Result is what one statement answered and what that cost.
type Result struct {
	Columns []string
	Types   []string // as Trino writes them, such as varchar or array(varchar)
	Rows    [][]any  // see value

	QueryID string
	// PhysicalInputBytes is what was read from S3, compressed, footers included. A
	// file of which the footer alone was read, to find nothing in it, counts as 0.
	PhysicalInputBytes int64
	PhysicalInputRows  int64 // what the readers decoded, before the filter
	ProcessedRows      int64
	PeakMemoryBytes    int64
	Elapsed            time.Duration
}

// Error is a statement that Trino refused or could not finish.
type Error struct {
	QueryID string
	Name    string // such as SYNTAX_ERROR
	Type    string // USER_ERROR, INTERNAL_ERROR, INSUFFICIENT_RESOURCES or EXTERNAL
	Message string
}

func (e *Error) Error() string {
	return fmt.Sprintf("trino query %s: %s: %s", e.QueryID, e.Name, e.Message)
}

// Exec runs a statement whose rows are of no interest.
func (s *Server) Exec(ctx context.Context, sql string) error {
	_, err := s.run(ctx, sql)
	return err
}

// Query runs a statement and waits for all of its rows and its final
// statistics. Each is a session of its own: catalog hive, schema default, UTC.
// There is no `;` at the end.
func (s *Server) Query(ctx context.Context, sql string) (*Result, error) {
	result, err := s.run(ctx, sql)
	if err != nil {
		return nil, err
	}
	if err := s.addStatistics(ctx, result); err != nil {
		return nil, fmt.Errorf("trino query %s: its statistics: %w", result.QueryID, err)
	}
	return result, nil
}

// page is one answer of the statement protocol.
type page struct {
	ID      string   `json:"id"`
	NextURI string   `json:"nextUri"`
	Columns []column `json:"columns"`
	Data    [][]any  `json:"data"`
	Error   *struct {
		Message   string `json:"message"`
		ErrorName string `json:"errorName"`
		ErrorType string `json:"errorType"`
	} `json:"error"`
}

type column struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// run sends a statement and follows its pages to the last one.
func (s *Server) run(ctx context.Context, sql string) (*Result, error) {
	result := &Result{}
	method, uri, body := http.MethodPost, s.url+"/v1/statement", sql
	for uri != "" {
		var p page
		if err := s.call(ctx, method, uri, body, &p); err != nil {
			s.cancel(uri, method)
			return nil, fmt.Errorf("trino query %s: %w", cmp.Or(result.QueryID, "without an ID"), err)
		}
		if err := result.add(&p); err != nil {
			return nil, err
		}
		method, uri, body = http.MethodGet, p.NextURI, ""
	}
	return result, nil
}

func (r *Result) add(p *page) error {
	r.QueryID = p.ID
	if p.Error != nil {
		return &Error{QueryID: p.ID, Name: p.Error.ErrorName, Type: p.Error.ErrorType, Message: p.Error.Message}
	}
	if r.Columns == nil {
		for _, c := range p.Columns {
			r.Columns = append(r.Columns, c.Name)
			r.Types = append(r.Types, c.Type)
		}
	}
	for _, row := range p.Data {
		for i := range row {
			row[i] = value(row[i])
		}
		r.Rows = append(r.Rows, row)
	}
	return nil
}

// value is a value as Go has it: whole numbers of every SQL type are int64, other
// numbers float64, decimals, dates and timestamps strings, arrays and rows
// []any, maps map[string]any; NULL is nil.
func value(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
		return v.String()
	case []any:
		for i := range v {
			v[i] = value(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = value(v[k])
		}
	}
	return v
}

// cancel tells Trino that nobody waits for the rest of a statement.
func (s *Server) cancel(uri, method string) {
	if method != http.MethodGet {
		return // it was not accepted, or is not known by a name
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = s.call(ctx, http.MethodDelete, uri, "", nil)
}

// statistics is the part of interest of what Trino knows about a query.
type statistics struct {
	State string `json:"state"`
	Final bool   `json:"finalQueryInfo"`
	Stats struct {
		PhysicalInputDataSize   size  `json:"physicalInputDataSize"`
		PhysicalInputPositions  int64 `json:"physicalInputPositions"`
		ProcessedInputPositions int64 `json:"processedInputPositions"`
		PeakUserMemory          size  `json:"peakUserMemoryReservation"`
		ElapsedTime             span  `json:"elapsedTime"`
	} `json:"queryStats"`
}

// addStatistics waits for the final ones: the last page of rows may be
// answered before the last task has reported what it read.
func (s *Server) addStatistics(ctx context.Context, r *Result) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		var q statistics
		if err := s.call(ctx, http.MethodGet, s.url+"/v1/query/"+r.QueryID, "", &q); err != nil {
			return err
		}
		if q.Final {
			r.PhysicalInputBytes = int64(q.Stats.PhysicalInputDataSize)
			r.PhysicalInputRows = q.Stats.PhysicalInputPositions
			r.ProcessedRows = q.Stats.ProcessedInputPositions
			r.PeakMemoryBytes = int64(q.Stats.PeakUserMemory)
			r.Elapsed = time.Duration(q.Stats.ElapsedTime)
			return nil
		}
		if err := sleep(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("not final in state %s: %w", q.State, err)
		}
	}
}

// call is one request; into may be nil.
func (s *Server) call(ctx context.Context, method, uri, body string, into any) error {
	for {
		status, answer, err := s.request(ctx, method, uri, body)
		switch {
		case err != nil:
			return err
		case status == http.StatusServiceUnavailable: // the protocol's word for: ask again
			if err := sleep(ctx, 50*time.Millisecond); err != nil {
				return err
			}
			continue
		case status/100 != 2:
			return fmt.Errorf("%s %s: status %d: %.500s", method, uri, status, answer)
		case into == nil:
			return nil
		}
		decoder := json.NewDecoder(bytes.NewReader(answer))
		decoder.UseNumber() // a float64 would round a bigint
		if err := decoder.Decode(into); err != nil {
			return fmt.Errorf("%s %s: %w", method, uri, err)
		}
		return nil
	}
}

func (s *Server) request(ctx context.Context, method, uri, body string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, uri, strings.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	for name, value := range map[string]string{
		"User": "test", "Source": "audit_s3", "Catalog": Catalog, "Schema": Schema, "Time-Zone": "UTC",
		// Without it timestamps are cut to milliseconds for the sake of old clients.
		"Client-Capabilities": "PARAMETRIC_DATETIME",
	} {
		req.Header.Set("X-Trino-"+name, value)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return 0, nil, s.explain(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, s.explain(err)
	}
	return resp.StatusCode, answer, nil
}

// explain adds why the server is gone, if it is.
func (s *Server) explain(err error) error {
	select {
	case <-s.exited:
		return errors.Join(err, s.ended())
	default:
		return err
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}
