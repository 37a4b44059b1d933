package people

import (
	"fmt"
	"slices"
	"strings"

	"anodenet/anode"
	"anodenet/overlay/book"
)

// reserved are names that mean something else under our domain.
var reserved = [...]string{"self", "id", "v4", "localhost"}

// namer gives peers names that are free in a book.
type namer struct{ book Book }

// unique makes a peer's name from one that somebody offers. Characters that a name cannot have become -. If
// another peer has the name, it gets a number: east-2. It returns "" if no name is left.
func (n namer) unique(offered string, a anode.Address) string {
	base := strings.Trim(strings.Map(nameRune, strings.ToLower(offered)), "-")
	for strings.Contains(base, "--") {
		base = strings.ReplaceAll(base, "--", "-")
	}
	base = strings.TrimRight(base[:min(len(base), book.MaxName-4)], "-")
	if base == "" {
		return ""
	}
	for k := 1; k < 1000; k++ {
		name := base
		if k > 1 {
			name = fmt.Sprintf("%s-%d", base, k)
		}
		if book.CheckName(name) == nil && !slices.Contains(reserved[:], name) && n.free(name, a) {
			return name
		}
	}
	return ""
}

// free reports whether no other peer has a name.
func (n namer) free(name string, a anode.Address) bool {
	e, taken := n.book.ByName(name)
	return !taken || e.Address == a
}

func nameRune(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
		return r
	}
	return '-'
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

// shown returns the name of a peer here, or else its short ID.
func (n namer) shown(a anode.Address) string {
	if e := n.book.Get(a); e.Name != "" {
		return e.Name
	}
	return a.ID().String()
}
