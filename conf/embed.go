package conf

import _ "embed"

// DefaultRedaction and StrictRedaction are the rules that the plugin has built in.
var (
	//go:embed redaction/default.yaml
	DefaultRedaction []byte
	//go:embed redaction/strict.yaml
	StrictRedaction []byte
)
