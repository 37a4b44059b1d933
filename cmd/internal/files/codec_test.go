package files

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestTree compares roots with RFC 6962's definition, which is recursive.
func TestTree(t *testing.T) {
	var definition func(list []Hash) Hash
	definition = func(list []Hash) Hash {
		switch len(list) {
		case 0:
			return sha256.Sum256(nil)
		case 1:
			return list[0]
		}
		k := 1
		for 2*k < len(list) {
			k *= 2
		}
		l, r := definition(list[:k]), definition(list[k:])
		return sha256.Sum256(append(append([]byte{1}, l[:]...), r[:]...))
	}
	var list []Hash
	var tr tree
	for n := range 70 {
		if tr.root() != definition(list) {
			t.Fatalf("the root over %d pieces", n)
		}
		h := newHasher().piece([]byte{byte(n)})
		list = append(list, h)
		tr.add(h)
	}
	// The tree's hash of one leaf "a" is SHA-256 of 00 61.
	if got := newHasher().piece([]byte("a")).String(); got != "022a6979e6dab7aa5ae4c3e5e45f7e977112a7e63593820dbec1ec738a24f93c" {
		t.Error(got)
	}
}

// TestWire is the bytes of an offer and an entry.
func TestWire(t *testing.T) {
	e := Entry{Path: "d/x", Kind: Link, Mode: 0o755, Time: -1, Target: "y"}
	const want = "02 01ed 0000000000000000 ffffffffffffffff 0003 642f78 0001 79"
	if got := hex.EncodeToString(appendEntry(nil, e)); got != strings.ReplaceAll(want, " ", "") {
		t.Error(got)
	}
	o := appendOffer(appendHeader(nil, kindOffer, offerSize), offer{7, 1 << 33, Hash{0xab}})
	if got := hex.EncodeToString(o); !strings.HasPrefix(got, "010000002c"+"00000007"+"0000000200000000"+"ab00") || len(got) != 2*(5+44) {
		t.Error(got)
	}
}

// TestNames is which paths may be received, on Windows and elsewhere.
func TestNames(t *testing.T) {
	long := strings.Repeat("x", 255)
	for name, where := range map[string]string{
		"a": "wu", "a/b.txt": "wu", "größe 日本": "wu", "...": "u", "a..b": "wu", ".hidden": "wu", long: "wu", "👩‍🚀": "wu", "com10": "wu", "nulls": "wu",
		"a:b": "u", `a\b`: "u", "a*": "u", "nul": "u", "d/Com1.txt": "u", "LPT¹": "u", "aux .c": "u", "end.": "u", "end ": "u", "q?": "u", "conin$": "u",
		"": "", "/a": "", "..": "", "../a": "", "a/../b": "", "a/..": "", ".": "", "./a": "", "a/./b": "", "a//b": "", "a/": "", "a\x00b": "", "a\nb": "",
		"a\u009bb": "", "\x1b[2J": "", "\xff": "", long + "x": "", strings.Repeat("d/", 128) + "x": "", strings.Repeat(long+"/", 17): "",
		".anode-recv-0123": "", ".Anode-Recv-0123": "", ".an\u200code-recv-\u00ad0123": "", "d/.anode-recv-0123": "wu",
	} {
		if err := checkPath(name, false); (err == nil) != strings.Contains(where, "u") {
			t.Errorf("%.40q: %v", name, err)
		}
		if err := checkPath(name, true); (err == nil) != strings.Contains(where, "w") {
			t.Errorf("%.40q on Windows: %v", name, err)
		}
	}
	for _, c := range []struct {
		link, target string
		good         bool
	}{
		{"d/l", "x", true}, {"d/l", "x/y", true}, {"d/e/l", "../x", true}, {"d/e/l", "..", true}, {"d/e/f/l", "../../x", true},
		{"d/l", "../x", false}, {"d/l", "..", false}, {"d/e/l", "../../x", false}, {"d/e/l", "../..", false}, {"l", "x", false}, {"d/l", "", false},
		{"d/l", "/etc", false}, {"d/l", "x/../../y", false}, {"d/e/l", "x/..", false}, {"d/l", "x/../y", false}, {"d/l", ".", false}, {"d/l", "x\x00", false},
	} {
		if err := checkTarget(c.link, c.target, false); (err == nil) != c.good {
			t.Errorf("%s -> %s: %v", c.link, c.target, err)
		}
	}
}

