package apiserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// call is how a script has called kubectl or aws, result what that answers.
type call struct {
	Name  string
	Args  []string
	Input string
}

type result struct {
	Output, Error string
	Code          int
}

const commandURL = "APISERVER_TEST_COMMAND_URL"

// command is this program as kubectl or aws: it asks the test what to do.
func command(name string, args []string) int {
	c := call{Name: name, Args: args}
	if info, err := os.Stdin.Stat(); err == nil && info.Mode()&os.ModeCharDevice == 0 {
		input, _ := io.ReadAll(os.Stdin)
		c.Input = string(input)
	}
	body, _ := json.Marshal(c)
	answer, err := http.Post(os.Getenv(commandURL), "application/json", bytes.NewReader(body))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 125
	}
	defer answer.Body.Close()
	var r result
	if err := json.NewDecoder(answer.Body).Decode(&r); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 125
	}
	fmt.Print(r.Output)
	fmt.Fprint(os.Stderr, r.Error)
	return r.Code
}

// commands puts kubectl and aws on the PATH, which call do.
func commands(t *testing.T, do func(call) result) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for _, name := range []string{"kubectl", "aws"} {
		if err := os.Symlink(self, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var c call
		if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
			t.Error(err)
		}
		if err := json.NewEncoder(w).Encode(do(c)); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(s.Close)
	t.Setenv(commandURL, s.URL)
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

// kubectlSays is a kubectl that knows one thing: "get service: 10.96.0.50".
func kubectlSays(t *testing.T, what string) {
	t.Helper()
	commands(t, func(c call) result {
		asked, says, _ := strings.Cut(what, ": ")
		if asked == "" || !strings.Contains(strings.Join(c.Args, " "), asked) {
			return result{Error: "not found\n", Code: 1}
		}
		return result{Output: says}
	})
}
