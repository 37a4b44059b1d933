// Package zone reads zone files, chooses relays by them, and fetches and serves them
// (draft 2.1, 2.3.1).
//
// A zone file is a text of at most 1 MiB, without NUL:
//
//	; a comment: a line whose first byte is a semicolon
//	n=The name                       required: n d c r ttl
//	d=What the zone is for
//	c=admin@example.net
//	r=7                              revision, raised by every edit
//	ttl=3600                         seconds
//	zr.0=192.0.2.1,[2001:db8::1]:8737:443:aeaq...
//	     IP addresses : UDP port : TCP port : Anode addresses
//
// CR or LF ends a line. The first "=" separates; "\" makes the next byte literal, be
// it "=", "\", a line end, or a blank that would be trimmed. Keys have no case; the
// last of several wins.
//
// Nobody signs a zone file. It may steer where packets go, never who is who.
package zone

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"
)

// MaxSize is the length of the longest zone file.
const MaxSize = 1 << 20

// maxEntries bounds what a file of nothing but "a=" lines costs in memory; at the
// length of a zr entry, as many do not fit in.
const maxEntries = 1 << 14

// TTLs: without one, and the least and the most that is believed.
const (
	DefaultTTL = 24 * time.Hour
	MinTTL     = time.Minute
	MaxTTL     = 7 * 24 * time.Hour
)

// Errors of reading zone files.
var (
	ErrSize    = errors.New("zone file too large")
	ErrNUL     = errors.New("zone file with a NUL in it, so it is no plain text, or UTF-16")
	ErrInvalid = errors.New("zone file")
)

// File is a zone file. It does not change once it is parsed.
type File struct {
	raw     []byte
	entries map[string]entry  // by key in lower case
	relays  map[uint32]listed // the zr entries, by index
	stray   []int             // lines that are no entries, from 1; the first few
}

// entry is a value, and the line in which its entry begins.
type entry struct {
	value string
	line  int // from 1
}

// maxStray is how many lines without an entry Problems lists.
const maxStray = 5

// Parse reads a zone file. It fails with ErrSize and ErrNUL alone: what is no entry is
// passed over, and Problems reports what is missing.
func Parse(b []byte) (*File, error) {
	if len(b) > MaxSize {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrSize, MaxSize)
	}
	if bytes.IndexByte(b, 0) >= 0 {
		return nil, ErrNUL
	}
	f := &File{raw: bytes.Clone(b), entries: map[string]entry{}, relays: map[uint32]listed{}}
	b = bytes.TrimPrefix(b, bom())
	for number := 1; len(b) > 0; {
		var l line
		rest := l.scan(b)
		key := l.key.text()
		switch {
		case l.separated && key != "":
			key = lower(key)
			f.entries[key] = entry{l.value.text(), number}
			if len(f.entries) > maxEntries {
				return nil, fmt.Errorf("%w: more than %d entries", ErrSize, maxEntries)
			}
		case (l.separated || key != "") && len(f.stray) < maxStray:
			f.stray = append(f.stray, number)
		}
		number += lineEnds(b[:len(b)-len(rest)])
		b = rest
	}
	for _, key := range f.Keys() {
		if i, ok := relayIndex(key); ok {
			f.relays[i] = list(f.entries[key].value)
		}
	}
	return f, nil
}

// bom is what some editors put before UTF-8.
func bom() []byte { return []byte("\ufeff") }

// line is one line, unescaped and trimmed.
type line struct {
	key, value field
	separated  bool
}

// scan reads the line that b, which is not empty, begins with, and returns what follows
// its end.
func (l *line) scan(b []byte) []byte {
	if b[0] == ';' {
		if i := bytes.IndexAny(b, "\r\n"); i >= 0 {
			return afterEnd(b[i:])
		}
		return nil
	}
	to := &l.key
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case c == '\r' || c == '\n':
			return afterEnd(b[i:])
		case c == '=' && !l.separated:
			l.separated = true
			to = &l.value
		case c == '\\':
			if i++; i < len(b) {
				to.add(b[i], true)
			}
		default:
			to.add(c, false)
		}
	}
	return nil
}

// afterEnd cuts off the line end that b begins with. CR LF counts as one.
func afterEnd(b []byte) []byte {
	if len(b) > 1 && b[0] == '\r' && b[1] == '\n' {
		return b[2:]
	}
	return b[1:]
}

// lineEnds counts CR, LF and CR LF, escaped ones as well: editors number lines by them.
func lineEnds(b []byte) int {
	return bytes.Count(b, []byte("\r")) + bytes.Count(b, []byte("\n")) - bytes.Count(b, []byte("\r\n"))
}

// field is a key or a value under way.
type field struct {
	b   []byte
	end int // what follows is blanks, which will be trimmed if nothing else comes
}

func (f *field) add(c byte, literal bool) {
	blank := !literal && isBlank(c)
	if blank && len(f.b) == 0 {
		return
	}
	f.b = append(f.b, c)
	if !blank {
		f.end = len(f.b)
	}
}