func TestNumbered(t *testing.T) {
	long := strings.Repeat("é", 127) // 254 bytes
	for _, c := range []struct {
		name   string
		k      int
		suffix string
		want   string
	}{
		{"a.pdf", 1, "", "a.pdf"}, {"a.pdf", 2, "", "a (2).pdf"}, {"d.x/a", 3, "", "d.x/a (3)"}, {"d/a.tar.gz", 2, "", "d/a (2).tar.gz"},
		{".bashrc", 2, "", ".bashrc (2)"}, {"a.pdf", 1, ".part", "a.pdf.part"}, {"a.pdf", 2, ".part", "a (2).pdf.part"},
		{long, 1, ".part", strings.Repeat("é", 125) + ".part"}, {long + ".", 2, "", strings.Repeat("é", 125) + " (2)."},
	} {
		if got := numbered(c.name, c.k, c.suffix); got != c.want {
			t.Errorf("%s, %d: %s", c.name, c.k, got)
		}
	}
}

func TestShown(t *testing.T) {
	if got := Shown("a\u202egpj.exe\x1b[0m\xff 👩‍🚀"); got != "a�gpj.exe�[0m� 👩‍🚀" {
		t.Errorf("%q", got)
	}
}

// TestManifest is what may not be part of one.
func TestManifest(t *testing.T) {
	dir, file := Entry{Path: "d", Kind: Directory}, Entry{Path: "d/x", Size: 5}
	for name, list := range map[string][]Entry{
		"comes twice":        {dir, file, file},
		"no directory":       {dir, file, {Path: "d/x/y"}},
		"is no directory":    {file},
		"too much data":      {{Path: "a", Size: maxSize}, {Path: "b", Size: 1}},
		"leads out":          {dir, {Path: "d/l", Kind: Link, Target: "../x"}},
		"what holds it":      {dir, {Path: "d/l", Kind: Link, Target: "x"}, {Path: "d/l/y"}},
		"control characters": {{Path: "a\r"}},
	} {
		var m Manifest
		var err error
		for _, e := range list {
			if err == nil {
				err = m.add(e)
			}
		}
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var m Manifest
	for _, e := range []Entry{dir, file, {Path: "D", Kind: Directory}, {Path: "z", Size: 1}} {
		if err := m.add(e); err != nil {
			t.Fatal(err)
		}
	}
	if want := []Top{{"d", true, 1, 5}, {"D", true, 0, 0}, {"z", false, 1, 1}}; !reflect.DeepEqual(m.Tops(), want) {
		t.Errorf("%+v", m.Tops())
	}
	big := Manifest{Entries: make([]Entry, maxEntries)}
	if err := big.add(dir); !errors.Is(err, ErrTooMany) {
		t.Error(err)
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(appendOffer(appendHeader(nil, kindOffer, offerSize), offer{1, 2, Hash{}}))
	f.Add(appendHeader(nil, kindAlive, 0))
	f.Add(append(appendHeader(nil, kindPiece, 40), make([]byte, 40)...))
	f.Add(appendHeader(nil, kindPiece, 1<<31))
	buffer := make([]byte, maxPayload)
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		var again []byte
		for {
			next, err := readFrame(r, buffer, ^kinds(0))
			if err != nil {
				if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !bytes.Equal(again, data) {
					t.Errorf("%x became %x", data, again)
				}
				return
			}
			again = append(appendHeader(again, next.kind, len(next.payload)), next.payload...)
			switch next.kind {
			case kindOffer:
				if o, err := parseOffer(next.payload); err == nil && !bytes.Equal(appendOffer(nil, o), next.payload) {
					t.Errorf("the offer %+v of %x", o, next.payload)
				}
			case kindDone:
				parseIndexes(next.payload, 10, func(i int) {
					if i < 0 || i >= 10 {
						t.Errorf("index %d", i)
					}
				})
			case kindHave:
				if i, list, err := parseHave(next.payload, 10); err == nil && (i < 0 || i >= 10 || 4+hashSize*len(list) != len(next.payload)) {
					t.Errorf("index %d, %d hashes", i, len(list))
				}
			case kindRefuse:
				if parseRefusal(next.payload) == nil {
					t.Error("a refusal is no error")
				}
			}
		}
	})
}

