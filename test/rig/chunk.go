package rig

// Chunk is the body of a POST as the plugin gets it from Fluent Bit.
func Chunk(body []byte) ([]byte, error) { return chunkOf(body) }
