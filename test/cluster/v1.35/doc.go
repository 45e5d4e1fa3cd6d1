// Package cluster is a module of its own that pins Kubernetes 1.35.4 and its
// etcd, so that `make test-cluster` can build a control plane of that version. It
// holds no code: Kubernetes' dependencies must not meet the plugin's or those of
// the other tests.
package cluster
