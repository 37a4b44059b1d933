package peer

import (
	"net/netip"
	"time"

	"anodenet/anode/wire"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
	"anodenet/overlay/path"
)

// opening is the attempts to open a direct way to one machine, while there is only a
// relayed one. Both sides send at the same moment:
//
//	starter     PUNCH by the relay     waits as long as the PUNCH takes     sends to all targets
//	other side                         gets it                              sends to all targets
//
// After a handshake, its initiator starts. The other side knows the targets by the handshake,
// and takes the first packet of the session, which comes with the PUNCH, for one, since a HELLO
// alone may be a replay.
//
// A packet that came to a NAT before its own side has sent could take the very port that
// its own side needs. So nothing is sent to where a NAT may be at another time.
//
// Either side may start. Who gets a PUNCH while its own one is on the way sends at once: so
// both still send at the same moment, that of the earlier one.
//
// A NAT that chooses a new port for each destination, and chooses them in order, can be
// predicted. Whoever is behind one starts, with a PREDICT before the PUNCH, since a
// prediction gets old. If both are, the one with the higher address sends a PREDICT alone,
// which has the other one start.
type opening struct {
	said  said      // what the machine says of itself
	plan  path.Plan // when attempts may begin
	need  need      // why one is needed
	shake shook     // the last handshake
	try   try       // the attempt under way, or else the last one
	total totals    // of attempts that ended
}

// said is what a machine says of itself, in handshakes and in NAT_T.
type said struct {
	takes   bool            // it takes NAT_T
	there   []link.Endpoint // where it is
	useless []link.Endpoint // where it is as well, and nothing is sent: on no link of ours, for instance
	mapping uint8           // of the NAT in front of it; see MappingOf
	guess   wire.Predict    // its next ports
	guessed mono.Time       // when it said so; 0: never, or it is used up
	invited bool            // it waits for us to start
	punch   uint32          // the attempt of its last PUNCH, which may come again
}

// need is why an attempt is needed.
type need struct {
	wanted  mono.Time // when somebody wanted a session last
	moved   bool      // we are elsewhere: an attempt is needed although there is a direct way
	changed mono.Time // since when the relay may have lost us
	doubted mono.Time // when the direct way in use was last checked since nothing came
}

// shook is the last handshake.
type shook struct {
	at   mono.Time // when it ended
	ours bool      // we began it
	new  bool      // nothing was sent to where it says that it is
	told mono.Time // the one after which the machine was told where we are, beside PUNCH
}

// try is one attempt, and what prepares the next one.
type try struct {
	Attempt
	id      uint32
	fire    mono.Time // when to send to the targets; 0: that was done
	fired   mono.Time
	open    bool      // it is not concluded
	told    int       // how often the machine was told of it
	tell    mono.Time // when to tell it again; 0: never
	renewed mono.Time // when our own mapping was asked for, for the next attempt; 0: it was not
	asked   mono.Time // when we had the other side start; 0: we did not
}

// totals count what was done.
type totals struct{ attempts, requests int }

// Attempt is what is known of the last attempt to open a direct way.
type Attempt struct {
	At      mono.Time // when it began; 0: there was none
	Ours    bool      // the machine here started it
	Targets int       // endpoints
	Sent    int       // requests
	Result  AttemptResult
}

// AttemptResult is how an attempt ended.
type AttemptResult string

// The results. They are stable: scripts read them.
const (
	AttemptRunning AttemptResult = "running"
	AttemptDirect  AttemptResult = "direct"  // a direct way answered
	AttemptSmall   AttemptResult = "small"   // one answered, and large packets get lost on it
	AttemptFailed  AttemptResult = "failed"  // no endpoint answered
	AttemptNothing AttemptResult = "nothing" // the peer named no endpoint that we may send to
	AttemptBudget  AttemptResult = "budget"  // too many packets were sent lately
	AttemptNone    AttemptResult = ""        // there was none
)

const (
	startGrace = 500 * time.Millisecond // for the other side to start first
	guessFor   = 2 * time.Second        // a prediction is of use

	tellMost     = 3 // further PUNCHes of an attempt
	tellAttempts = 3 // which is one of the first
	tellLeast    = 50 * time.Millisecond
)

// begin notes an attempt that sends to the targets at a time.
func (t *try) begin(now mono.Time, id uint32, fire mono.Time, ours bool) {
	t.id, t.fire, t.told, t.tell = id, fire, 0, 0
	t.Attempt = Attempt{At: now, Ours: ours, Result: AttemptRunning}
}

