//go:build tools

package cluster

import _ "sigs.k8s.io/kwok/cmd/kwok"
