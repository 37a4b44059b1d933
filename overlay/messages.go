package overlay

import (
	"anodenet/anode/wire"
	"anodenet/overlay/book"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/peer"
)

// sealing says how a message may travel.
type sealing uint8

const (
	refused  sealing = iota // not at all: an unknown type, or data in clear
	unsealed                // only unsealed, with a MAC (COOKIE: with none)
	either
	sealed // only sealed
)

// rule is what holds for one type of message.
type rule struct {
	sealing sealing
	from    book.Standing // from those at least
	budget  mono.Rate     // of all those who are not added, together; zero: none is needed
	lane    bool          // taken by the lane that opened it, if it was sealed
	part    partID        // of the loop, that takes it otherwise
}

// part is a part of the loop. It has a share of the loop's state, and works in the
// loop's goroutine alone.
type part interface {
	// message takes an authentic message that the rules admitted; an error says that
	// it is malformed.
	message(m *message) error
	// tick does what is due, and returns when it is needed again.
	tick() mono.Time
	// linksChanged is called when our links are other ones than before.
	linksChanged()
}

// partID names a part.
type partID uint8

const (
	nobody partID = iota // the lane alone takes the message
	theSignals
	theFinder
	theBeacon
	theCopies
	theZones
	theReach
	theLAN
	theTells

	partCount
)

// message is one that was authenticated.
type message struct {
	peer    *peer.Peer
	type_   wire.Type
	body    []byte
	from    link.Endpoint
	hop     uint8
	machine uint8         // the sender's peer ID
	in      *peer.Inbound // the session; nil: it was not sealed
	paid    bool          // of a stranger's HELLO: its cost is paid for
}

// messageRules are all rules about who may send us what, and how. What is not in the
// table is dropped and counted. A budget is for those who were not added: added peers
// have one each for all that the loop does for them, the same for all types. So have
// relays for what they send unsealed.
var messageRules = func() [256]rule {
	few, some, many := mono.Rate{PerSecond: 1, Burst: 2}, mono.Rate{PerSecond: 10, Burst: 20}, mono.Rate{PerSecond: 100, Burst: 100}
	hello := mono.Rate{PerSecond: 500, Burst: 500} // and 50 a site: see gate
	return [256]rule{
		wire.Hello:   {unsealed, book.Stranger, hello, false, theSignals},
		wire.Welcome: {unsealed, book.Stranger, hello, false, theSignals},
		wire.Stale:   {unsealed, book.Stranger, some, false, theSignals},
		// COOKIE has no MAC: it is matched with an outstanding HELLO, by gate.

		wire.Ping:     {either, book.Stranger, some, true, theSignals},
		wire.Pong:     {either, book.Stranger, many, true, theSignals},
		wire.Error:    {either, book.Stranger, few, false, theSignals},
		wire.EPCReq:   {either, book.Stranger, some, false, theSignals},
		wire.EPC:      {either, book.Stranger, many, false, theSignals},
		wire.EPI:      {either, book.Stranger, few, false, theSignals},
		wire.NATT:     {sealed, book.Added, mono.Rate{}, false, theSignals},
		wire.NetIDReq: {either, book.Stranger, some, false, theSignals},
		wire.NetID:    {either, book.Stranger, some, false, theReach},
		wire.Linger:   {unsealed, book.Added, mono.Rate{}, false, theReach},
		wire.Whois:    {either, book.Stranger, some, false, theFinder},
		wire.IAm:      {either, book.Stranger, some, false, theFinder},

		wire.Probe:    {sealed, book.Stranger, some, false, theSignals},
		wire.ProbeAck: {sealed, book.Added, mono.Rate{}, false, theSignals},
		wire.Standing: {sealed, book.Stranger, some, false, theSignals},
		wire.Clash:    {sealed, book.Added, mono.Rate{}, false, theCopies},

		// Who has an invitation is counted as added here: see invited. Of strangers there are more budgets in tells.
		wire.Tell: {sealed, book.Stranger, tellsOfStrangers, true, theTells},
		wire.Told: {sealed, book.Stranger, many, true, theTells},

		// The adapter's policy decides what of strangers gets in.
		wire.IP6:   {sealed, book.Stranger, mono.Rate{}, true, nobody},
		wire.IP6P:  {sealed, book.Stranger, mono.Rate{}, true, nobody},
		wire.Dgram: {sealed, book.Stranger, mono.Rate{}, true, nobody},
		wire.Frag:  {sealed, book.Stranger, many, true, nobody},
		wire.IP4:   {sealed, book.Added, mono.Rate{}, true, nobody}, // aliases are for added peers

		// Of added peers, only those in our virtual LAN count.
		wire.Group:     {sealed, book.Added, mono.Rate{}, true, nobody},
		wire.Groups:    {sealed, book.Added, mono.Rate{}, false, theLAN},
		wire.GroupsAck: {sealed, book.Added, mono.Rate{}, false, theLAN},

		// What of strangers gets in depends on what programs do: see receiver.stream.
		wire.SOpen:  {sealed, book.Stranger, many, true, nobody},
		wire.SClose: {sealed, book.Stranger, mono.Rate{}, true, nobody},
		wire.SData:  {sealed, book.Stranger, mono.Rate{}, true, nobody},
		wire.SAck:   {sealed, book.Stranger, mono.Rate{}, true, nobody},
		wire.SDAck:  {sealed, book.Stranger, mono.Rate{}, true, nobody},
	}
}()

