package wire

import (
	"bytes"
	"net/netip"
	"testing"
)

func TestGroups(t *testing.T) {
	m := GroupsMsg{Serial: 7, Member: true, Groups: []netip.Addr{netip.MustParseAddr("ff02::fb"), netip.MustParseAddr("224.0.0.251")}}
	b := m.Append(nil)
	got, err := ParseGroups(b)
	if err != nil || got.Serial != 7 || !got.Member || len(got.Groups) != 2 || got.Groups[1] != m.Groups[1] {
		t.Fatalf("%+v, %v", got, err)
	}
	left := GroupsMsg{Serial: 8, Groups: m.Groups}
	if got, err := ParseGroups(left.Append(nil)); err != nil || got.Member || got.Groups != nil {
		t.Errorf("who left says %+v, %v", got, err)
	}
	unicast := bytes.Clone(b)
	unicast[6] = 0xfd
	twice := append(bytes.Clone(b[:22]), b[6:22]...)
	for name, b := range map[string][]byte{
		"cut": b[:len(b)-1], "longer": append(bytes.Clone(b), 0), "empty": nil, "no multicast": unicast, "a group twice": twice,
		"too many": {0, 0, 0, 1, 1, 65}, "groups of who left": append([]byte{0, 0, 0, 1, 0, 1}, b[6:22]...),
	} {
		if m, err := ParseGroups(b); err == nil {
			t.Errorf("%s: %+v", name, m)
		}
	}
	if a, err := ParseGroupsAck(GroupsAckMsg(9).Append(nil)); err != nil || a != 9 {
		t.Error(a, err)
	}
}

func FuzzParseGroups(f *testing.F) {
	f.Add(GroupsMsg{Serial: 1, Member: true, Groups: []netip.Addr{netip.MustParseAddr("ff05::c")}}.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := ParseGroups(b)
		if err != nil {
			return
		}
		again, err := ParseGroups(m.Append(nil))
		if err != nil || again.Serial != m.Serial || again.Member != m.Member || len(again.Groups) != len(m.Groups) {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
	})
}
