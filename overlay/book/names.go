package book

import (
	"errors"
	"fmt"
	"strings"

	"anodenet/anode"
)

// reserved are names that mean something else under our domain or to programs, and what. Peers that had
// such a name before it was reserved keep it.
var reserved = [...]struct{ name, why string }{
	{"self", "it is this machine"},
	{"id", "id.anode.internal has the short IDs"},
	{"v4", "v4.NAME.anode.internal asks for an IPv4 alias"},
	{"localhost", "it is this machine to every program"},
}

// errReserved is wrapped, beside ErrName, by the error of such a name.
var errReserved = errors.New("is reserved")

// CheckName reports why a peer cannot have a name: it has 1 to MaxName letters a-z,
// digits, - and _, begins with a letter or digit, cannot be read as a short ID, and is not
// self, id, v4 or localhost.
func CheckName(name string) error {
	switch {
	case name == "" || len(name) > MaxName:
		return fmt.Errorf("%w: %q: want 1 to %d characters", ErrName, name, MaxName)
	case name[0] == '-' || name[0] == '_':
		return fmt.Errorf("%w: %q: want a letter or digit first", ErrName, name)
	}
	for _, r := range name {
		if !nameRune(r) && r != '_' {
			return fmt.Errorf("%w: %q: want small letters a-z, digits, - and _", ErrName, name)
		}
	}
	if _, err := anode.ParseID(name); err == nil {
		return fmt.Errorf("%w: %q would be read as a short ID", ErrName, name)
	}
	for _, r := range reserved {
		if name == r.name {
			return fmt.Errorf("%w: %q %w: %s", ErrName, name, errReserved, r.why)
		}
	}
	return nil
}

// nameRune reports whether a name that is made from a text can have a rune.
func nameRune(r rune) bool { return r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' }

// NameFrom makes a name of at most a number of bytes from any text, such as the name of a host or what a peer calls
// itself: what a name cannot have becomes one -. It returns "" if nothing is left. CheckName may still refuse it.
func NameFrom(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if nameRune(r) {
			return r
		}
		return '-'
	}, strings.ToLower(text))
	name := strings.Join(strings.FieldsFunc(text, func(r rune) bool { return r == '-' }), "-")
	return strings.TrimRight(name[:min(len(name), most)], "-")
}

// maxNumber is how many peers FreeName tells apart by numbers.
const maxNumber = 999

// FreeName returns a name, or if CheckName refuses it or it is not free, the first one with a number that may be used:
// east-2. It returns "" if there is none.
func FreeName(name string, free func(name string) bool) string {
	if name == "" {
		return ""
	}
	for n := 1; n <= maxNumber; n++ {
		next := name
		if n > 1 {
			number := fmt.Sprintf("-%d", n)
			next = name[:min(len(name), MaxName-len(number))] + number
		}
		if CheckName(next) == nil && free(next) {
			return next
		}
	}
	return ""
}
