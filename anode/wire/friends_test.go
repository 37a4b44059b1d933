package wire

import (
	"bytes"
	"reflect"
	"testing"
)

func TestFriends(t *testing.T) {
	b := unhex(t, "0001020304050607 02 1011121314151617 2021222324252627")
	want := FriendsMsg{Salt: [8]byte{0, 1, 2, 3, 4, 5, 6, 7}, Tags: []FriendTag{{0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17}, {0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27}}}
	m, err := ParseFriends(b)
	if err != nil || !reflect.DeepEqual(m, want) {
		t.Fatalf("%+v, %v", m, err)
	}
	equalHex(t, m.Append(nil), b)
	if m, err := ParseFriends(FriendsMsg{Tags: make([]FriendTag, 40)}.Append(nil)); err != nil || len(m.Tags) != MaxFriends {
		t.Errorf("of 40 tags: %d, %v", len(m.Tags), err)
	}
	for _, c := range []struct {
		name string
		b    []byte
		want error
	}{
		{"empty", nil, ErrShort},
		{"salt alone", b[:8], ErrShort},
		{"cut", b[:len(b)-1], ErrShort},
		{"longer", append(bytes.Clone(b), 0), ErrLong},
		{"no tags", unhex(t, "0001020304050607 00"), ErrField},
		{"too many", append(unhex(t, "0001020304050607 21"), make([]byte, 33*8)...), ErrField},
		{"n too large", unhex(t, "0001020304050607 20 1011121314151617"), ErrShort},
	} {
		if m, err := ParseFriends(c.b); err != c.want || m.Tags != nil {
			t.Errorf("%s: %+v, %v, want %v", c.name, m, err, c.want)
		}
	}
}

func FuzzParseFriends(f *testing.F) {
	f.Add(FriendsMsg{Tags: make([]FriendTag, 1)}.Append(nil))
	f.Add(FriendsMsg{Salt: [8]byte{9}, Tags: make([]FriendTag, MaxFriends)}.Append(nil))
	f.Add([]byte{0, 1, 2, 3, 4, 5, 6, 7, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseFriends(b)
		if err != nil {
			return
		}
		if len(m.Tags) == 0 || len(m.Tags) > MaxFriends {
			t.Fatalf("%d tags", len(m.Tags))
		}
		if out := m.Append(nil); !bytes.Equal(out, b) {
			t.Fatalf("read %x, wrote %x", b, out)
		}
	})
}
