package files

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"path"
	"strings"
)

// Errors of a manifest.
var (
	ErrTooMany = errors.New("too many files")
	ErrTooBig  = errors.New("too much data")
)

// Kind is what an Entry is.
type Kind byte

// The kinds of entries.
const (
	Regular Kind = iota
	Directory
	Link // symbolic
)

// Entry is one file, directory or symbolic link of a transfer.
type Entry struct {
	Path   string // relative, with slashes
	Kind   Kind
	Mode   uint16 // permissions, the lowest 9 bits
	Size   int64  // bytes, of a Regular
	Time   int64  // of the last change, in nanoseconds since 1970
	Target string // of a Link
}

// entryLeast is the length of an entry without its texts.
const entryLeast = 1 + 2 + 8 + 8 + 2 + 2

// appendEntry appends an entry to a batch.
func appendEntry(b []byte, e Entry) []byte {
	b = binary.BigEndian.AppendUint16(append(b, byte(e.Kind)), e.Mode)
	b = binary.BigEndian.AppendUint64(b, uint64(e.Size))
	b = binary.BigEndian.AppendUint64(b, uint64(e.Time))
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(e.Path))), e.Path...)
	return append(binary.BigEndian.AppendUint16(b, uint16(len(e.Target))), e.Target...)
}

// parseEntry reads the first entry of a batch, and returns the rest.
func parseEntry(b []byte) (e Entry, rest []byte, err error) {
	if len(b) < entryLeast {
		return e, nil, violation("half an entry")
	}
	e.Kind, e.Mode = Kind(b[0]), binary.BigEndian.Uint16(b[1:])
	size := binary.BigEndian.Uint64(b[3:])
	e.Time = int64(binary.BigEndian.Uint64(b[11:]))
	b = b[19:]
	for _, text := range []*string{&e.Path, &e.Target} {
		if len(b) < 2 || len(b)-2 < int(binary.BigEndian.Uint16(b)) {
			return e, nil, violation("half an entry")
		}
		n := 2 + int(binary.BigEndian.Uint16(b))
		*text, b = string(b[2:n]), b[n:]
	}
	switch {
	case e.Kind > Link:
		return e, nil, violation("an entry of the unknown kind %d", e.Kind)
	case e.Mode > 0o777:
		return e, nil, violation("a mode of %o", e.Mode)
	case size > maxSize:
		return e, nil, fmt.Errorf("%w: %s has %d bytes", ErrTooBig, Shown(e.Path), size)
	case e.Kind != Regular && size != 0, e.Kind != Link && e.Target != "":
		return e, nil, violation("an entry that contradicts itself")
	}
	e.Size = int64(size)
	return e, b, nil
}

// Manifest is what a transfer consists of. Parents come before what they hold.
type Manifest struct {
	Entries []Entry
	Files   int   // Regular entries
	Bytes   int64 // of all files

	kinds   map[string]Kind
	encoded int // bytes
	windows bool
}

// add adds an entry, or returns why it may not be part of the manifest.
func (m *Manifest) add(e Entry) error {
	if err := checkPath(e.Path, m.windows); err != nil {
		return err
	}
	if e.Kind == Link {
		if err := checkTarget(e.Path, e.Target, m.windows); err != nil {
			return err
		}
	}
	if _, twice := m.kinds[e.Path]; twice {
		return badName(e.Path, "it comes twice")
	}
	if parent := path.Dir(e.Path); parent != "." {
		if k, ok := m.kinds[parent]; !ok || k != Directory {
			return badName(e.Path, "what holds it is no directory")
		}
	}
	m.encoded += entryLeast + len(e.Path) + len(e.Target)
	switch {
	case len(m.Entries) == maxEntries || m.encoded > maxManifest:
		return fmt.Errorf("%w: the most is %d, with names of %d MiB", ErrTooMany, maxEntries, maxManifest>>20)
	case m.Bytes+e.Size > maxSize:
		return ErrTooBig
	}
	if m.kinds == nil {
		m.kinds = map[string]Kind{}
	}
	m.kinds[e.Path] = e.Kind
	m.Entries = append(m.Entries, e)
	if e.Kind == Regular {
		m.Files++
		m.Bytes += e.Size
	}
	return nil
}

// addBatch adds the entries of an ENTRIES frame.
func (m *Manifest) addBatch(b []byte) error {
	for len(b) > 0 {
		e, rest, err := parseEntry(b)
		if err == nil {
			err = m.add(e)
		}
		if err != nil {
			return err
		}
		b = rest
	}
	return nil
}

// id returns what tells this manifest from others.
func (m *Manifest) id() (id Hash) {
	h := sha256.New()
	var b []byte
	for _, e := range m.Entries {
		b = appendEntry(b[:0], e)
		h.Write(b)
	}
	h.Sum(id[:0])
	return id
}

// Top is a file or directory that was named by the sender, with all that it holds.
type Top struct {
	Name  string
	Dir   bool
	Files int
	Bytes int64
}

// Tops returns what the manifest consists of, in its order.
func (m *Manifest) Tops() (list []Top) {
	at := map[string]int{}
	for _, e := range m.Entries {
		name, _, _ := strings.Cut(e.Path, "/")
		i, ok := at[name]
		if !ok {
			i = len(list)
			at[name] = i
			list = append(list, Top{Name: name, Dir: e.Kind == Directory})
		}
		if e.Kind == Regular {
			list[i].Files++
			list[i].Bytes += e.Size
		}
	}
	return list
}
