package book

import (
	"errors"
	"strings"
	"testing"
)

// Whatever a text is, a name that is made of it is one that a peer can have, or none.
func FuzzNameFrom(f *testing.F) {
	for _, s := range []string{"east", "my_box.local", "--", "self", "\x1b[31m", "ünster", strings.Repeat("x", 100), "055b413c40ef750d"} {
		f.Add(s, 32)
	}
	f.Fuzz(func(t *testing.T, text string, most int) {
		if most < 0 || most > MaxName {
			return
		}
		name := NameFrom(text, most)
		if len(name) > most || NameFrom(name, most) != name {
			t.Fatalf("%q of %q", name, text)
		}
		taken := map[string]bool{}
		for range 12 {
			free := FreeName(name, func(n string) bool { return !taken[n] })
			if (free == "") != (name == "") || free != "" && (CheckName(free) != nil || taken[free]) {
				t.Fatalf("%q of %q", free, text)
			}
			taken[free] = true
		}
	})
}

func TestNames(t *testing.T) {
	for text, want := range map[string]string{
		"Desk.": "desk", "a__b..c": "a-b-c", "-x-": "x", "": "", "...": "", "grün": "gr-n", strings.Repeat("a", 31) + ".b": strings.Repeat("a", 31),
	} {
		if got := NameFrom(text, 32); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	none := func(string) bool { return false }
	if got := FreeName("east", none); got != "" {
		t.Error(got)
	}
	for _, name := range reserved {
		if err := CheckName(name.name); !errors.Is(err, errReserved) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
