package config

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"anodenet/overlay/book"
)

// file reads a configuration file. The TOML library decodes it into maps, and
// the keys are then taken from these one by one, so that one wrong value does not hide
// another. The library's parser finds where each key and value is.
type file struct {
	*loader
	name   string
	places places
}

// parse takes what a file has.
func (l *loader) parse(name string, b []byte) {
	b = bytes.TrimPrefix(b, []byte("\ufeff"))
	f := &file{loader: l, name: name}
	var root map[string]any
	err := toml.Unmarshal(b, &root)
	if err == nil {
		f.places, err = newPlaces(b)
	}
	if err != nil {
		l.problem(f.notTOML(b, err))
		return
	}
	for word, x := range root {
		f.top(word, x)
	}
}

// notTOML is the problem of a file that breaks the grammar.
func (f *file) notTOML(b []byte, err error) (Origin, string) {
	o := Origin{Kind: FromFile, Name: f.name, Line: 1, Column: 1}
	var wrong *toml.DecodeError
	if errors.As(err, &wrong) {
		o.Line, o.Column = wrong.Position()
	}
	return o, "not TOML: " + plainGrammar(strings.TrimPrefix(err.Error(), "toml: "))
}

var codePoint = regexp.MustCompile(`U\+[0-9A-F]+( '.+')?`)

// plainGrammar takes the library's way to write characters out of its errors.
func plainGrammar(s string) string {
	s = codePoint.ReplaceAllStringFunc(s, func(c string) string {
		number, char, visible := strings.Cut(c, " ")
		switch {
		case visible:
			return char
		case number == "U+000A" || number == "U+000D":
			return "the end of the line"
		}
		return "an invisible character"
	})
	return strings.TrimSuffix(s, " to fit in a 64-bit signed integer")
}

// top takes a key or section of the first level.
func (f *file) top(word string, x any) {
	at := place(word)
	table, isTable := x.(map[string]any)
	switch k, isKey := f.key(word); {
	case isTable && word == zoneKey:
		f.section(word, at, table)
	case isKey && !strings.Contains(word, "."):
		f.take(k, at, x)
	case word == "peers":
		f.peerList(at, x)
	case word == "services":
		f.serviceList(at, x)
	case len(within(f.keys, word)) == 0 && isTable:
		f.problem(f.origin(at.key), unknownSection(f.keys, word))
	case isKey: // "listen.port" = 1
		f.problem(f.origin(at.key), fmt.Sprintf("unknown key %q; write it without quotes", word))
	case isTable:
		f.section(word, at, table)
	case isList(x):
		f.problem(f.origin(at.key), fmt.Sprintf("%q appears once: write [%s]", word, word))
	default:
		f.problem(f.origin(at.key), unknownKey(f.keys, word))
	}
}

func isList(x any) bool {
	_, ok := x.([]any)
	return ok
}

func (f *file) section(name string, at where, table map[string]any) {
	for word, x := range table {
		inner := at.child(word)
		if k, ok := f.key(name + "." + word); ok {
			f.take(k, inner, x)
		} else {
			f.problem(f.origin(inner.key), unknownKey(f.keys, name+"."+word))
		}
	}
}

// take sets one key.
func (f *file) take(k key, at where, x any) {
	if !k.value.set(x) {
		f.wrong(k.name, f.origin(at.value), wrongTOML(k, x))
		return
	}
	f.origins[k.name] = f.origin(at.value)
}

func (f *file) peerList(at where, x any) {
	list, ok := x.([]any)
	if !ok {
		f.problem(f.origin(at.key), "peers: want [[peers]], with two brackets, before each peer")
		return
	}
	for i, x := range list {
		inner := at.item(i)
		if table, ok := x.(map[string]any); ok {
			f.peer(inner, table)
		} else {
			f.problem(f.origin(inner.value), "peers: want an address, a name and endpoints, not "+describe(x))
		}
	}
}

// peer takes an entry of [[peers]].
func (f *file) peer(at where, table map[string]any) {
	p := sourced{Peer: Peer{}, origin: f.origin(at.value), name: f.origin(at.value)}
	_, hasAddress := table["address"]
	sound := true
	for word, x := range table {
		inner := at.child(word)
		var err error
		switch word {
		case "address":
			p.origin = f.origin(inner.value)
			err = f.peerAddress(&p.Peer, x)
		case "name":
			p.name = f.origin(inner.value)
			err = f.peerName(&p.Peer, x)
		case "endpoints":
			f.peerEndpoints(&p.Peer, inner, x)
		case "lan":
			on, ok := x.(bool)
			if p.LAN = on; !ok {
				err = fmt.Errorf("want true or false, not %s", describe(x))
			}
		default:
			f.problem(f.origin(inner.key), unknownKey(f.keys, "peers."+word))
		}
		if err != nil {
			f.problem(f.origin(inner.value), "peers."+word+": "+err.Error())
			sound = sound && word != "address"
		}
	}
	switch {
	case !hasAddress:
		f.problem(p.origin, "peers.address: it is missing")
	case sound:
		f.addOnce(p)
	}
}

func (f *file) peerAddress(p *Peer, x any) (err error) {
	s, ok := x.(string)
	if !ok {
		return fmt.Errorf("want an address in quotes, not %s", describe(x))
	}
	p.Address, err = parseAddress(s)
	return err
}

