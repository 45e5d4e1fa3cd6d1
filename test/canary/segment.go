package canary

import (
	"encoding/binary"
	"fmt"

	"audit_s3/test/rig"
)

// Unpacked is what the frames of a segment of the spool hold, unpacked: made after
// sink/spool/FORMAT.md rather than with the plugin's own reader, which would not show
// what it does not read. A file that was copied while it was written may end within a
// frame.
func Unpacked(segment []byte) ([]byte, error) {
	var plain []byte
	const lengths, frameHead = 20, 12
	rest := segment
	for range 2 { // headers
		if len(rest) < lengths || string(rest[:8]) != "AUDITS3S" {
			return nil, fmt.Errorf("%d bytes that do not begin as a segment does", len(segment))
		}
		rest = rest[min(len(rest), lengths+int(binary.LittleEndian.Uint32(rest[12:]))):]
	}
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
