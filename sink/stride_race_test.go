//go:build race

package sink

// stride leaves operations out: a run is one goroutine, in which the race detector
// finds nothing and takes ten times as long. `make test` runs all of them without.
const stride = 17
