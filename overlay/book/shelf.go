package book

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// shelf holds the entries and their rules. It is pure: the methods that are named
// after verbs check, and return what the Store is to have instead; apply puts it on
// the shelf.
type shelf struct {
	self   anode.Address
	stored map[anode.Address]Entry // as the Store has them, each added or blocked
	fixed  map[anode.Address]Entry // as the configuration has them

	// follow from stored and fixed
	blocked map[[32]byte][]anode.Address // X coordinate -> the stored entries that block it
	names   map[string]anode.Address
}

func newShelf(self anode.Address) shelf {
	return shelf{
		self:    self,
		stored:  map[anode.Address]Entry{},
		fixed:   map[anode.Address]Entry{},
		blocked: map[[32]byte][]anode.Address{},
		names:   map[string]anode.Address{},
	}
}

// load takes an entry of the Store's, at the start. Whatever breaks a rule is left out
// and reported.
func (s *shelf) load(e Entry) (problems []error) {
	if err := s.checkPeer(e.Address); err != nil {
		return []error{fmt.Errorf("%w: peer %s: %w", ErrRecord, e.Address, err)}
	}
	if e.Name != "" {
		switch err := s.checkName(e.Address, e.Name); {
		case errors.Is(err, errReserved) && s.names[e.Name].IsZero(): // it was not, when the name was given
			problems = append(problems, fmt.Errorf("peer %s: %w; other programs cannot use it for the peer; try: anode peers rename %[1]s NAME", e.Address.ID(), err))
		case err != nil:
			problems = append(problems, fmt.Errorf("peer %s: %w", e.Address.ID(), err))
			e.Name = ""
		}
	}
	var err []error
	e.Endpoints, e.Hosts, err = usable(e)
	e.Fixed, e.LAN = false, e.LAN && e.Added
	if e.Added || e.Blocked {
		s.put(e)
	}
	return append(problems, err...)
}

// refix returns a shelf with other entries of the configuration's: the one that a start
// with these would make. It shares with this shelf what the Store has.
func (s *shelf) refix(entries []Entry) (next shelf, problems []error) {
	next = newShelf(s.self)
	next.stored, next.blocked = s.stored, s.blocked
	for a, e := range s.stored {
		if e.Name != "" {
			next.names[e.Name] = a
		}
	}
	for _, e := range entries {
		problems = append(problems, next.fix(e)...)
	}
	return next, problems
}

// changes lists what differs on the next shelf for the addresses that the configuration
// has or had, in the order of their addresses.
func (s *shelf) changes(next *shelf) (list []Change) {
	for _, a := range slices.SortedFunc(maps.Keys(union(s.fixed, next.fixed)), compare) {
		if c := (Change{s.entry(a), next.entry(a)}); !c.Nothing() {
			list = append(list, c)
		}
	}
	return list
}