func (f *field) text() string { return string(f.b[:f.end]) }

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// lower is strings.ToLower for ASCII: other bytes stay as they are, valid UTF-8 or not.
func lower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

// AppendEntry writes an entry, ended by CR and LF, so that Parse reads it as it was given;
// by the draft's letter CR ends the line and LF is ignored.
func AppendEntry(dst []byte, key, value string) []byte {
	if key != "" && key[0] == ';' {
		dst = append(dst, '\\')
	}
	dst = appendField(dst, key, true)
	dst = append(dst, '=')
	dst = appendField(dst, value, false)
	return append(dst, '\r', '\n')
}

func appendField(dst []byte, s string, key bool) []byte {
	for i := range len(s) {
		c := s[i]
		edge := i == 0 || i == len(s)-1
		if c == '\\' || c == '\r' || c == '\n' || c == '=' && key || isBlank(c) && edge {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return dst
}

// Bytes is the file as it was parsed. It must not be changed.
func (f *File) Bytes() []byte { return f.raw }

// Get returns a value by its key, in any case.
func (f *File) Get(key string) (value string, ok bool) {
	e, ok := f.entries[lower(key)]
	return e.value, ok
}

// Keys returns all keys, in lower case and sorted.
func (f *File) Keys() []string { return slices.Sorted(maps.Keys(f.entries)) }

// Name is the entry n, or "".
func (f *File) Name() string { return f.entries["n"].value }

// Revision is the entry r; 0 if it is missing or no number.
func (f *File) Revision() uint64 {
	r, err := strconv.ParseUint(f.entries["r"].value, 10, 64)
	if err != nil {
		return 0
	}
	return r
}

// TTL is the entry ttl, within MinTTL and MaxTTL; DefaultTTL if it is missing or no number.
func (f *File) TTL() time.Duration {
	s, err := strconv.ParseUint(f.entries["ttl"].value, 10, 64)
	if err != nil {
		return DefaultTTL
	}
	s = min(s, uint64(MaxTTL/time.Second))
	return max(time.Duration(s)*time.Second, MinTTL)
}

// required has the entries that must be there (draft 2.1).
var required = [...]struct {
	key, what string
	number    bool
}{
	{"n", "the zone's name", false},
	{"d", "its description", false},
	{"c", "the administrator's e-mail address", false},
	{"r", "the revision", true},
	{"ttl", "the seconds after which to look again", true},
}

// Problem is something that is wrong with a zone file. It wraps ErrInvalid.
type Problem struct {
	Line int // from 1; 0: the file as a whole
	Text string
}

func (p *Problem) Error() string {
	if p.Line == 0 {
		return p.Text
	}
	return fmt.Sprintf("line %d: %s", p.Line, p.Text)
}

// Unwrap makes every problem wrap ErrInvalid.
func (p *Problem) Unwrap() error { return ErrInvalid }

// Problems lists everything that is wrong with f: first what concerns the whole file, then
// the rest in the order of the lines.
func (f *File) Problems() (list []*Problem) {
	for _, e := range required {
		got, ok := f.entries[e.key]
		if !ok {
			list = append(list, &Problem{0, fmt.Sprintf("%s (%s) is missing", e.key, e.what)})
			continue
		}
		if _, err := strconv.ParseUint(got.value, 10, 64); e.number && err != nil {
			list = append(list, &Problem{got.line, fmt.Sprintf("%s (%s): want a whole number, not %q", e.key, e.what, got.value)})
		}
	}
	for _, n := range f.stray {
		list = append(list, &Problem{n, "no entry: want KEY=VALUE"})
	}
	if f.Revision() == math.MaxUint64 {
		list = append(list, &Problem{f.entries["r"].line, "r (the revision): there is no higher one, so members would take hours to use another file"})
	}
	list = append(list, f.relayProblems()...)
	slices.SortStableFunc(list, func(a, b *Problem) int { return cmp.Compare(a.Line, b.Line) })
	return list
}

// Validate returns all Problems, joined.
func (f *File) Validate() error {
	var errs []error
	for _, p := range f.Problems() {
		errs = append(errs, p)
	}
	return errors.Join(errs...)
}

// dated reports whether f has a revision.
func (f *File) dated() bool {
	_, err := strconv.ParseUint(f.entries["r"].value, 10, 64)
	return err == nil
}

// Usable returns why members would not take f for a zone file at all: it is a web page
// (ErrPage), or has none of the required entries (ErrInvalid). A nil error does not mean that
// there are no Problems.
func (f *File) Usable() error {
	if text := bytes.TrimLeft(bytes.TrimPrefix(f.raw, bom()), " \t\r\n"); bytes.HasPrefix(text, []byte("<")) {
		return ErrPage
	}
	for _, e := range required {
		if _, ok := f.entries[e.key]; ok {
			return nil
		}
	}
	return fmt.Errorf("%w: none of the entries n, d, c, r and ttl is in it", ErrInvalid)
}
