package canary

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"

	"audit_s3/test/rig"
)

// Spooled is a file of the spool as a place. A segment is searched unpacked: packed, a
// canary may stand there in pieces, or look like another one. A .new has no whole header
// yet, and no frame.
func Spooled(kind, name string, content []byte) (Place, error) {
	switch filepath.Ext(name) {
	case ".open", ".sealed", ".damaged", ".unconvertible", ".kept":
		plain, err := unpacked(content)
		if err != nil {
			return Place{}, fmt.Errorf("%s: %w", name, err)
		}
		content = plain
	}
	return Place{Kind: kind, Name: name, Content: content}, nil
}

// unpacked is a segment of the spool with all of its frames unpacked: made after
// sink/spool/FORMAT.md rather than with the plugin's own reader, which would not show
// what it does not read. A file that was copied while it was written may end within a
// frame, which is left out.
func unpacked(segment []byte) ([]byte, error) {
	const lengths, frameHead = 20, 12
	rest := segment
	for range 2 { // headers
		if len(rest) < lengths || string(rest[:8]) != "AUDITS3S" {
			return nil, fmt.Errorf("%d bytes that do not begin as a segment does", len(segment))
		}
		rest = rest[min(len(rest), lengths+int(binary.LittleEndian.Uint32(rest[12:]))):]
	}
	plain := slices.Clone(segment[:len(segment)-len(rest)])
	for len(rest) >= frameHead {
		length := int(binary.LittleEndian.Uint32(rest))
		if rest = rest[frameHead:]; length > len(rest) {
			break
		}
		entries, err := rig.Unpacked(rest[:length])
		if err != nil {
			return nil, err
		}
		plain = append(plain, entries...)
		rest = rest[length:]
	}
	return plain, nil
}
