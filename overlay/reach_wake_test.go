package overlay

import (
	"slices"
	"testing"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/vnet"
)

// After ten minutes in which the process did not run, or its machine slept, what flowed before
// flows again within three seconds.
func TestReachAfterSleep(t *testing.T) {
	for _, how := range []string{"the loop notices", "the system says so"} {
		t.Run(how, func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				x := newOuter(t, w, 1)
				a, b := x.site("a", vnet.Carrier), x.site("b", vnet.Home)
				x.start()
				defer x.stop()
				settle(5 * time.Second)
				flow(a, b, 5*time.Second, "before", nil)
				a.host.SetAsleep(true)
				settle(10 * time.Minute)
				a.clock.set(0, 10*time.Minute) // its timers did not run, and the clock did
				a.host.SetAsleep(false)
				if how == "the system says so" {
					if err := a.Woke(t.Context()); err != nil {
						t.Fatal(err)
					}
				}
				toA, toB := flow(a, b, 6*time.Second, "after", nil)
				if toA > 3*time.Second || toB > 3*time.Second {
					t.Errorf("silent for %v and %v", toA, toB)
				}
				if a.counter("woken") != 1 {
					t.Errorf("noticed %d times", a.counter("woken"))
				}
			})
		})
	}
}

// Two homes that have each other's endpoints, as seen from outside, meet soon after the second has
// added the first, without anybody's help.
func TestMeetWithoutHelp(t *testing.T) {
	for _, later := range []time.Duration{0, 30 * time.Second, 90 * time.Second} {
		t.Run(later.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, w *vnet.World) {
				x := newOuter(t, w, 0)
				a, b := x.site("a", vnet.Home), x.site("b", vnet.Home)
				for _, n := range []*testNode{a, b} {
					n.start()
					defer n.stop()
				}
				add := func(n, to *testNode, k int) {
					at := wire.UDP(ap(x.sites[k].NAT.Addr().String() + ":8737"))
					if _, err := n.AddPeer(t.Context(), Peer{Address: to.address0(), Name: to.host.Name(), Endpoints: []wire.Endpoint{at}}); err != nil {
						t.Fatal(err)
					}
				}
				add(a, b, 1)
				settle(later)
				add(b, a, 0)
				tap := record(x.sites[0].Access)
				settle(5 * time.Second)
				if p := b.peer(a).Path; p.Kind != PathDirect {
					t.Errorf("the path is %+v", p)
				}
				if n := len(tap.all()); n > 60 {
					t.Errorf("%d packets", n)
				}
				settle(3 * time.Hour)
				if took := b.until(a, "still there"); took > time.Second {
					t.Errorf("three hours later: %v", took)
				}
			})
		})
	}
}

// What a peer is told is what others can use: never addresses of the overlay, exactly, and at most
// eight, with what the router mapped before what others see.
func TestReachOwn(t *testing.T) {
	bubble(t, func(t *testing.T, w *vnet.World) {
		x := newOuter(t, w, 1)
		a := x.site("a", vnet.Home)
		x.start()
		defer x.stop()
		settle(2 * time.Second)
		seen := a.reach().Endpoint
		a.SetMapped(t.Context(), endpoints("51.0.2.1:1", "51.0.2.1:0", "127.0.0.1:1", "51.0.2.1:2", "203.0.113.2:2"))
		want := []string{"udp:51.0.2.1:1", "udp:51.0.2.1:2", seen}
		r := a.reach()
		if len(r.Own) < 4 || !slices.Equal(r.Own[:3], want) || !slices.Equal(r.Public, want) || len(r.Mapped) != 2 {
			t.Errorf("%+v", r)
		}
		a.SetMapped(t.Context(), nil)
		if r := a.reach(); len(r.Mapped) != 0 || r.Own[0] != seen {
			t.Errorf("%+v", r)
		}
	})
}

func endpoints(texts ...string) (list []link.Endpoint) {
	for _, s := range texts {
		list = append(list, link.Endpoint{Addr: ap(s)})
	}
	return list
}
