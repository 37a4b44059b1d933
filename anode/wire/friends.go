package wire

// Lengths of FRIENDS.
const (
	MaxFriends  = 32 // tags in one FRIENDS
	friendsHead = 8 + 1
)

// FriendTag is what one peer alone recognises: see seal.MAC.FriendTag.
type FriendTag [8]byte

// FriendsMsg is FRIENDS: salt[8] n[1] n × tag[8], n from 1 to MaxFriends. It is a beacon for those who
// recognise a tag, and tells others nothing. It has no MAC, and is never sealed.
type FriendsMsg struct {
	Salt [8]byte // random, another one in each packet
	Tags []FriendTag
}

// ParseFriends reads a FRIENDS.
func ParseFriends(b []byte) (m FriendsMsg, err error) {
	if len(b) < friendsHead {
		return m, ErrShort
	}
	n := int(b[8])
	if n == 0 || n > MaxFriends {
		return m, ErrField
	}
	tags := b[friendsHead:]
	if err := exactly(tags, len(FriendTag{})*n); err != nil {
		return m, err
	}
	m = FriendsMsg{Salt: [8]byte(b), Tags: make([]FriendTag, n)}
	for i := range m.Tags {
		m.Tags[i] = FriendTag(tags[i*len(FriendTag{}):])
	}
	return m, nil
}

// Append writes the message behind dst. Tags beyond MaxFriends are left out.
func (m FriendsMsg) Append(dst []byte) []byte {
	tags := m.Tags[:min(len(m.Tags), MaxFriends)]
	dst = append(append(dst, m.Salt[:]...), byte(len(tags)))
	for _, t := range tags {
		dst = append(dst, t[:]...)
	}
	return dst
}