// aside are the types that are taken in a session by an invitation, whoever sends them. A long one
// comes as FRAG, and is looked at again when it is whole.
var aside = func() (types [256]bool) {
	for t := range types {
		types[t] = peer.Aside(wire.Type(t)) || wire.Type(t) == wire.Frag
	}
	return types
}()

// invited is the standing that counts for a message in a session by an invitation: what people tell
// there shares no budget with strangers.
func invited(t wire.Type, s book.Standing) book.Standing {
	if (t == wire.Tell || t == wire.Told || t == wire.Frag) && s > book.Blocked {
		return book.Added
	}
	return s
}

// freely are the types that the rules let everybody send sealed, without a budget. Asking
// for them costs nothing.
var freely = func() (free [256]bool) {
	for t, r := range messageRules {
		free[t] = r.sealing >= either && r.from <= book.Stranger && r.budget == mono.Rate{}
	}
	return free
}()

// admission says what becomes of a message.
type admission uint8

const (
	admitted admission = iota
	badType            // unknown, or not to be sent like this
	tooLow             // for the sender's standing
	overBudget
)

// admit applies the rule of a type. Any goroutine may call it.
func (n *lanes) admit(now mono.Time, t wire.Type, isSealed bool, s book.Standing) admission {
	r := &messageRules[t]
	switch {
	case r.sealing == refused, isSealed && r.sealing == unsealed, !isSealed && r.sealing == sealed:
		return badType
	case s < r.from:
		return tooLow
	case s < book.Added && !(s >= book.Relay && !isSealed) && r.budget != mono.Rate{} && !n.budgets.strangers[t].Allow(now):
		return overBudget
	}
	return admitted
}

// budgets are those that the lanes share.
type budgets struct {
	strangers [256]mono.Limiter // by type of message
	unkeyed   mono.Limiter      // packets that name an added peer without an agreed key
	unknown   mono.Limiter      // packets in sessions that we do not have, of added peers or of who plays them
}

func (b *budgets) init() {
	for t := range messageRules {
		b.strangers[t].Rate = messageRules[t].budget
	}
	b.unkeyed.Rate = mono.Rate{PerSecond: 200, Burst: 200}
	b.unknown.Rate = unknownRate
}

// countRefused counts a message that was not admitted.
func (n *lanes) countRefused(a admission, t wire.Type, isSealed bool) {
	switch {
	case a == overBudget:
		n.counters.count(dBudget)
	case a == tooLow:
		n.counters.count(dStanding)
	case isSealed:
		n.counters.count(dSealType)
	case cleartext(t):
		n.counters.count(dCleartext)
	default:
		n.counters.count(dMessage)
	}
}

// cleartext reports whether a message is users' data.
func cleartext(t wire.Type) bool {
	switch t {
	case wire.Dgram, wire.SOpen, wire.SClose, wire.SData, wire.SAck, wire.SDAck:
		return true
	}
	return false
}

// errorRate is how often we tell an added peer that a message was malformed.
var errorRate = mono.Rate{PerSecond: 1, Burst: 5}

// take hands an authentic message to its part, if the rules admit it.
func (l *loop) take(m *message) {
	n := l.n
	if !messageRules[m.type_].lane || m.in == nil { // the lane has applied the rule already
		if a := n.admit(l.now, m.type_, m.in != nil, m.peer.Standing()); a != admitted {
			n.countRefused(a, m.type_, m.in != nil)
			return
		}
	}
	p := l.parts[messageRules[m.type_].part]
	if p == nil {
		n.counters.count(dMessage)
		return
	}
	err := p.message(m)
	l.touch(m.peer)
	if err == nil {
		return
	}
	n.counters.count(dMessage)
	n.log.Debug("message refused", "peer", m.peer.Label(), "type", m.type_, "err", err)
	if m.type_ != wire.Error && m.peer.Standing() >= book.Added && l.errors.Allow(l.now, errorRate) {
		l.reply(m, wire.Error, wire.ErrorMsg{Code: wire.ErrorInvalid}.Append(nil))
	}
}

// reply answers a message as it came: to the sender's machine, sealed or not.
func (l *loop) reply(m *message, t wire.Type, body []byte) {
	if m.in == nil {
		m.peer.Reply(l.now, m.from, m.machine, t, body)
		return
	}
	r := peer.Route{Session: m.in.Session, PeerID: m.machine, Line: m.in.Line}
	r.Way.Endpoint = m.from
	l.shell.Seal(m.peer.Contact, &r, append([]byte{byte(t)}, body...), 0)
}
