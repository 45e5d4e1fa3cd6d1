// Package cluster is a module of its own that pins kwok, which plays the nodes of
// the control plane in `make test-cluster`. It holds no code.
package cluster
