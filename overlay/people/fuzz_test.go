package people

import (
	"bytes"
	"testing"
	"unicode/utf8"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// FuzzBodies: no body does more than a parse error, and what was read is the same when it is written and
// read again. Texts are safe to show.
func FuzzBodies(f *testing.F) {
	a := fakeAddress()
	for _, b := range [][]byte{
		nil, ask{"north", "from the party", a}.body(), accept{"east"}.body(), bye{Why: Used}.body(), bye{Remove: a}.body(),
		profile{"north", []Service{{"web", "http", 6, 80, []string{"path=/"}}, {"", "dns", 17, 53, nil}}, [32]byte{1}}.body(), intro{Address: a, Name: "x", Mine: true}.body(),
		wire.Fields{{Type: wire.FieldName, Value: []byte("a\x1b[2J\u202eb\xff")}}.Append(nil),
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		again(t, b, parseAsk, ask.body)
		again(t, b, parseAccept, accept.body)
		again(t, b, parseBye, bye.body)
		again(t, b, parseProfile, profile.body)
		again(t, b, parseIntro, intro.body)
		if v, err := parseAsk(b); err == nil {
			safe(t, v.Name, maxName)
			safe(t, v.Note, maxNote)
		}
	})
}

func again[T any](t *testing.T, b []byte, parse func([]byte) (T, error), body func(T) []byte) {
	t.Helper()
	v, err := parse(b)
	if err != nil {
		return
	}
	first := body(v)
	w, err := parse(first)
	if err != nil || !bytes.Equal(body(w), first) {
		t.Errorf("%x: %+v, then %+v: %v", b, v, w, err)
	}
}

func safe(t *testing.T, s string, most int) {
	t.Helper()
	if len(s) > most || !utf8.ValidString(s) || bytes.ContainsFunc([]byte(s), func(r rune) bool { return cleanRune(r) != r }) {
		t.Errorf("%q is not safe", s)
	}
	if clean(s, most) != s {
		t.Errorf("%q is cleaned again", s)
	}
}

// FuzzHeard: whatever anybody says, nothing panics, no stranger gets a right, and the tables keep their bounds.
func FuzzHeard(f *testing.F) {
	f.Add(byte(0), byte(1), ask{Name: "x"}.body())
	f.Add(byte(1), byte(6), intro{Address: anode.Address{1}}.body())
	f.Fuzz(func(t *testing.T, who, kind byte, body []byte) {
		w := newWorld(t, 1, "a", "friend", "stranger")
		a := w.of("a")
		a.addPeer(w.of("friend"))
		from := w.parties[1+who%2]
		a.core.Heard(w.now, Heard{From: from.addr, Msg: wire.TellMsg{ID: id(7), Kind: wire.TellKind(kind), Body: body}})
		a.act()
		for _, e := range a.book.Entries() {
			if e.Address != w.of("friend").addr {
				t.Errorf("%+v is in the book", e)
			}
		}
		a.start()
	})
}