func FuzzManifest(f *testing.F) {
	dir := appendEntry(nil, Entry{Path: "d", Kind: Directory, Mode: 0o755})
	f.Add(appendEntry(dir, Entry{Path: "d/x", Size: 7, Time: 5}))
	f.Add(appendEntry(dir, Entry{Path: "d/l", Kind: Link, Target: "x"}))
	f.Add(appendEntry(dir, Entry{Path: "../x"}))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m Manifest
		if m.addBatch(data) != nil {
			return
		}
		var again []byte
		for _, e := range m.Entries {
			again = appendEntry(again, e)
			if !localPath(e.Path) {
				t.Errorf("%q leads out", e.Path)
			}
		}
		if !bytes.Equal(again, data) {
			t.Errorf("%x became %x", data, again)
		}
	})
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"version":1}` + "\n" + `{"dir":"a","local":"a (2)"}` + "\n" + `{"begun":"a/x","local":"a/x.part"}` + "\n" + `{"synced":true}` + "\n"))
	f.Add([]byte(`{"version":1}` + "\n" + `{"begun":"x","local":"../x.part"}` + "\n"))
	f.Add([]byte(`{"version":1}` + "\n" + `{"naming":"x","local":"x","size":1,"root":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}` + "\n"))
	f.Add([]byte(`{"version":1}` + "\n" + `{"done":"x","local":"x","size":1,"root":"` + strings.Repeat("A", 43) + `="}` + "\n" + `{"syn`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, whole := readJournal(bytes.NewReader(data), false)
		if whole < 0 || whole > int64(len(data)) || whole > 0 && data[whole-1] != '\n' {
			t.Fatalf("%d of %d bytes are whole", whole, len(data))
		}
		for _, list := range []map[string]string{p.dirs, p.making, p.parts} {
			for name, local := range list {
				if !localPath(name) || !localPath(local) {
					t.Errorf("%q, %q lead out", name, local)
				}
			}
		}
		for name, local := range p.parts {
			if !strings.HasSuffix(local, partSuffix) {
				t.Errorf("%q is a partial file of %q", local, name)
			}
		}
		again, sure := readJournal(bytes.NewReader(data[:whole]), false)
		if sure != whole || !reflect.DeepEqual(p, again) {
			t.Error("what is whole is read differently alone")
		}
	})
}

// localPath is checkPath in other words.
func localPath(name string) bool {
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "\x00\n\r\x1b") {
			return false
		}
	}
	return true
}

// FuzzAnswer has the sender listen to anything.
func FuzzAnswer(f *testing.F) {
	f.Add(append(appendHeader([]byte(preamble), kindAccept, 0), appendHeader(nil, kindReady, 0)...))
	f.Add(append(appendHeader([]byte(preamble), kindRefuse, 1), 1))
	f.Add(binary.BigEndian.AppendUint32(appendHeader(appendHeader([]byte(preamble), kindAccept, 0), kindDone, 4), 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &sender{src: &Source{Manifest: Manifest{Entries: []Entry{{Path: "x", Size: 3 * pieceSize}}, Files: 1, Bytes: 3 * pieceSize}}}
		s.config.Tell = func(e Event) {
			if e.Done < 0 || e.Done > e.Bytes {
				t.Errorf("%d of %d bytes", e.Done, e.Bytes)
			}
		}
		stalled := time.AfterFunc(time.Hour, func() {})
		defer stalled.Stop()
		o := &outgoing{sender: s, stalled: stalled, done: map[int]bool{}, have: map[int][]Hash{}, ready: make(chan struct{}), finished: make(chan struct{})}
		if o.listen(bytes.NewReader(data)) == nil {
			t.Error("it ended without an error")
		}
		if len(o.have[0]) > 3 {
			t.Errorf("%d pieces", len(o.have[0]))
		}
	})
}