func (f *file) peerName(p *Peer, x any) error {
	s, ok := x.(string)
	if !ok {
		return fmt.Errorf("want a name in quotes, not %s", describe(x))
	}
	if s == "" {
		return nil
	}
	if err := book.CheckName(s); err != nil {
		return err
	}
	p.Name = s
	return nil
}

func (f *file) peerEndpoints(p *Peer, at where, x any) {
	list, ok := x.([]any)
	if !ok {
		f.problem(f.origin(at.value), "peers.endpoints: want a list such as [\"udp:192.0.2.1:8737\"], not "+describe(x))
		return
	}
	for i, x := range list {
		s, ok := x.(string)
		if !ok {
			f.problem(f.origin(at.item(i).value), "peers.endpoints: want an endpoint such as \"udp:192.0.2.1:8737\", not "+describe(x))
			continue
		}
		e, err := book.ParsePlace(s)
		if err != nil {
			f.problem(f.origin(at.item(i).value), "peers.endpoints: "+err.Error())
			continue
		}
		p.Endpoints = append(p.Endpoints, e)
	}
}

// origin is a place of the file as an Origin.
func (f *file) origin(path string) Origin {
	o := Origin{Kind: FromFile, Name: f.name}
	o.Line, o.Column = f.places.find(path)
	return o
}

// where is the two paths of a key and of its value. A path is the words that lead to it.
type where struct{ key, value string }

const (
	pathSep   = "\x00"     // between words
	keyMark   = "\x00k"    // after the words: the key itself
	valueMark = "\x00v"    // the value
	itemMark  = "\x00\x00" // before an index: an item of a list
)

func place(path string) where { return where{path + keyMark, path + valueMark} }

func (w where) path() string { return strings.TrimSuffix(w.key, keyMark) }

func (w where) child(word string) where { return place(w.path() + pathSep + word) }

func (w where) item(i int) where { return place(w.path() + itemMark + strconv.Itoa(i)) }

// places finds where in a file the keys and values are.
type places struct {
	lines  []int // offsets at which lines begin
	size   int
	offset map[string]int // of the paths of a where
	lists  map[string]int // [[...]] -> how many there were
}

// newPlaces reads a file that toml.Unmarshal has accepted.
func newPlaces(b []byte) (places, error) {
	s := places{lines: []int{0}, size: len(b), offset: map[string]int{}, lists: map[string]int{}}
	for i, c := range b {
		if c == '\n' {
			s.lines = append(s.lines, i+1)
		}
	}
	var p unstable.Parser
	p.Reset(b)
	var table string
	for first := true; p.NextExpression(); first = false {
		e := p.Expression()
		if first {
			table = ""
		}
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table = s.header(e)
		case unstable.KeyValue:
			s.keyValue(table, e)
		}
	}
	return s, p.Error()
}

// header notes [a.b] or [[a.b]], and returns the path of what follows.
func (s *places) header(e *unstable.Node) string {
	path, offset := "", -1
	for it := e.Key(); it.Next(); {
		k := it.Node()
		if offset < 0 {
			offset = int(k.Raw.Offset)
		}
		path = extend(path, string(k.Data))
		s.note(path+keyMark, offset)
		s.note(path+valueMark, offset)
		switch n := s.lists[path]; {
		case e.Kind == unstable.ArrayTable && it.IsLast():
			s.lists[path] = n + 1
			path += itemMark + strconv.Itoa(n)
			s.note(path+keyMark, offset)
			s.note(path+valueMark, offset)
		case n > 0:
			path += itemMark + strconv.Itoa(n-1)
		}
	}
	return path
}

// keyValue notes a key, which may be dotted, and all that is in its value.
func (s *places) keyValue(path string, e *unstable.Node) {
	offset := 0
	for it := e.Key(); it.Next(); {
		k := it.Node()
		offset = int(k.Raw.Offset)
		path = extend(path, string(k.Data))
		s.note(path+keyMark, offset)
		if !it.IsLast() {
			s.note(path+valueMark, offset)
		}
	}
	s.value(path, e.Value(), offset)
}

// value notes a value. Lists have no place of their own and get that of their key.
func (s *places) value(path string, v *unstable.Node, offset int) {
	if v.Raw.Length > 0 {
		offset = int(v.Raw.Offset)
	}
	s.note(path+valueMark, offset)
	switch v.Kind {
	case unstable.Array:
		i := 0
		for it := v.Children(); it.Next(); i++ {
			s.value(path+itemMark+strconv.Itoa(i), it.Node(), offset)
		}
	case unstable.InlineTable:
		for it := v.Children(); it.Next(); {
			if it.Node().Kind == unstable.KeyValue {
				s.keyValue(path, it.Node())
			}
		}
	}
}

func extend(path, word string) string {
	if path == "" {
		return word
	}
	return path + pathSep + word
}

// note keeps the first place of a path.
func (s *places) note(path string, offset int) {
	if _, ok := s.offset[path]; !ok {
		s.offset[path] = offset
	}
}

// find returns the line and column of a path, from 1.
func (s *places) find(path string) (line, column int) {
	offset := s.offset[path]
	line = sort.SearchInts(s.lines, offset+1)
	return line, offset - s.lines[line-1] + 1
}
