package overlay

import (
	"testing"

	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/vnet"
)

// A frame holds as much as the interface says, without the headers of IP and UDP.
func TestEthernetMTU(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		a, b, s := pair(t, w)
		defer a.stop()
		defer b.stop()
		for _, mtu := range []int{1500, 1400} {
			s.SetMTU(mtu)
			settle(0)
			err := a.call(t.Context(), func(l *loop) error {
				a.dev.mtu = 9000
				index := l.links.state.Interfaces[0].Index
				if limit, on := l.shell.Link(link.AtMAC([6]byte{2, 1}, index)); limit != mtu-2 || !on {
					t.Errorf("%d bytes of %d, on one of our links: %v", limit, mtu, on)
				}
				if _, on := l.shell.Link(link.AtMAC([6]byte{2, 1}, index+7)); on {
					t.Error("an interface that is not there is a link of ours")
				}
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	})
}

// What others say about endpoints without IP leads nowhere: an address of Ethernet has no meaning
// without an interface of ours.
func TestEthernetByHearsay(t *testing.T) {
	if ep, ok := link.FromWire(wire.Endpoint{Kind: wire.Ethernet, MAC: [6]byte{2, 1}}); ok {
		t.Errorf("it is %+v", ep)
	}
}
