package spool

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// writerState outlives the segments: without it, a spool that has shipped
// everything would begin its sequence and its chain of digests again.
//
// It is kept in the name of an empty file, so that it changes by one rename:
// atomically, and also when the disk is full, which is just when segments must
// be deleted to free it.
type writerState struct {
	Writer   string // 128 random bits in hex
	Sequence uint64 // of the last sealed segment
	Digest   string // of its bytes; "" before the first
}

const writerPrefix = "writer-"

// noDigest stands in the name before the first segment is sealed, so that the
// name's length never changes.
var noDigest = strings.Repeat("0", 64)

func (w writerState) name() string {
	digest := w.Digest
	if digest == "" {
		digest = noDigest
	}
	return fmt.Sprintf("%s%s-%016d-%s", writerPrefix, w.Writer, w.Sequence, digest)
}

func parseWriterState(name string) (w writerState, ok bool) {
	parts := strings.Split(strings.TrimPrefix(name, writerPrefix), "-")
	if len(parts) != 3 || len(parts[0]) != 32 || len(parts[2]) != 64 {
		return w, false
	}
	sequence, err := strconv.ParseUint(parts[1], 10, 64)
	if err != nil {
		return w, false
	}
	w = writerState{Writer: parts[0], Sequence: sequence, Digest: parts[2]}
	if w.Digest == noDigest {
		w.Digest = ""
	}
	return w, true
}

// loadState reads the state, or makes the first one.
func (s *Spool) loadState(entries []os.DirEntry) error {
	var names []string
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), writerPrefix) {
			names = append(names, entry.Name())
		}
	}
	switch len(names) {
	case 0:
		id := make([]byte, 16)
		if _, err := rand.Read(id); err != nil {
			return err
		}
		s.state = writerState{Writer: hex.EncodeToString(id)}
		f, err := s.fs.OpenFile(filepath.Join(s.dir, s.state.name()), os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode)
		if err != nil {
			return fmt.Errorf("creating the writer's file: %w", err)
		}
		s.saved = s.state
		return errors.Join(f.Close(), s.syncNames())
	case 1:
		state, ok := parseWriterState(names[0])
		if !ok {
			return fmt.Errorf("%s is not a writer's file of this program; move it away to begin as a new writer", filepath.Join(s.dir, names[0]))
		}
		s.state, s.saved = state, state
		return nil
	}
	return fmt.Errorf("%s holds the files of %d writers; two spools were mixed up: give each its own store_dir", s.dir, len(names))
}

// advance notes a segment that will get no more frames as the writer's last.
func (s *Spool) advance(writer string, sequence uint64, digest string) {
	if writer == s.state.Writer && sequence > s.state.Sequence {
		s.state.Sequence, s.state.Digest = sequence, digest
	}
}

// saveState makes the state durable. It must succeed before a segment is deleted,
// or a crash would let the next segment take the same sequence number.
func (s *Spool) saveState() error {
	if s.saved != s.state {
		if err := s.fs.Rename(filepath.Join(s.dir, s.saved.name()), filepath.Join(s.dir, s.state.name())); err != nil {
			return fmt.Errorf("saving the writer's state: %w", err)
		}
		s.saved, s.unsaved = s.state, true
	}
	if !s.unsaved {
		return nil
	}
	if err := s.syncNames(); err != nil {
		return fmt.Errorf("saving the writer's state: %w", err)
	}
	s.unsaved = false
	return nil
}
