package book

import "fmt"

// Standing is how far a peer is trusted. Standings are ordered: a rule names the least
// standing that it lets pass.
//
//	            Block                         Block
//	Blocked <----------- Stranger  Added ------------> Blocked
//	   |                  |    ^    ^ |                   |
//	   +----- Unblock ----|----+    | +---- Unblock <-----+
//	                      |         |
//	                      +-- Add --+    Remove: back to Stranger
//
// Relay is a stranger that a zone file names as a relay, which may do nothing else for it. Nobody here decided that,
// so a Book never answers it: the engine raises a Stranger to it for its own run.
type Standing uint8

// The standings, from the least to the most.
const (
	Blocked  Standing = iota // nothing of the key is answered
	Stranger                 // nobody decided anything
	Relay                    // named as a relay by a zone file, which nobody signs
	Added                    // let in
)

var standings = [...]string{Blocked: "blocked", Stranger: "stranger", Relay: "relay", Added: "added"}

// String returns the word for a standing.
func (s Standing) String() string {
	if int(s) < len(standings) {
		return standings[s]
	}
	return fmt.Sprintf("standing %d", uint8(s))
}

// MarshalText returns the word for a standing, or an error if there is none.
func (s Standing) MarshalText() ([]byte, error) {
	if int(s) >= len(standings) {
		return nil, fmt.Errorf("%v is unknown", s)
	}
	return []byte(standings[s]), nil
}

// UnmarshalText reads what MarshalText writes.
func (s *Standing) UnmarshalText(text []byte) error {
	for i, word := range standings {
		if word == string(text) {
			*s = Standing(i)
			return nil
		}
	}
	return fmt.Errorf("standing %q is unknown", text)
}
