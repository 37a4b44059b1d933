package seal

import (
	"bytes"
	"net/netip"
	"reflect"
	"testing"
	"time"

	"anodenet/anode/wire"
)

func TestAnnouncement(t *testing.T) {
	instance := wire.Instance{0xa, 1, 2, 3, 4, 5, 6, 7}
	for _, c := range []struct {
		name, hex string
		want      Announcement
		again     string // what we write; empty: the same
	}{
		{"nothing", "", Announcement{Lanes: 1}, ""},
		{"lanes", "01 01 04", Announcement{Lanes: 4}, ""},
		{"no lanes", "01 01 00", Announcement{Lanes: 1}, "-"},
		{"one lane", "01 01 01", Announcement{Lanes: 1}, "-"},
		{"too many lanes", "01 01 ff", Announcement{Lanes: MaxLanes}, "01 01 10"},
		{"not added", "03 01 00", Announcement{Lanes: 1, Standing: wire.StandingNotAdded}, ""},
		{"added", "03 01 01", Announcement{Lanes: 1, Standing: wire.StandingAdded}, ""},
		{"a standing to come", "03 01 02", Announcement{Lanes: 1}, "-"},
		{"instance", "04 08 0a01020304050607", Announcement{Lanes: 1, Instance: instance}, ""},
		{"capability 0", "05 01 80", Announcement{Lanes: 1, Capabilities: 1 << 63}, ""},
		{"capability 2", "05 01 20", Announcement{Lanes: 1, Capabilities: TakesIP6}, ""},
		{"streams", "05 01 c0", Announcement{Lanes: 1, Capabilities: ReadsDAck | HalfCloses}, ""},
		{"capability 8", "05 02 0080", Announcement{Lanes: 1, Capabilities: 1 << 55}, ""},
		{"no capabilities", "05 00", Announcement{Lanes: 1}, "-"},
		{"capabilities to come", "05 09 20000000000000000f", Announcement{Lanes: 1, Capabilities: TakesIP6}, "05 01 20"},
		{"invitation", "02 08 0102030405060708", Announcement{Lanes: 1, Invitation: InvitationID{1, 2, 3, 4, 5, 6, 7, 8}}, ""},
		{"no invitation", "02 08 0000000000000000", Announcement{Lanes: 1}, "-"},
		{"unknown ones", "00 00 08 01 00 ff 02 0102 03 01 01",
			Announcement{Lanes: 1, Standing: wire.StandingAdded}, "03 01 01"},
		{"the first counts", "03 01 01 03 01 00 01 01 02 01 01 03", Announcement{Lanes: 2, Standing: wire.StandingAdded}, "01 01 02 03 01 01"},
		{"the first counts, unknown or not", "03 01 07 03 01 01", Announcement{Lanes: 1}, "-"},
		{"all", "01 01 02 03 01 01 04 08 0a01020304050607 05 01 20",
			Announcement{2, wire.StandingAdded, instance, TakesIP6, Reach{}, InvitationID{}}, ""},
		{"endpoints", "06 0e 02 c0000201 2221 02 c6336401 1000", Announcement{Lanes: 1, Reach: Reach{Endpoints: []wire.Endpoint{
			wire.UDP(netip.MustParseAddrPort("192.0.2.1:8737")), wire.UDP(netip.MustParseAddrPort("198.51.100.1:4096"))}}}, ""},
		{"endpoints of TCP", "06 0e 02 c0000201 2221 03 c6336401 1000", Announcement{Lanes: 1, Reach: Reach{Endpoints: []wire.Endpoint{
			wire.UDP(netip.MustParseAddrPort("192.0.2.1:8737")), wire.TCP(netip.MustParseAddrPort("198.51.100.1:4096"))}}}, ""},
		{"endpoints of other kinds", "06 0f 01 020000000001 00 02 c6336401 1000", Announcement{Lanes: 1, Reach: Reach{Endpoints: []wire.Endpoint{
			wire.UDP(netip.MustParseAddrPort("198.51.100.1:4096"))}}}, "06 07 02 c6336401 1000"},
		{"an endpoint to come", "06 09 02 c6336401 1000 ff 01", Announcement{Lanes: 1, Reach: Reach{Endpoints: []wire.Endpoint{
			wire.UDP(netip.MustParseAddrPort("198.51.100.1:4096"))}}}, "06 07 02 c6336401 1000"},
		{"no endpoints", "06 00", Announcement{Lanes: 1}, "-"},
		{"mapping", "07 01 32", Announcement{Lanes: 1, Reach: Reach{Mapping: 0x32}}, ""},
	} {
		got, ok := parseAnnouncement(unhex(t, c.hex))
		if !ok || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, %v", c.name, got, ok)
		}
		again := c.hex
		if c.again != "" {
			again = c.again
		}
		if again == "-" {
			again = ""
		}
		if b := got.append(nil); !bytes.Equal(b, unhex(t, again)) {
			t.Errorf("%s: wrote %x", c.name, b)
		}
	}
	for _, broken := range []string{
		"01", "01 02 00", "03 01 01 01", "00 01", "ff ff 00", // not whole
		"01 00", "01 02 0102", "03 00", "03 02 0101", "02 07 01020304050607", "02 09 010203040506070809", "04 07 01020304050607", "04 09 010203040506070809", // lengths
		"06 06 02 c0000201 22", "06 01 04", "07 00", "07 02 0000",
		"03 01 01 03 00", "01 01 02 01 00", // also of the second
	} {
		if a, ok := parseAnnouncement(unhex(t, broken)); ok || !reflect.DeepEqual(a, Announcement{}) {
			t.Errorf("%s: %+v", broken, a)
		}
	}
}

