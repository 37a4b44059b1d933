package zone

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

const address = "aeaqeayeaaaahwwqwzjziiq47gyfdyp6zjlypuey37tdp7eqxhxziximg5zfqema"

const good = `; the demo's zone
n=Demo
d=What \
the zone is for
c=admin@example.net
R = 7
ttl=3600
zr.0=192.0.2.1:8737:8737:` + address + `
zr.1=192.0.2.2,[2001:db8::2]:8737::` + address + `
`

func mustParse(t testing.TB, s string) *File {
	t.Helper()
	f, err := Parse([]byte(s))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestParse(t *testing.T) {
	f := mustParse(t, good)
	if err := f.Validate(); err != nil {
		t.Error(err)
	}
	equal(t, f.Name(), "Demo")
	equal(t, f.Revision(), 7)
	equal(t, f.TTL(), time.Hour)
	equal(t, f.Relays(), 2)
	equal(t, string(f.Bytes()), good)
	d, ok := f.Get("D")
	equal(t, d, "What \nthe zone is for")
	equal(t, ok, true)
	_, ok = f.Get("x")
	equal(t, ok, false)
	equal(t, strings.Join(f.Keys(), " "), "c d n r ttl zr.0 zr.1")
}

func TestGrammar(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "",
		"\r\n\r\n \t\n":         "",
		"a=1\r\nb=2\r\n":        "a=1|b=2",
		"a=1\r\rb=2":            "a=1|b=2",
		" a\t= 1 2 \t":          "a=1 2",
		"a=\\ 1\\ ":             "a= 1 ",
		"a= \\ ":                "a= ",
		"\\ a =1":               " a=1",
		"a\\=b=1":               "a=b=1",
		"a=\\=":                 "a==",
		"a=\\\r\nb=2":           "a=\r|b=2",
		"a=1\\":                 "a=1",
		"\\":                    "",
		"a=1;2":                 "a=1;2",
		" ;a=1":                 ";a=1",
		";a\\\nb=1":             "b=1", // an escape does not prolong a comment
		"a=1\nA=2":              "a=2",
		"ZR.0A=x":               "zr.0a=x",
		"no entry\nb=2":         "b=2",
		"=1\nb=2":               "b=2",
		"a=\xff\xfe\n\xc4=\x01": "a=\xff\xfe|\xc4=\x01",
	} {
		f := mustParse(t, text)
		var got []string
		for _, key := range f.Keys() {
			value, _ := f.Get(key)
			got = append(got, key+"="+value)
		}
		if s := strings.Join(got, "|"); s != want {
			t.Errorf("%q: got %q, want %q", text, s, want)
		}
	}
}

func TestLimits(t *testing.T) {
	entry := []byte("n=x\n")
	if _, err := Parse(append(entry, bytes.Repeat([]byte("\n"), MaxSize-len(entry))...)); err != nil {
		t.Error("at the limit:", err)
	}
	if _, err := Parse(append(entry, bytes.Repeat([]byte("\n"), MaxSize-len(entry)+1)...)); !errors.Is(err, ErrSize) {
		t.Error("beyond it:", err)
	}
	for _, s := range []string{"a=1\x00", "\x00", "a=\\\x00", ";\x00"} {
		if _, err := Parse([]byte(s)); !errors.Is(err, ErrNUL) {
			t.Errorf("%q: %v", s, err)
		}
	}
	var b []byte
	for i := range maxEntries {
		b = AppendEntry(b, fmt.Sprint(i), "")
	}
	if _, err := Parse(b); err != nil {
		t.Error("as many entries as may be:", err)
	}
	if _, err := Parse(AppendEntry(b, "x", "")); !errors.Is(err, ErrSize) {
		t.Error("one more:", err)
	}
}

// The file is not the caller's buffer.
func TestParseCopies(t *testing.T) {
	b := []byte("n=x\n")
	f, err := Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	copy(b, "m=y\n")
	equal(t, f.Name(), "x")
	equal(t, string(f.Bytes()), "n=x\n")
}

func TestValidate(t *testing.T) {
	for text, want := range map[string][]string{
		"":                                     {"n (", "d (", "c (", "r (", "ttl ("},
		strings.Replace(good, "R =", "x=", 1):  {"r (the revision) is missing"},
		strings.Replace(good, "7", "seven", 1): {`line 6: r (the revision): want a whole number, not "seven"`},
		strings.Replace(good, "3600", "-1", 1): {`ttl (`},
		good + "what?\n=x\n":                   {"line 10: no entry", "line 11: no entry"},
		good + "zr.3=x":                        {"line 10: zr.3: the file has 3 relays, so the last one is zr.2"},
		good + "zr.2=192.0.2.1:::" + address:   {"line 10: zr.2: the relay offers no port"},
		good + "zr.x=x":                        {"zr.x: the index"},
		good + "zr.100000000=x":                {"zr.100000000: the index"},
		good + "zr.=x":                         {"zr.: the index"},
		good + "zr.2=x":                        {"line 10: zr.2: want IP"},
	} {
		err := mustParse(t, text).Validate()
		if err == nil || !errors.Is(err, ErrInvalid) {
			t.Errorf("%q: %v", text, err)
			continue
		}
		if lines := strings.Split(err.Error(), "\n"); len(lines) != len(want) {
			t.Errorf("%q: %d problems, want %d: %v", text, len(lines), len(want), err)
		}
		for _, w := range want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: no %q in %v", text, w, err)
			}
		}
	}
	many := mustParse(t, good+strings.Repeat("stray\r\n", 100))
	if n := len(strings.Split(many.Validate().Error(), "\n")); n != maxStray {
		t.Errorf("%d complaints", n)
	}
}

func TestNumbers(t *testing.T) {
	for text, want := range map[string]struct {
		r   uint64
		ttl time.Duration
	}{
		"":                                   {0, DefaultTTL},
		"r=x\nttl=x":                         {0, DefaultTTL},
		"r=-1\nttl=-1":                       {0, DefaultTTL},
		"r=18446744073709551615\nttl=0":      {1<<64 - 1, MinTTL},
		"r=1\nttl=18446744073709551615":      {1, MaxTTL},
		"r=18446744073709551616\nttl=999999": {0, MaxTTL},
		"r=2\nttl=61":                        {2, 61 * time.Second},
	} {
		f := mustParse(t, text)
		equal(t, f.Revision(), want.r)
		equal(t, f.TTL(), want.ttl)
	}
}

// Entries that are written are read as they were.
func FuzzParse(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte("a=\\ 1\\ \r\\;=x\n;c\nb\\=\\\\=2\\"))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrSize) && !errors.Is(err, ErrNUL) {
				t.Fatal(err)
			}
			return
		}
		_ = file.Validate()
		_ = file.TTL()
		_, _ = file.Relay(uint32(len(b)))
		var out []byte
		for _, key := range file.Keys() {
			value, ok := file.Get(key)
			if !ok {
				t.Fatalf("the key %q is not there", key)
			}
			out = AppendEntry(out, key, value)
		}
		if len(out) > MaxSize {
			return
		}
		again, err := Parse(out)
		if err != nil {
			t.Fatal(err)
		}
		if len(again.stray) != 0 || len(again.entries) != len(file.entries) {
			t.Fatalf("%q became %q", b, out)
		}
		for key, value := range file.entries {
			if got, ok := again.entries[key]; !ok || got.value != value.value {
				t.Fatalf("%q: %q became %q", key, value.value, got.value)
			}
		}
	})
}
