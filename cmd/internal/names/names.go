// Package names finds the peer that a text on the command line means. PEER is the first
// of these that fits:
//
//	north                             the name of a peer
//	aeaa...                           an address, 64 characters, or with its check
//	                                  ADDRESS-CCCC; or either as anode:ADDRESS
//	fd00::55b:413c:40ef:750d          a ULA
//	055b413c40ef750d                  a short ID
//	nor, aeaaaaaad4, fd00::55b, 055b  the beginning of one of these, if of one peer only
//
// or self, which is this machine and never a peer; or a host name, as other programs write it
// (Host):
//
//	north.anode.internal, git.north.anode.internal, 055b413c40ef750d.id.anode.internal
//
// Find checks them all against the known peers, without asking the network. Strangers
// that were only heard count only if no added or blocked peer fits, since anybody can
// search for a key whose forms begin like somebody else's. For the same reason a peer is
// added by its whole address (Whole).
package names

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"anodenet/anode"
)

// ErrNotFound means that no peer fits a text, which follows in quotes.
var ErrNotFound = errors.New("no peer named")

// ErrMalformed means that a text is an address that was not copied well.
var ErrMalformed = errors.New("not a valid address")

// MalformedError is an ErrMalformed with the text. Its words hold the advice.
type MalformedError struct {
	Text string
	Err  error // of package anode
}

func (e *MalformedError) Error() string {
	what := "a character is wrong"
	if !errors.Is(e.Err, anode.ErrTypo) {
		_, what, _ = strings.Cut(e.Err.Error(), ": ")
	}
	return fmt.Sprintf("%q is %v: %s; try: copy it again from \"anode id\" on the other machine", shorten(e.Text), ErrMalformed, what)
}

// Is makes all of them ErrMalformed.
func (e *MalformedError) Is(target error) bool { return target == ErrMalformed }

func (e *MalformedError) Unwrap() error { return e.Err }

// shorten cuts what is too long to be shown whole.
func shorten(text string) string {
	if r := []rune(text); len(r) > 24 {
		return string(r[:12]) + "…" + string(r[len(r)-6:])
	}
	return text
}

// Peer is an address and its name, which may be empty.
type Peer struct {
	Address anode.Address
	Name    string
	Decided bool // it was added or blocked: not a stranger that was only heard
}

// AmbiguousError means that a text fits more than one peer.
type AmbiguousError struct {
	Text       string
	Candidates []Peer
}

func (e *AmbiguousError) Error() string {
	var list []string
	for _, p := range e.Candidates {
		label := p.Address.ID().String()
		if p.Name != "" {
			label = p.Name + " (" + label + ")"
		}
		list = append(list, label)
	}
	return fmt.Sprintf("%q is ambiguous: it may be any of %s", e.Text, strings.Join(list, ", "))
}

// Target is what a text means: a known peer, or exactly one of the forms that need no
// peer list.
type Target struct {
	Known   bool
	Peer    Peer          // if Known
	Address anode.Address // a whole address; with Known, the peer's
	ULA     anode.ULA     // a whole ULA that no known peer has
	ID      anode.ID      // a whole short ID that no known peer has
	Self    bool          // this machine, by the word or the host name; nothing else is set
}

// Find returns what a text means. Its error is an *AmbiguousError or a *MalformedError, or
// wraps ErrNotFound.
func Find(peers []Peer, text string) (Target, error) {
	text = strings.TrimSpace(text)
	if Lower(text) == Self { // before names: an old book may have a peer named so
		return Target{Self: true}, nil
	}
	if i := slices.IndexFunc(peers, func(p Peer) bool { return p.Name != "" && p.Name == text }); i >= 0 {
		return known(peers[i]), nil
	}
	if a, err := Whole(text); err == nil {
		return pick(peers, func(p Peer) bool { return p.Address == a }, text, Target{Address: a})
	}
	if u, err := anode.ParseULA(text); err == nil {
		return pick(peers, func(p Peer) bool { return p.Address.ULA() == u }, text, Target{ULA: u})
	}
	if id, err := anode.ParseID(text); err == nil && !id.IsZero() {
		return pick(peers, func(p Peer) bool { return p.Address.ID() == id }, text, Target{ID: id})
	}
	if text != "" {
		lower := strings.ToLower(text)
		t, err := pick(peers, func(p Peer) bool { return p.begins(lower) }, text, Target{})
		if err != nil || t.Known {
			return t, err
		}
	}
	if _, err := Whole(text); errors.Is(err, ErrMalformed) {
		return Target{}, err
	}
	return Target{}, notFound(text)
}

func notFound(text string) error { return fmt.Errorf("%w %q", ErrNotFound, text) }

// longName is longer than people make names: a longer text is a mistyped address, unless it
// may be a domain name.
const longName = 40

// pick returns the one peer that fits, or otherwise if none does. Added and blocked peers
// take precedence over strangers.
func pick(peers []Peer, fits func(Peer) bool, text string, otherwise Target) (Target, error) {
	var decided, strangers []Peer
	for _, p := range peers {
		switch {
		case !fits(p):
		case p.Decided:
			decided = append(decided, p)
		default:
			strangers = append(strangers, p)
		}
	}
	found := decided
	if len(found) == 0 {
		found = strangers
	}
	switch len(found) {
	case 0:
		return otherwise, nil
	case 1:
		return known(found[0]), nil
	}
	return Target{}, &AmbiguousError{text, found}
}

// Whole reads a whole address, with or without its check, and with or without "anode:"
// before it. Only these forms can add a peer. The error is a *MalformedError if the text
// was meant to be one, and else one of package anode.
func Whole(text string) (anode.Address, error) {
	text = strings.TrimSpace(text)
	a, link, err := anode.ParseTXT(text)
	if !link {
		a, err = anode.ParseAddress(text)
	}
	if err != nil && (link || errors.Is(err, anode.ErrTypo) || len(text) > longName && !Domain(text)) {
		return anode.Address{}, &MalformedError{text, err}
	}
	return a, err
}

func known(p Peer) Target { return Target{Known: true, Peer: p, Address: p.Address} }

// begins reports whether a form of p begins with text.
func (p Peer) begins(text string) bool {
	return p.Name != "" && strings.HasPrefix(p.Name, text) ||
		strings.HasPrefix(p.Address.String(), text) ||
		strings.HasPrefix(p.Address.ID().String(), text) ||
		strings.Contains(text, ":") && ulaBegins(p.Address.ULA(), text)
}

// ulaBegins compares with both ways of writing a ULA, with :: and in full.
func ulaBegins(u anode.ULA, text string) bool {
	return strings.HasPrefix(u.String(), text) ||
		strings.HasPrefix(u.Addr().StringExpanded(), text)
}

// Domain reports whether a text that Find does not know may be a DNS name, whose TXT
// records hold an address (draft 2.8).
func Domain(text string) bool {
	if !strings.Contains(text, ".") || strings.ContainsAny(text, ":/ @") || len(text) > 253 {
		return false
	}
	_, err := netip.ParseAddr(text)
	return err != nil
}

// Nearest returns the word that differs least from text, "" if none is close.
func Nearest(text string, words []string) string {
	best, nearest := 1+max(0, len(text)-1)/3, "" // of three letters, two others make another word
	for _, w := range words {
		if d := distance(text, w); d <= best && (nearest == "" || d < best) {
			best, nearest = d, w
		}
	}
	return nearest
}

// distance counts the bytes to insert, delete, change or swap with their
// neighbour (Damerau's optimal string alignment).
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(row[j]+1, last[j+1]+1, last[j]+cost)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
