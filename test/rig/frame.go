package rig

import (
	"fmt"

	"github.com/klauspost/compress/s2"
	"github.com/tinylib/msgp/msgp"
)

// Unpacked is the payload of a frame of the spool with its blocks unpacked, made after
// convert/FRAME.md: the head, the entries and the counts, one behind the other.
func Unpacked(payload []byte) ([]byte, error) {
	blocks, err := msgp.Skip(payload)
	if err != nil {
		return nil, fmt.Errorf("reading the head of a frame: %w", err)
	}
	plain := append([]byte(nil), payload[:len(payload)-len(blocks)]...)
	for len(blocks) > 0 {
		var packed, block []byte
		if packed, blocks, err = msgp.ReadBytesZC(blocks); err == nil {
			block, err = s2.Decode(nil, packed)
		}
		if err != nil {
			return nil, fmt.Errorf("unpacking a block: %w", err)
		}
		plain = append(plain, block...)
	}
	return plain, nil
}