func union(a, b map[anode.Address]Entry) map[anode.Address]Entry {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

func compare(a, b anode.Address) int { return bytes.Compare(a[:], b[:]) }

// fix takes an entry of the configuration's, after those of the Store.
func (s *shelf) fix(e Entry) (problems []error) {
	if err := s.checkPeer(e.Address); err != nil {
		return []error{fmt.Errorf("%w: %s: %w", ErrFixed, e.Address, err)}
	}
	old, again := s.fixed[e.Address]
	f := Entry{Address: e.Address, Name: old.Name, Added: true, Fixed: true, LAN: old.LAN || e.LAN}
	if e.Name != "" && !again {
		if err := s.checkName(e.Address, e.Name); err != nil {
			problems = append(problems, fmt.Errorf("%w: %s: %w", ErrFixed, e.Address.ID(), err))
		} else {
			f.Name = e.Name
		}
	}
	e.Endpoints, e.Hosts = slices.Concat(old.Endpoints, e.Endpoints), slices.Concat(old.Hosts, e.Hosts)
	var err []error
	f.Endpoints, f.Hosts, err = usable(e)
	s.fixed[e.Address] = f
	if name := s.entry(e.Address).Name; name != "" {
		s.names[name] = e.Address
	}
	return append(problems, err...)
}

// usable returns the endpoints and the host names of an entry that can be used, and why
// others cannot.
func usable(e Entry) (es []wire.Endpoint, hosts []Host, problems []error) {
	for _, h := range e.Hosts {
		more, err := checkHosts(append(slices.Clone(hosts), h))
		if err != nil {
			problems = append(problems, fmt.Errorf("peer %s: %w", e.Address.ID(), err))
			continue
		}
		hosts = more
	}
	for _, ep := range e.Endpoints {
		more, err := checkEndpoints(append(slices.Clone(es), ep))
		if err != nil {
			problems = append(problems, fmt.Errorf("peer %s: %w", e.Address.ID(), err))
			continue
		}
		es = more
	}
	return es, hosts, problems
}

// standing returns the standing of an address. A block wins over everything.
func (s *shelf) standing(a anode.Address) Standing {
	if len(s.blocked) > 0 && len(s.blocked[a.X()]) > 0 {
		return Blocked
	}
	if s.stored[a].Added {
		return Added
	}
	if _, ok := s.fixed[a]; ok {
		return Added
	}
	return Stranger
}

// entry merges what the Store and the configuration say of an address.
func (s *shelf) entry(a anode.Address) Entry {
	stored, fixed := s.stored[a], s.fixed[a]
	e := Entry{
		Address:   a,
		Name:      cmp.Or(stored.Name, fixed.Name),
		Endpoints: stored.Endpoints,
		Hosts:     stored.Hosts,
		Since:     stored.Since,
		Added:     stored.Added || fixed.Fixed,
		Blocked:   s.standing(a) == Blocked,
		Fixed:     fixed.Fixed,
		LAN:       stored.LAN || fixed.LAN,
	}
	if len(e.Endpoints)+len(e.Hosts) == 0 {
		e.Endpoints, e.Hosts = fixed.Endpoints, fixed.Hosts
	}
	return e
}

// put replaces a stored entry; one that is neither added nor blocked goes.
func (s *shelf) put(e Entry) {
	a, x := e.Address, e.Address.X()
	if old := s.entry(a).Name; old != "" {
		delete(s.names, old)
	}
	holders := slices.DeleteFunc(slices.Clone(s.blocked[x]), func(b anode.Address) bool { return b == a })
	if e.Blocked {
		holders = append(holders, a)
	}
	if len(holders) > 0 {
		s.blocked[x] = holders
	} else {
		delete(s.blocked, x)
	}
	if e.Added || e.Blocked {
		s.stored[a] = e
	} else {
		delete(s.stored, a)
	}
	if name := s.entry(a).Name; name != "" {
		s.names[name] = a
	}
}

// checkPeer reports why an address cannot be a peer's.
func (s *shelf) checkPeer(a anode.Address) error {
	if err := CheckAddress(a); err != nil {
		return err
	}
	if a.X() == s.self.X() {
		return ErrSelf
	}
	return nil
}

// checkName reports why the peer with an address cannot have a name.
func (s *shelf) checkName(a anode.Address, name string) error {
	if err := CheckName(name); err != nil {
		return err
	}
	if owner, taken := s.names[name]; taken && owner != a {
		return fmt.Errorf("%w: %q is %s (%s)", ErrTaken, name, owner.ID(), owner.ULA())
	}
	return nil
}

// own returns the stored entry of a peer that was added at run time, and may so be
// changed at run time.
func (s *shelf) own(a anode.Address) (Entry, error) {
	if err := s.checkPeer(a); err != nil {
		return Entry{}, err
	}
	e := s.stored[a]
	switch _, fixed := s.fixed[a]; {
	case e.Added:
		return e, nil
	case fixed:
		return Entry{}, fmt.Errorf("%w: change it there, or add it here as well", ErrFixed)
	case s.standing(a) == Blocked:
		return Entry{}, fmt.Errorf("%w: it is blocked, and was not added", ErrUnknownPeer)
	}
	return Entry{}, ErrUnknownPeer
}

func (s *shelf) add(wanted Entry, now time.Time) ([]Entry, error) {
	a, name := wanted.Address, wanted.Name
	if err := s.checkPeer(a); err != nil {
		return nil, err
	}
	if s.standing(a) == Blocked {
		return nil, fmt.Errorf("%w: unblock it before it is added", ErrBlocked)
	}
	es, hosts, err := checkPlaces(wanted.Endpoints, wanted.Hosts)
	if err != nil {
		return nil, err
	}
	e := s.stored[a]
	if name != "" {
		if err := s.checkName(a, name); err != nil {
			return nil, err
		}
		e.Name = name
	}
	if len(es)+len(hosts) > 0 {
		e.Endpoints, e.Hosts = es, hosts
	}
	e.LAN = e.LAN || wanted.LAN
	if !e.Added {
		e.Address, e.Added, e.Since = a, true, now.Round(0).UTC()
	}
	return []Entry{e}, nil
}

func (s *shelf) remove(a anode.Address) ([]Entry, error) {
	if _, fixed := s.fixed[a]; fixed {
		return nil, fmt.Errorf("%w: remove it there, or block it", ErrFixed)
	}
	e, err := s.own(a)
	if err != nil {
		return nil, err
	}
	return []Entry{{Address: a, Blocked: e.Blocked}}, nil
}

func (s *shelf) rename(a anode.Address, name string) ([]Entry, error) {
	e, err := s.own(a)
	if err != nil {
		return nil, err
	}
	if name == "" && s.fixed[a].Name != "" {
		return nil, fmt.Errorf("%w: it is named %q there", ErrFixed, s.fixed[a].Name)
	}
	if name != "" {
		if err := s.checkName(a, name); err != nil {
			return nil, err
		}
	}
	e.Name = name
	return []Entry{e}, nil
}

func (s *shelf) setLAN(a anode.Address, on bool) ([]Entry, error) {
	e, err := s.own(a)
	if err != nil {
		return nil, err
	}
	if !on && s.fixed[a].LAN {
		return nil, fmt.Errorf("%w: it is in the virtual LAN there", ErrFixed)
	}
	e.LAN = on
	return []Entry{e}, nil
}

func (s *shelf) setEndpoints(a anode.Address, es []wire.Endpoint, hosts []Host) ([]Entry, error) {
	e, err := s.own(a)
	if err != nil {
		return nil, err
	}
	if e.Endpoints, e.Hosts, err = checkPlaces(es, hosts); err != nil {
		return nil, err
	}
	return []Entry{e}, nil
}

func (s *shelf) removeEndpoint(a anode.Address, p Place) ([]Entry, error) {
	e, err := s.own(a)
	if err != nil {
		return nil, err
	}
	places := e.Places()
	if i := slices.Index(places, p); i >= 0 {
		e.Endpoints, e.Hosts = Split(slices.Delete(places, i, i+1))
		return []Entry{e}, nil
	}
	if slices.Contains(s.fixed[a].Places(), p) {
		return nil, fmt.Errorf("%w: remove the endpoint there", ErrFixed)
	}
	return nil, fmt.Errorf("%w: %s", ErrNoEndpoint, p)
}

func (s *shelf) block(a anode.Address) ([]Entry, error) {
	if err := s.checkPeer(a); err != nil {
		return nil, err
	}
	if s.standing(a) == Blocked {
		return nil, nil
	}
	e := s.stored[a]
	e.Address, e.Blocked = a, true
	return []Entry{e}, nil
}

// unblock clears the block under whatever addresses it was set.
func (s *shelf) unblock(a anode.Address) (list []Entry, err error) {
	if err := s.checkPeer(a); err != nil {
		return nil, err
	}
	holders := s.blocked[a.X()]
	if len(holders) == 0 && s.standing(a) == Stranger {
		return nil, ErrUnknownPeer
	}
	for _, h := range holders {
		e := s.stored[h]
		e.Blocked = false
		list = append(list, e)
	}
	return list, nil
}
