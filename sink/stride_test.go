//go:build !race

package sink

// stride is how far apart the operations are that fail.
const stride = 1
