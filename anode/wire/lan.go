package wire

import (
	"encoding/binary"
	"net/netip"
)

// Lengths of what stands before the payload.
const (
	IP4Header   = 7         // of IP4: class[1] ident[2] fragment[2] ttl[1] protocol[1]
	GroupHeader = 16        // of GROUP: the destination, then IP6's or IP4's header
	IP4Left     = 0x8000    // in IP4's fragment field: the receiver computes the checksum
	MaxGroups   = 64        // in one GROUPS
	groupsHead  = 4 + 1 + 1 // of GROUPS
)

// GroupsMsg is GROUPS: serial[4] flags[1] n[1] n × group[16], n at most 64. It says what the sender
// wants of the virtual LAN; an IPv4 group is written as an IPv4-mapped IPv6 address. It replaces what the
// sender said before, unless its serial is lower; GROUPS_ACK repeats the serial. Both are only ever sealed.
type GroupsMsg struct {
	Serial uint32       // grows with each change; compared modulo 2^32
	Member bool         // flag 01: the recipient is in the sender's virtual LAN. Without it Groups is empty
	Groups []netip.Addr // multicast alone, each once
}

// ParseGroups reads a GROUPS. Unknown flags are skipped.
func ParseGroups(b []byte) (m GroupsMsg, err error) {
	if len(b) < groupsHead {
		return m, ErrShort
	}
	m = GroupsMsg{Serial: binary.BigEndian.Uint32(b), Member: b[4]&1 != 0}
	n := int(b[5])
	if n > MaxGroups || !m.Member && n > 0 {
		return GroupsMsg{}, ErrField
	}
	b = b[groupsHead:]
	if err := exactly(b, 16*n); err != nil {
		return GroupsMsg{}, err
	}
	seen := make(map[netip.Addr]bool, n)
	for ; len(b) > 0; b = b[16:] {
		a := netip.AddrFrom16([16]byte(b)).Unmap()
		if !a.IsMulticast() || seen[a] {
			return GroupsMsg{}, ErrField
		}
		seen[a] = true
		m.Groups = append(m.Groups, a)
	}
	return m, nil
}

// Append writes the message behind dst. Groups beyond MaxGroups are left out.
func (m GroupsMsg) Append(dst []byte) []byte {
	groups := m.Groups[:min(len(m.Groups), MaxGroups)]
	flags := byte(0)
	if m.Member {
		flags = 1
	} else {
		groups = nil
	}
	dst = append(binary.BigEndian.AppendUint32(dst, m.Serial), flags, byte(len(groups)))
	for _, g := range groups {
		a := g.As16()
		dst = append(dst, a[:]...)
	}
	return dst
}

// GroupsAckMsg is GROUPS_ACK: serial[4] of the GROUPS that came.
type GroupsAckMsg uint32

// ParseGroupsAck reads a GROUPS_ACK.
func ParseGroupsAck(b []byte) (GroupsAckMsg, error) {
	if err := exactly(b, 4); err != nil {
		return 0, err
	}
	return GroupsAckMsg(binary.BigEndian.Uint32(b)), nil
}

// Append writes the message behind dst.
func (m GroupsAckMsg) Append(dst []byte) []byte { return binary.BigEndian.AppendUint32(dst, uint32(m)) }
