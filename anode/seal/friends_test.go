package seal

import (
	"net/netip"
	"testing"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// Both sides make the same tag, and whatever it is about changes it.
func TestFriendTag(t *testing.T) {
	a, b := newFriend(t), newFriend(t)
	var s Scratch
	at := netip.MustParseAddr("10.0.0.1")
	mac := func(own, other *anode.Identity) *MAC {
		k, err := SharedKey(own, other.Address())
		if err != nil {
			t.Fatal(err)
		}
		return NewMAC(k)
	}
	made := mac(a, b).FriendTag([8]byte{1}, a.Address(), at, &s)
	if read := mac(b, a).FriendTag([8]byte{1}, a.Address(), at, &s); read != made {
		t.Fatalf("made %x, read %x", made, read)
	}
	if mapped := mac(b, a).FriendTag([8]byte{1}, a.Address(), netip.MustParseAddr("::ffff:10.0.0.1"), &s); mapped != made {
		t.Error("an IPv4-mapped source is another one")
	}
	for name, other := range map[string]wire.FriendTag{
		"salt":      mac(a, b).FriendTag([8]byte{2}, a.Address(), at, &s),
		"direction": mac(a, b).FriendTag([8]byte{1}, b.Address(), at, &s),
		"source":    mac(a, b).FriendTag([8]byte{1}, a.Address(), at.Next(), &s),
		"key":       mac(a, newFriend(t)).FriendTag([8]byte{1}, a.Address(), at, &s),
	} {
		if other == made {
			t.Errorf("another %s makes the same tag", name)
		}
	}
	m := mac(a, b)
	if n := testing.AllocsPerRun(100, func() { made = m.FriendTag([8]byte{1}, a.Address(), at, &s) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if _, _, err := wire.Parse([]byte("." + friendLabel + "                              ")); err != wire.ErrFlags {
		t.Errorf("the text of a tag could be that of a packet: %v", err)
	}
}

// The tag of a fixed key, so that it stays what others compute.
func TestFriendTagGolden(t *testing.T) {
	var s Scratch
	text := append([]byte("anode friends 1"), 1, 2, 3, 4, 5, 6, 7, 8)
	address := anode.Address{0: 1, 7: 2, 39: 9}
	text = append(text, address[:]...)
	text = append(text, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1)
	want := slowCMAC([32]byte{7}, text)
	got := NewMAC([32]byte{7}).FriendTag([8]byte{1, 2, 3, 4, 5, 6, 7, 8}, address, netip.MustParseAddr("192.0.2.1"), &s)
	if got != wire.FriendTag(want[:8]) {
		t.Errorf("got %x, want %x", got, want[:8])
	}
}

func newFriend(t *testing.T) *anode.Identity {
	t.Helper()
	id, err := anode.NewIdentity(0)
	if err != nil {
		t.Fatal(err)
	}
	return id
}