// shoot notes that the targets are sent to now. What prepared the attempt is used up.
func (o *opening) shoot(now mono.Time) {
	o.try.fire, o.try.fired, o.try.open = 0, now, true
	o.try.asked, o.try.renewed = 0, 0
	o.said.invited, o.said.guessed = false, 0
	o.need.moved, o.shake.new = false, false
}

// again reports whether the machine is to be told of the attempt once more, and notes that it
// is: PUNCH may get lost, and then only one side has sent. It is told so at most tellMost times,
// only in the first attempts, and rtt and more apart, which is the round trip to it by the relay.
func (o *opening) again(now mono.Time, rtt time.Duration) bool {
	t := &o.try
	if t.tell == 0 || now < t.tell {
		return false
	}
	t.told++
	t.tell = t.tell.Add(max(rtt+rtt/4, tellLeast) << t.told)
	if t.told == tellMost || o.plan.Attempts() > tellAttempts {
		t.tell = 0
	}
	return true
}

// kind returns the kind of the NAT in front of the machine.
func (s *said) kind() path.MappingKind {
	kind, _ := MappingOf(s.mapping)
	return kind
}

// predictable reports whether the next ports of the NAT in front of the machine can be guessed.
func (s *said) predictable() bool { return predictable(MappingOf(s.mapping)) }

// MappingOf reads a mapping as the handshake says it; what is not known here is Unknown.
func MappingOf(b uint8) (path.MappingKind, path.PortKind) {
	kind, ports := path.MappingKind(b>>4), path.PortKind(b&15)
	if kind > path.Dependent {
		kind = path.Unknown
	}
	if ports > path.Random {
		ports = path.PortsUnknown
	}
	return kind, ports
}

// predictable reports whether a NAT has another port for each destination, as far as is
// known, and the next one can be guessed.
func predictable(k path.MappingKind, p path.PortKind) bool {
	return (k == path.Dependent || k == path.Unknown) && p == path.Sequential
}

// guesses lists the endpoints that the machine's last PREDICT means, if that is still of use.
func (s *said) guesses(now mono.Time) []link.Endpoint {
	if now.Sub(s.guessed) > guessFor {
		return nil
	}
	return predicted(s.guess)
}

// predicted lists the endpoints that a PREDICT means.
func predicted(x wire.Predict) (list []link.Endpoint) {
	if x.Endpoint.Kind != wire.UDP4 && x.Endpoint.Kind != wire.UDP6 || x.Step == 0 {
		return nil
	}
	for k := 1; k <= min(int(x.Count), predictions); k++ {
		port := int(x.Endpoint.Addr.Port()) + k*int(x.Step)
		if port < 1024 || port > 65535 {
			continue
		}
		list = append(list, link.Endpoint{Addr: netip.AddrPortFrom(x.Endpoint.Addr.Addr(), uint16(port))})
	}
	return list
}

// turn says who is to start an attempt.
type turn uint8

const (
	either  turn = iota
	starts       // we are, at once
	answers      // we are, when the other side has sent its PREDICT
	invites      // the other side is, when we have sent our PREDICT
	waits        // the other side is
)

// turn says who is to start: see opening. ours reports whether our own NAT can be predicted,
// and lower whether our address is the lower one.
func (s *said) turn(ours, lower bool) turn {
	theirs := s.predictable()
	switch {
	case ours && theirs && lower:
		return answers
	case ours && theirs:
		return invites
	case ours:
		return starts
	case theirs:
		return waits
	}
	return either
}

// due returns when we are to start.
func (o *opening) due(t turn) mono.Time {
	next := o.plan.Next()
	switch {
	case o.said.invited:
		return 0
	case t == starts, t == invites && o.try.asked == 0, t == either && o.shake.ours:
		return next
	case t == either:
		return max(next, o.shake.at.Add(startGrace))
	}
	return max(next, o.shake.at, o.try.asked).Add(startGrace) // the other side did not
}

// conclude notes how the last attempt ended, once nothing of it is under way.
func (o *opening) conclude(ways *path.Set) {
	if !o.try.open || ways.Bursting() {
		return
	}
	o.try.open = false
	o.try.Sent -= ways.Left()
	o.total.requests += o.try.Sent
	o.total.attempts++
	if o.try.Result == AttemptRunning {
		o.try.Result = result(ways)
	}
}

// result is that of an attempt after which the ways are as they are.
func result(ways *path.Set) AttemptResult {
	r := AttemptFailed
	for _, w := range ways.Ways() {
		switch {
		case w.State != path.Confirmed || !w.Direct() || w.Fitness == path.Stale:
		case w.Fitness == path.Fit:
			return AttemptDirect
		default:
			r = AttemptSmall
		}
	}
	return r
}
