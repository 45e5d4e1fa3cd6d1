package convert

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	yaml "go.yaml.in/yaml/v3"
	"k8s.io/apiserver/pkg/authorization/authorizer"

	"audit_s3/conf"
)

// Redaction says what is removed from events after their level has been applied.
// A nil Redaction removes nothing. It does not change once it is loaded.
type Redaction struct {
	mode     string
	document []byte
	digest   string
	strict   bool
	key      *macKey
	file     redactionFile

	programs sync.Map // resourceKey → *program
	kept     atomic.Int64
}

// The actions of a rule.
const (
	actionReplace = "replace"
	actionHash    = "hash"
	actionRemove  = "remove"
	actionKeep    = "keep"
)

// redactionFile is a file of rules; conf/redaction/default.yaml explains it.
type redactionFile struct {
	APIVersion      string           `yaml:"apiVersion"`
	Kind            string           `yaml:"kind"`
	SecretResources []secretResource `yaml:"secretResources"`
	KeepUserExtra   []string         `yaml:"keepUserExtra"`
	KeepAnnotations []string         `yaml:"keepAnnotations"`
	Rules           []redactionRule  `yaml:"rules"`
}

type secretResource struct {
	APIGroup string `yaml:"apiGroup"`
	Resource string `yaml:"resource"`
}

type redactionRule struct {
	APIGroup  string `yaml:"apiGroup"`
	Resource  string `yaml:"resource"` // resource or resource/subresource
	Namespace string `yaml:"namespace"`
	Name      string `yaml:"name"`
	Path      string `yaml:"path"`
	Action    string `yaml:"action"`

	segments []segment
	// onlyErrors: applies to the messages of an error that may quote a secret.
	onlyErrors bool
}

// RedactionModes are the values of the key redaction.
var RedactionModes = []string{"default", "strict", "off"}

// LoadRedaction reads the rules of a mode: the built-in ones and, if data is not
// nil, those of the user's file. hmacKey, if not nil, keys the markers. It
// returns nil for off. The error names every fault, with file and line.
func LoadRedaction(mode, file string, data, hmacKey []byte) (*Redaction, error) {
	sources := []struct {
		name string
		data []byte
	}{{"built-in default rules", conf.DefaultRedaction}}
	r := &Redaction{mode: mode}
	switch mode {
	case "default":
	case "strict":
		r.strict = true
		sources = append(sources, struct {
			name string
			data []byte
		}{"built-in strict rules", conf.StrictRedaction})
	case "off":
		if data != nil || hmacKey != nil {
			return nil, errors.New("redaction off takes neither redaction_file nor redaction_hmac_key_file")
		}
		return nil, nil
	default:
		return nil, fmt.Errorf("redaction is one of %s", strings.Join(RedactionModes, ", "))
	}
	if data != nil {
		sources = append(sources, struct {
			name string
			data []byte
		}{file, data})
	}
	var document bytes.Buffer
	var problems []error
	for _, source := range sources {
		f, err := parseRedaction(source.name, source.data)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		fmt.Fprintf(&document, "---\n%s\n", bytes.TrimRight(source.data, "\n"))
		r.file.SecretResources = append(r.file.SecretResources, f.SecretResources...)
		r.file.KeepUserExtra = append(r.file.KeepUserExtra, f.KeepUserExtra...)
		r.file.KeepAnnotations = append(r.file.KeepAnnotations, f.KeepAnnotations...)
		r.file.Rules = append(r.file.Rules, f.Rules...)
	}
	if hmacKey != nil {
		key, err := newMACKey(hmacKey)
		if err != nil {
			problems = append(problems, err)
		}
		r.key = key
	}
	for _, rule := range r.file.Rules {
		if rule.Action == actionHash && r.key == nil {
			problems = append(problems, errors.New("a rule with action hash needs redaction_hmac_key_file: a plain hash of a short secret can be guessed"))
			break
		}
	}
	if err := errors.Join(problems...); err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	r.document = document.Bytes()
	sum := sha256.Sum256(r.document)
	r.digest = hex.EncodeToString(sum[:])
	return r, r.checkSize()
}

