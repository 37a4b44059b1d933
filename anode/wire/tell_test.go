package wire

import (
	"bytes"
	"reflect"
	"testing"
)

var tellID = TellID{1, 2, 3, 4, 5, 6, 7, 8}

func TestFields(t *testing.T) {
	f := Fields{{FieldName, []byte("west")}, {FieldEndpoint, []byte{2, 1}}, {0xee, nil}, {FieldEndpoint, []byte{2, 2}}, {FieldName, []byte("east")}}
	b := f.Append([]byte{9})[1:]
	if want := unhex(t, "01 0004 77657374 04 0002 0201 ee 0000 04 0002 0202 01 0004 65617374"); !bytes.Equal(b, want) {
		t.Fatalf("wrote %x", b)
	}
	got, err := ParseFields(b)
	if err != nil || len(got) != len(f) {
		t.Fatalf("%v, %v", got, err)
	}
	if v, ok := got.Get(FieldName); !ok || string(v) != "west" {
		t.Errorf("the first name is %q, %v", v, ok)
	}
	if v, ok := got.Get(0xee); !ok || len(v) != 0 {
		t.Errorf("an unknown one without a value: %q, %v", v, ok)
	}
	if _, ok := got.Get(FieldText); ok {
		t.Error("there is no text")
	}
	if all := got.All(FieldEndpoint); !reflect.DeepEqual(all, [][]byte{{2, 1}, {2, 2}}) || got.All(FieldRelay) != nil {
		t.Errorf("the endpoints are %x", all)
	}
	if got, err := ParseFields(nil); err != nil || got != nil {
		t.Errorf("of nothing: %v, %v", got, err)
	}
	for n := 1; n < len(b); n++ {
		got, err := ParseFields(b[:n])
		if whole := n == 7 || n == 12 || n == 15 || n == 20; whole != (err == nil) || !whole && (err != ErrShort || got != nil) {
			t.Errorf("cut to %d bytes: %v, %v", n, got, err)
		}
	}
	if _, err := ParseFields(unhex(t, "01 ffff 00")); err != ErrShort {
		t.Errorf("a length beyond the end: %v", err)
	}
}

// A TELL of the greatest length passes, and none beyond.
func TestTellBounds(t *testing.T) {
	most := TellMsg{tellID, TellProfile, make([]byte, MaxTell)}.Append(nil)
	if m, err := ParseTell(most); err != nil || len(m.Body) != MaxTell {
		t.Errorf("%d bytes, %v", len(m.Body), err)
	}
	if _, err := ParseTell(append(most, 0)); err != ErrField {
		t.Errorf("a byte more: %v", err)
	}
}

// Everything that is shown has a word.
func TestTellWords(t *testing.T) {
	for k, want := range map[TellKind]string{TellAsk: "ASK", TellAccept: "ACCEPT", TellBye: "BYE", TellProfile: "PROFILE", TellIntro: "INTRO", 5: "kind 5"} {
		if k.String() != want {
			t.Errorf("%d is %q", uint8(k), k)
		}
	}
	for s, want := range map[TellStatus]string{TellDone: "done", TellNotNow: "not allowed", TellUnknown: "unknown kind", TellTooMuch: "too much",
		TellMalformed: "malformed", 9: "status 9"} {
		if s.String() != want {
			t.Errorf("%d is %q", uint8(s), s)
		}
	}
	equal(t, Tell.String(), "TELL")
	equal(t, Told.String(), "TOLD")
}

func FuzzParseTell(f *testing.F) {
	f.Add(TellMsg{tellID, TellAsk, Fields{{FieldName, []byte("west")}}.Append(nil)}.Append(nil))
	f.Add(unhex(f, "0102030405060708 06"))
	f.Fuzz(func(t *testing.T, b []byte) {
		roundTrip(t, parsers[Tell], b)
		if m, err := ParseTell(b); err == nil && len(m.Body) > MaxTell {
			t.Fatalf("a body of %d bytes", len(m.Body))
		}
	})
}

func FuzzParseTold(f *testing.F) {
	f.Add(ToldMsg{tellID, TellMalformed}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) { roundTrip(t, parsers[Told], b) })
}

func FuzzParseFields(f *testing.F) {
	f.Add(Fields{{FieldName, []byte("west")}, {FieldRelay, make([]byte, 59)}}.Append(nil))
	f.Add(unhex(f, "01 0000 ff 0001 00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fields, err := ParseFields(b)
		if err != nil {
			if err != ErrShort || fields != nil {
				t.Fatalf("%v, %v", fields, err)
			}
			return
		}
		if again := fields.Append(nil); !bytes.Equal(again, b) {
			t.Fatalf("read %x, wrote %x", b, again)
		}
		for _, x := range fields {
			first, ok := fields.Get(x.Type)
			if all := fields.All(x.Type); !ok || len(all) == 0 || !bytes.Equal(all[0], first) {
				t.Fatalf("type %d: %x, %v, %x", x.Type, first, ok, all)
			}
		}
	})
}
