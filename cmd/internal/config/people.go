package config

import (
	"anodenet/anode/invite"
	"anodenet/overlay/book"
)

// People is how this machine meets others.
type People struct {
	Requests Requests `toml:"requests"`
	Name     string   `toml:"name"` // empty: the host's
}

// Requests says whose requests to be let in are listed.
type Requests struct{ word string }

// The values of Requests.
var (
	requests           = []string{"all", "introduced", "off"}
	RequestsAll        = Requests{"all"}
	RequestsIntroduced = Requests{"introduced"}
	RequestsOff        = Requests{"off"}
)

// UnmarshalText reads the word.
func (r *Requests) UnmarshalText(b []byte) (err error) {
	r.word, err = oneOf(string(b), requests)
	return err
}

// MarshalText returns the word.
func (r Requests) MarshalText() ([]byte, error) { return []byte(r.word), nil }

// ownName is what this machine is called by others.
func ownName(p *string) text {
	return text{
		"a name of at most 32 small letters, digits and -",
		func(s string) bool {
			if s != "" && (book.CheckName(s) != nil || len(s) > invite.MaxName) {
				return false
			}
			*p = s
			return true
		},
		func() string { return *p },
	}
}
