package overlay

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"anodenet/overlay/vnet"
)

// What goes by a relay, or directly, goes on within three seconds when the NAT restarts, gets
// another address, or the host does; and a node that was idle meanwhile is reached.
func TestReachFollows(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(x *outer)
	}{
		{"reboot", func(x *outer) { x.sites[0].Reboot() }},
		{"renumber", func(x *outer) { x.sites[0].Renumber() }},
		{"address", func(x *outer) {
			i := x.lanAddr
			x.lanAddr++
			x.lan.SetAddrs(netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 1, i}), 24))
		}},
		{"address, after a while without one", func(x *outer) {
			i := x.lanAddr
			x.lanAddr++
			x.lan.SetAddrs()
			settle(4 * time.Second)
			x.lan.SetAddrs(netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, 1, i}), 24))
		}},
		{"relay restarts", func(x *outer) { x.relays[0].stop(); x.relays[0].start() }},
	} {
		for _, kinds := range [][2]vnet.Kind{{vnet.Home, vnet.Open}, {vnet.Carrier, vnet.SymmetricRandom}, {vnet.Home, vnet.Home}, {vnet.SymmetricRandom, vnet.SymmetricRandom}} {
			t.Run(fmt.Sprint(c.name, ", ", kinds[0], " and ", kinds[1]), func(t *testing.T) {
				bubble(t, func(t *testing.T, w *vnet.World) {
					x := newOuter(t, w, 1)
					a, b := x.mobile(w, "a", kinds[0]), x.site("b", kinds[1])
					x.start()
					defer x.stop()
					settle(5 * time.Second)
					flow(a, b, 5*time.Second, "before", nil)
					for k := range 2 {
						c.do(x)
						toA, toB := flow(a, b, 8*time.Second, fmt.Sprint("after ", k), nil)
						if toA > 3*time.Second || toB > 3*time.Second {
							t.Errorf("change %d: silent for %v and %v", k, toA, toB)
						} else {
							t.Logf("change %d: silent for %v and %v", k, toA, toB)
						}
					}
					settle(time.Minute)
					c.do(x)
					settle(100 * time.Second)
					if took := b.until(a, "idle"); took > 3*time.Second {
						t.Errorf("idle meanwhile: reached in %v", took)
					} else {
						t.Logf("idle meanwhile: reached in %v", took)
					}
				})
			})
		}
	}
}
