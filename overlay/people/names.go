package people

import (
	"fmt"

	"anodenet/anode"
	"anodenet/overlay/book"
)

// namer gives peers names that are free: neither in a book nor meant for somebody who was asked.
type namer struct {
	book   Book
	people *table[Key, person]
}

// unique makes a peer's name from one that somebody offers. If another peer has the name, it gets a number: east-2. It
// returns "" if no name is left.
func (n namer) unique(offered string, a anode.Address) string {
	return book.FreeName(book.NameFrom(offered, book.MaxName), func(name string) bool { return n.free(name, a) })
}

// free reports whether no other peer has a name, and none was promised it.
func (n namer) free(name string, a anode.Address) bool {
	e, taken := n.book.ByName(name)
	to, promised := n.promised(name)
	return (!taken || e.Address == a) && (!promised || sameKey(to, a))
}

// given checks a name that the user gives a peer. If another has it, the error offers one that is free.
func (n namer) given(name string, a anode.Address) error {
	if name == "" {
		return nil
	}
	if err := book.CheckName(name); err != nil {
		return err
	}
	if !n.free(name, a) {
		return fmt.Errorf("%w; try: %s", book.ErrTaken, n.unique(name, a))
	}
	return nil
}

// promised returns who was asked and is to have a name.
func (n namer) promised(name string) (a anode.Address, ok bool) {
	for _, p := range n.people.m {
		if p.asks() && p.As == name && name != "" {
			return p.Address, true
		}
	}
	return a, false
}

// shown returns the name of a peer here, or else its short ID.
func (n namer) shown(a anode.Address) string {
	if e := n.book.Get(a); e.Name != "" {
		return e.Name
	}
	return a.ID().String()
}