// Each side learns what the other says of itself, and believes it once the session is
// confirmed.
func TestAnnounced(t *testing.T) {
	w, a, b := newWorld(t, 1)
	a.local.Lanes, a.local.Adapter, a.local.Instance = 4, true, wire.Instance{1}
	b.local.Instance = wire.Instance{2}
	a.restart()
	b.restart()
	a.set.SetStanding(true, true)
	w.drop = func(p *packet) bool { return p.sealed != nil }
	a.say("x")
	w.run(time.Second)
	x, y := a.set.Current(w.now), b.set.pending[0]
	if got, ok := x.Announced(); !ok || !reflect.DeepEqual(got, Announcement{1, wire.StandingNotAdded, wire.Instance{2}, 0, Reach{}, InvitationID{}}) {
		t.Errorf("the initiator learned %+v, %v", got, ok)
	}
	if got, ok := y.Announced(); ok || !reflect.DeepEqual(got, Announcement{}) {
		t.Errorf("the responder believes %+v before the session is confirmed", got)
	}
	w.drop = nil
	a.say("y")
	w.run(time.Second)
	if got, ok := y.Announced(); !ok || !reflect.DeepEqual(got, Announcement{4, wire.StandingAdded, wire.Instance{1}, TakesIP6, Reach{}, InvitationID{}}) {
		t.Errorf("the responder learned %+v, %v", got, ok)
	}
	// Once ended it says nothing.
	b.set.Close()
	if _, ok := y.Announced(); ok {
		t.Error("an ended session is believed")
	}
}

func FuzzAnnouncement(f *testing.F) {
	f.Add(unhex(f, "01 01 02 03 01 01 04 08 0a01020304050607 05 01 20"))
	f.Add(unhex(f, "01 01 02 02 08 0102030405060708 03 01 00"))
	f.Add(unhex(f, "05 09 20000000000000000f ff 00"))
	f.Add(unhex(f, "06 15 02 c0000201 2221 00 03 c6336401 1000 02 c6336401 1000 07 01 32"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, ok := parseAnnouncement(b)
		if !ok {
			return
		}
		if a.Lanes < 1 || a.Lanes > MaxLanes {
			t.Fatalf("%x: %d lanes", b, a.Lanes)
		}
		again, ok := parseAnnouncement(a.append(nil))
		if !ok || !reflect.DeepEqual(again, a) {
			t.Fatalf("%+v became %+v, %v", a, again, ok)
		}
	})
}
