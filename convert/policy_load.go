package convert

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-logr/logr"
	yaml "go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	auditinternal "k8s.io/apiserver/pkg/apis/audit"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/apiserver/pkg/apis/audit/validation"
	"k8s.io/apiserver/pkg/audit"
	"k8s.io/klog/v2"
)

// silenceKlog turns off the log of the Kubernetes libraries, once for the process:
// the request parser logs whole query strings, in which secrets stand.
var silenceKlog = sync.OnceFunc(func() { klog.SetLogger(logr.Discard()) })

// LoadPolicy reads an audit.k8s.io/v1 Policy. It is stricter than the API
// server's own loader, which only warns of a misspelt field and reads the first
// document alone: a rule that says `Users:` would match everybody.
//
// The error names every fault found, each with file, line and field.
func LoadPolicy(file string, data []byte) (*Policy, error) {
	silenceKlog()
	root, err := oneDocument(data, "an audit.k8s.io/v1 Policy")
	if err != nil {
		return nil, located(file, &yaml.Node{}, []string{err.Error()})
	}
	problems := append(wrongType(root), lostBytes(root)...)
	if len(problems) == 0 {
		problems = parsePolicy(data)
	}
	if len(problems) > 0 {
		return nil, located(file, root, problems)
	}
	p := &auditinternal.Policy{}
	if err := decodePolicy(data, p); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	sum := sha256.Sum256(data)
	result := newPolicy(p, hex.EncodeToString(sum[:]))
	result.document = bytes.Clone(data)
	return result, nil
}

// oneDocument parses data as a single YAML document.
func oneDocument(data []byte, what string) (*yaml.Node, error) {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var root, second yaml.Node
	if err := dec.Decode(&root); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("the file is empty; write " + what)
		}
		return nil, err
	}
	if err := dec.Decode(&second); errors.Is(err, io.EOF) {
		return &root, nil
	} else if err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("yaml: line %d: a second YAML document begins; only one is read, so keep one", second.Line)
}

// wrongType checks what the decoder takes for granted when it is absent, and
// where it complains without a line.
func wrongType(root *yaml.Node) (problems []string) {
	for _, must := range [][2]string{{"apiVersion", auditv1.SchemeGroupVersion.String()}, {"kind", "Policy"}} {
		if _, value := child(root.Content[0], must[0]); value == nil || value.Value != must[1] {
			problems = append(problems, must[0]+": must be "+must[1])
		}
	}
	return problems
}

// lostBytes finds U+FFFD. JSON puts it for bytes that are not UTF-8, so that here a
// rule with it would match a user whom it does not match in the API server.
func lostBytes(node *yaml.Node) (problems []string) {
	if strings.ContainsRune(node.Value, utf8.RuneError) {
		problems = append(problems, fmt.Sprintf("yaml: line %d: U+FFFD stands for bytes that no event can hold; rules cannot match by it", node.Line))
	}
	for _, child := range node.Content {
		problems = append(problems, lostBytes(child)...)
	}
	return problems
}

// parsePolicy returns everything that is wrong with the policy.
func parsePolicy(data []byte) []string {
	p := &auditinternal.Policy{}
	err := decodePolicy(data, p)
	var strict interface{ Errors() []error }
	switch {
	case err == nil:
	case runtime.IsStrictDecodingError(err) && errors.As(err, &strict):
		var problems []string
		for _, e := range strict.Errors() {
			problems = append(problems, e.Error())
		}
		return problems
	default:
		return []string{err.Error()}
	}
	var problems []string
	for _, e := range validation.ValidatePolicy(p) {
		problems = append(problems, e.Error())
	}
	if len(p.Rules) == 0 {
		problems = append(problems, "rules: Required value: a policy without rules would drop every event")
	}
	return problems
}

func decodePolicy(data []byte, into *auditinternal.Policy) error {
	decoder := serializer.NewCodecFactory(audit.Scheme, serializer.EnableStrict).UniversalDecoder()
	_, _, err := decoder.Decode(data, nil, into)
	return err
}

// fieldPath finds a path such as rules[0].resources[1].group in a message.
var fieldPath = regexp.MustCompile(`[A-Za-z]+(?:\[\d+\])?(?:\.[A-Za-z]+(?:\[\d+\])?)*`)

// yamlLine is how the YAML library tells a line.
var yamlLine = regexp.MustCompile(`^yaml: (?:unmarshal errors:\s+)?line (\d+): `)

// located puts file and line before each problem, as far as its field can be
// found in the document.
func located(file string, root *yaml.Node, problems []string) error {
	lines := make([]string, len(problems))
	for i, problem := range problems {
		at := file
		if m := yamlLine.FindStringSubmatch(problem); m != nil {
			at, problem = file+":"+m[1], problem[len(m[0]):]
		} else if line := lineOf(root, problem); line > 0 {
			at = fmt.Sprintf("%s:%d", file, line)
		}
		lines[i] = at + ": " + problem
	}
	return errors.New(strings.Join(lines, "; "))
}

// lineOf returns the line of the deepest node that a path in the problem leads to.
func lineOf(root *yaml.Node, problem string) int {
	best, bestDepth := 0, 0
	for _, path := range fieldPath.FindAllString(problem, -1) {
		if line, depth := walk(root, path); depth > bestDepth {
			best, bestDepth = line, depth
		}
	}
	return best
}

// walk follows path through the document and returns the line of the last node
// it reached and the number of steps it took.
func walk(root *yaml.Node, path string) (line, depth int) {
	node := root
	if node.Kind == yaml.DocumentNode && len(node.Content) > 0 {
		node = node.Content[0]
	}
	for _, step := range strings.Split(path, ".") {
		name, index, indexed := strings.Cut(strings.TrimSuffix(step, "]"), "[")
		key, value := child(node, name)
		if value == nil {
			return line, depth
		}
		node, line, depth = value, key.Line, depth+1
		if !indexed {
			continue
		}
		i, err := strconv.Atoi(index)
		if err != nil || node.Kind != yaml.SequenceNode || i >= len(node.Content) {
			return line, depth
		}
		node = node.Content[i]
		line, depth = node.Line, depth+1
	}
	return line, depth
}

func child(node *yaml.Node, name string) (key, value *yaml.Node) {
	if node.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			return node.Content[i], node.Content[i+1]
		}
	}
	return nil, nil
}
