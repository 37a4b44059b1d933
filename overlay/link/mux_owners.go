package link

import "slices"

const (
	// maxOwned is how many connections one owner may have that came in: a peer with all its
	// machines, or somebody that nobody added.
	maxOwned        = 32
	maxOwnedByOther = 4
)

// owners are those who have proved who they are, and their connections, the oldest first. The
// Mux's mu guards it.
type owners struct {
	of     map[any][]Endpoint
	owner  map[Endpoint]owned
	others int // connections of owners that nobody added
}

type owned struct {
	by    any
	added bool
}

// Keep says that who is at an endpoint has proved to be owner, a value that can be compared: the
// connection lasts, and has its own bounds. added says that people here added it; anybody can
// become one of the others. Of several connections of one owner, the oldest make room for new ones.
func (m *Mux) Keep(ep Endpoint, owner any, added bool) {
	ep = ep.Place()
	m.mu.Lock()
	o := m.outlets[ep]
	var ended outlet
	if o != nil && ep.Conn != 0 {
		ended = m.own(ep, owned{owner, added})
	}
	m.mu.Unlock()
	if o != nil && o != ended {
		o.keep()
	}
	if ended != nil {
		m.expel(ended)
	}
}

// expel ends an outlet for good: a session by HTTP would else go on with its next request, and
// have its place until then.
func (m *Mux) expel(o outlet) {
	if s, ok := o.(*session); ok {
		m.web.drop(s)
		return
	}
	o.close()
}

// own notes whose a connection is, and returns the one that has to end; nil: none.
func (m *Mux) own(ep Endpoint, who owned) (ended outlet) {
	x := &m.owners
	if x.of == nil {
		x.of, x.owner = make(map[any][]Endpoint), make(map[Endpoint]owned)
	}
	if before, ok := x.owner[ep]; ok {
		if before.by == who.by && before.added != who.added {
			x.count(before, -1)
			x.count(who, 1)
			x.owner[ep] = who
		}
		return nil
	}
	most := maxOwned
	if !who.added {
		most = maxOwnedByOther
		if x.others >= m.most/4*3 {
			m.c.refusedOthers.Add(1)
			return m.outlets[ep]
		}
	}
	if mine := x.of[who.by]; len(mine) >= most {
		m.c.endedOwner.Add(1)
		ended = m.outlets[mine[0]]
		x.remove(mine[0])
	}
	x.of[who.by] = append(x.of[who.by], ep)
	x.owner[ep] = who
	x.count(who, 1)
	return ended
}

func (x *owners) count(who owned, n int) {
	if !who.added {
		x.others += n
	}
}

// remove forgets whose a connection is.
func (x *owners) remove(ep Endpoint) {
	who, ok := x.owner[ep]
	if !ok {
		return
	}
	delete(x.owner, ep)
	x.count(who, -1)
	list := x.of[who.by]
	if i := slices.Index(list, ep); i >= 0 {
		list = slices.Delete(list, i, i+1)
	}
	if x.of[who.by] = list; len(list) == 0 {
		delete(x.of, who.by)
	}
}

// Release ends the connections of an owner, who is nobody any more.
func (m *Mux) Release(owner any) {
	m.mu.Lock()
	var ended []outlet
	for _, ep := range slices.Clone(m.owners.of[owner]) {
		m.owners.remove(ep)
		if o := m.outlets[ep]; o != nil {
			ended = append(ended, o)
		}
	}
	m.mu.Unlock()
	for _, o := range ended {
		m.expel(o)
	}
}
