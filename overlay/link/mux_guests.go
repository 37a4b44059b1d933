package link

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
)

const (
	// maxPlaces is how many TCP connections may be open without proof of who is there.
	maxPlaces = 512
	// A site has a quarter of the places that are free, and this many at least: hundreds of
	// honest hosts behind one address get in as long as there is room.
	minSitePlaces = 16
	// guestMost is how many bytes are read of a guest before it has proved who it is. A
	// handshake needs less than a tenth.
	guestMost = 64 << 10
)

// places hold the connections that came in, as long as it is not known who is there. A newcomer
// always gets a place: if there is none left, the oldest connection of the site that has
// most makes room. Who floods a node thereby replaces mainly its own connections, and an honest
// peer needs its place for a few round trips only.
type places struct {
	mu    sync.Mutex
	count int
	turn  uint64
	sites map[netip.Addr][]*guest // by placeSite, the oldest first

	replacedSite, replacedMost atomic.Uint64
}

// guest is a connection that has a place.
type guest struct {
	site netip.Addr
	turn uint64 // orders guests by age
	end  func() // ends the connection, and returns at once
}

// placeSite is what shares places: an IPv4 address, or an IPv6 /48, since one party may have as
// much as that.
func placeSite(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if p, err := a.Prefix(48); err == nil && a.Is6() {
		return p.Addr()
	}
	return a
}

// enter gives a connection from a its place.
func (p *places) enter(a netip.Addr, end func()) *guest {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sites == nil {
		p.sites = make(map[netip.Addr][]*guest)
	}
	g := &guest{site: placeSite(a), end: end}
	switch mine := p.sites[g.site]; {
	case len(mine) >= max(minSitePlaces, (maxPlaces-p.count)/4):
		p.replacedSite.Add(1)
		p.replace(mine[0])
	case p.count >= maxPlaces:
		p.replacedMost.Add(1)
		p.replace(p.worst())
	}
	p.turn++
	g.turn = p.turn
	p.count++
	p.sites[g.site] = append(p.sites[g.site], g)
	return g
}

// worst returns the oldest guest of the site that has most.
func (p *places) worst() (w *guest) {
	most := 0
	for _, list := range p.sites {
		if g := list[0]; len(list) > most || len(list) == most && g.turn < w.turn {
			w, most = g, len(list)
		}
	}
	return w
}

// replace ends a guest.
func (p *places) replace(g *guest) {
	p.drop(g)
	g.end()
}

// leave gives a place back. It may be called again.
func (p *places) leave(g *guest) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(g)
}

func (p *places) drop(g *guest) {
	list := p.sites[g.site]
	for i, x := range list {
		if x != g {
			continue
		}
		copy(list[i:], list[i+1:])
		list[len(list)-1] = nil
		if p.sites[g.site] = list[:len(list)-1]; len(list) == 1 {
			delete(p.sites, g.site)
		}
		p.count--
		return
	}
}

// shed ends one guest, if there is any, since the process has no more files.
func (p *places) shed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.worst(); g != nil {
		p.replace(g)
	}
}

func (p *places) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count
}

// abort closes a connection so that the system keeps nothing of it.
func abort(c net.Conn) {
	if x, ok := c.(interface{ SetLinger(int) error }); ok {
		_ = x.SetLinger(0)
	}
	c.Close()
}