// Mode is the mode it was loaded with; "off" for nil.
func (r *Redaction) Mode() string {
	if r == nil {
		return "off"
	}
	return r.mode
}

// Digest is the SHA-256 of Document in hex; "" for nil.
func (r *Redaction) Digest() string {
	if r == nil {
		return ""
	}
	return r.digest
}

// Document is the rules in force as one stream of YAML documents: the built-in
// ones, then the user's. The key of markers is not in it. It is nil for nil.
func (r *Redaction) Document() []byte {
	if r == nil {
		return nil
	}
	return r.document
}

// Rules is the number of rules.
func (r *Redaction) Rules() int {
	if r == nil {
		return 0
	}
	return len(r.file.Rules)
}

// parseRedaction reads one file strictly.
func parseRedaction(name string, data []byte) (f redactionFile, err error) {
	root, err := oneDocument(data, "a Redaction")
	if err != nil {
		return f, fmt.Errorf("%s: %w", name, err)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil {
		return f, fmt.Errorf("%s: %w", name, err)
	}
	var problems []string
	if f.APIVersion != "audit-s3/v1" || f.Kind != "Redaction" {
		problems = append(problems, "apiVersion: apiVersion and kind must be audit-s3/v1 and Redaction")
	}
	for i := range f.Rules {
		if problem := f.Rules[i].check(); problem != "" {
			problems = append(problems, fmt.Sprintf("rules[%d]%s", i, problem))
		}
	}
	for i, s := range f.SecretResources {
		if s.Resource == "" || s.Resource == "*" || s.APIGroup == "*" {
			problems = append(problems, fmt.Sprintf("secretResources[%d].resource: name one group and one resource", i))
		}
	}
	if len(problems) > 0 {
		return f, located(name, root, problems)
	}
	return f, nil
}

// check compiles a rule's path; the problem begins with the field's name.
func (r *redactionRule) check() (problem string) {
	switch r.Action {
	case actionReplace, actionHash, actionRemove, actionKeep:
	default:
		return ".action: must be replace, hash, remove or keep"
	}
	if r.Resource == "" {
		return `.resource: is required; "*" means any`
	}
	var err error
	if r.segments, err = parsePath(r.Path); err != nil {
		return ".path: " + err.Error()
	}
	return ""
}

// checkSize compiles the rules for a resource that all of them could apply to.
func (r *Redaction) checkSize() error {
	var m matcher
	for _, path := range messagePaths {
		segments, err := parsePath(path)
		if err != nil {
			return err
		}
		if err := m.add(segments, 0); err != nil {
			return err
		}
	}
	for i, rule := range r.file.Rules {
		if err := m.add(rule.segments, i); err != nil {
			return err
		}
	}
	return nil
}

// resourceKey names a resource: the subresource is part of it.
type resourceKey struct{ group, resource, subresource string }

// unknownResource is that of a request that cannot be told: it may be a secret.
var unknownResource = resourceKey{resource: "\x00"}

func (k resourceKey) String() string {
	if k.subresource == "" {
		return k.resource
	}
	return k.resource + "/" + k.subresource
}

// program is what applies to one resource.
type program struct {
	matcher matcher
	rules   []redactionRule // by rule index of the matcher
	secret  bool            // one of secretResources
	named   bool            // some rule asks for a namespace or a name
	removes bool            // some rule takes keys away
}

// maxPrograms bounds the programs kept: the names of resources come from the input.
const maxPrograms = 10_000

// messagePaths are where an error may quote the values that it is about.
var messagePaths = []string{"message", "details.causes[*].message"}

// programOf compiles the rules for a resource, once.
func (r *Redaction) programOf(k resourceKey) *program {
	if p, ok := r.programs.Load(k); ok {
		return p.(*program)
	}
	p := r.compile(k)
	if r.kept.Add(1) <= maxPrograms {
		// The strings of k are views of the chunk: keep copies.
		k = resourceKey{strings.Clone(k.group), strings.Clone(k.resource), strings.Clone(k.subresource)}
		r.programs.Store(k, p)
	}
	return p
}

func (r *Redaction) compile(k resourceKey) *program {
	p := &program{secret: r.secretResource(k) || k == unknownResource}
	// The sizes were checked when the rules were loaded.
	if p.secret || r.strict {
		for _, path := range messagePaths {
			segments, _ := parsePath(path)
			_ = p.matcher.add(segments, len(p.rules))
			p.rules = append(p.rules, redactionRule{Action: actionReplace, onlyErrors: true})
		}
	}
	for _, rule := range r.file.Rules {
		if (rule.APIGroup != "*" && rule.APIGroup != k.group) || (rule.Resource != "*" && rule.Resource != k.resource && rule.Resource != k.String()) {
			continue
		}
		_ = p.matcher.add(rule.segments, len(p.rules))
		p.rules = append(p.rules, rule)
		p.named = p.named || rule.Namespace != "" || rule.Name != ""
		p.removes = p.removes || rule.Action == actionRemove
	}
	return p
}

// builtinSecretResources hold secrets by nature. They are capped also where
// redaction is off.
var builtinSecretResources = sync.OnceValue(func() []secretResource {
	f, err := parseRedaction("built-in default rules", conf.DefaultRedaction)
	if err != nil {
		panic(err) // a test loads them
	}
	return f.SecretResources
})

// capLevel is the highest level at which a request may be archived, whatever the
// policy says. exactly: the policy's rule names its group and resource; that lifts
// the cap, but only where what is kept is redacted.
func (r *Redaction) capLevel(a *authorizer.AttributesRecord, exactly bool) string {
	if !a.ResourceRequest {
		return LevelRequestResponse
	}
	if r.secretResource(resourceKey{a.APIGroup, a.Resource, a.Subresource}) && (r == nil || !exactly) {
		return LevelMetadata
	}
	if r != nil && r.strict && !kubernetesGroup(a.APIGroup) {
		return LevelMetadata
	}
	return LevelRequestResponse
}

// kubernetesGroup tells whether an API group is one of Kubernetes' own, whose
// bodies the rules were made for.
// Source: k8s.io/api v0.37.2 and the aggregators of kube-apiserver.
func kubernetesGroup(group string) bool {
	switch group {
	case "", "apps", "batch", "autoscaling", "policy", "extensions",
		"admissionregistration.k8s.io", "apiextensions.k8s.io", "apiregistration.k8s.io",
		"authentication.k8s.io", "authorization.k8s.io", "certificates.k8s.io", "coordination.k8s.io",
		"discovery.k8s.io", "events.k8s.io", "flowcontrol.apiserver.k8s.io", "internal.apiserver.k8s.io",
		"networking.k8s.io", "node.k8s.io", "rbac.authorization.k8s.io", "resource.k8s.io",
		"scheduling.k8s.io", "storage.k8s.io", "storagemigration.k8s.io":
		return true
	}
	return false
}

func (r *Redaction) secretResource(k resourceKey) bool {
	list := builtinSecretResources()
	if r != nil {
		list = r.file.SecretResources
	}
	for _, s := range list {
		if s.APIGroup == k.group && (s.Resource == k.resource || s.Resource == k.String()) {
			return true
		}
	}
	return false
}

// matchesAny tells whether name is in a list of names and of prefixes that end in *.
func matchesAny(list []string, name string) bool {
	for _, pattern := range list {
		if prefix, ok := strings.CutSuffix(pattern, "*"); ok && strings.HasPrefix(name, prefix) || pattern == name {
			return true
		}
	}
	return false
}
