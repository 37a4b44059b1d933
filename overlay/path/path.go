// Package path holds what is known of each way to one machine of a peer, and decides
// which to use and which to check next (Set); and it finds how long a datagram one way
// carries, and whether trains of packets arrive there (Search). It is pure: the engine
// passes the time, sends the requests and probes that it is asked to send, and reports
// the answers.
//
// An endpoint is learned only by an EPC (draft 4.2.4), or by what proves the same: the first
// answer to a message of the handshake, which nobody can have recorded before, or the answer to
// a probe in a session, whose ID nobody else knows.
//
//	          Add                 EPC                     silence, link events
//	unknown ------> candidate ----------> confirmed ------------.
//	                 ^   | tries used up    ^  |                |
//	      a new hint,|   v                  |  '<---------------'
//	      rest over  '- failed <------------'  (checked again, still used meanwhile)
//
// A hint is an endpoint that somebody else names. Each origin of hints has places and a
// budget of its own, so that a flood of one kind takes nothing from the others; the
// price of a hint includes all requests that its check may cost.
//
// Behind NATs a direct way opens only if both sides send at the same moment. Their attempts
// (Plan) have budgets of their own, and each checks its targets by a burst of requests.
package path

import (
	"time"

	"anodenet/anode"
	"anodenet/overlay/link"
	"anodenet/overlay/mono"
)

// Limits and times.
const (
	maxTries     = 5
	firstRetry   = 250 * time.Millisecond // doubles with each try, up to lastRetry
	relayRetry   = 20 * time.Millisecond  // the first by a relay: if it was just reached itself, it may have dropped the first packet
	slowRetry    = time.Second            // the first retry of a way with a long round trip
	lastRetry    = 4 * time.Second
	retain       = 10 * time.Minute // a failed way that nobody named again is forgotten
	firstRest    = 8 * time.Second  // before a failed way is checked again; doubles
	lastRest     = 5 * time.Minute
	silentEvery  = 500 * time.Millisecond // between two checks of all confirmed ways
	compareEvery = 2 * time.Second        // between two checks of a way while the peer is heard elsewhere
	maxConfirmed = 4                      // confirmed ways that the user did not give
)

// places is how many unconfirmed ways of each origin a set holds (for Static: all ways).
var places = [...]int{Beacon: 1, Heard: 1, Roamed: 1, Told: 4, Predicted: 1, Relay: 3, Stored: 2, Named: 4, Static: 4}

// hintBudget is what each origin of hints has. One token pays for the check of one way,
// which is up to maxTries requests.
var hintBudget = mono.Rate{PerSecond: 1, Burst: 8}

// Way is one way to a peer: an endpoint, and the relay that owns it, if it is not the
// peer's own. It is comparable: a direct and a relayed way with the same endpoint are
// two ways.
type Way struct {
	Endpoint link.Endpoint
	Via      anode.Address // zero: direct
}

// Direct reports whether no relay is involved.
func (w Way) Direct() bool { return w.Via.IsZero() }

// Origin is who named a way. If several did, the greatest counts.
type Origin uint8

// The origins of ways.
const (
	Beacon    Origin = iota // an unsigned packet came from there: anybody on the link can forge it
	Heard                   // an authentic packet came from there, which may be a replay
	Roamed                  // the newest packet of a session came from there
	Told                    // the peer says so (EPI, NAT_T, handshakes)
	Predicted               // the peer says that its NAT will give it that one next
	Relay                   // it leads through a peer that may relay
	Stored                  // it worked before
	Named                   // a name that the user gave has this address, as DNS says
	Static                  // the user gave it
)

// String returns the origin's name.
func (o Origin) String() string {
	return [...]string{"beacon", "heard", "roamed", "told", "predicted", "relay", "stored", "named", "static"}[o]
}

// hint reports whether somebody else decides what ways of this origin there are.
func (o Origin) hint() bool { return o < Relay }

// State is the state of one way, as drawn above.
type State uint8

// The states.
const (
	Candidate State = iota
	Confirmed
	Failed
)

// String returns the state's name.
func (s State) String() string {
	return [...]string{"candidate", "confirmed", "failed"}[s]
}

// Result is what became of an endpoint that was added.
type Result uint8

// The results.
const (
	New    Result = iota // it is to be checked
	Known                // it is confirmed, or being checked already
	Full                 // all places of its origin are taken by ways that may still answer
	Budget               // its origin named too many
)

// Refused reports whether the endpoint is not looked at.
func (r Result) Refused() bool { return r >= Full }

// String returns the result's name.
func (r Result) String() string {
	return [...]string{"new", "known", "full", "budget"}[r]
}

// Fitness says what a confirmed direct way is good for, while there are others.
type Fitness uint8

// The fitnesses.
const (
	Fit      Fitness = iota
	Unproven         // no large packet was answered on it yet
	Small            // only small packets get through
	Stale            // it leads through a NAT, and was silent for longer than a NAT remembers
)

// String returns the fitness's name.
func (f Fitness) String() string {
	return [...]string{"fit", "unproven", "small", "stale"}[f]
}

// Info is what is known of one way.
type Info struct {
	Way
	Origin  Origin
	First   Origin // who named it before it was confirmed
	State   State
	Fitness Fitness       // see Set.Judge
	OnLink  bool          // its endpoint is on one of our links
	Punched bool          // it is checked by attempts of both sides, and not by itself
	RTT     time.Duration // smoothed; 0 until confirmed
	Loss    Loss          // of requests
	Hops    int           // of the last EPC
	Heard   mono.Time     // when the last EPC or other authentic packet came
	Since   mono.Time     // when the state was last another one

	begun    mono.Time // when the exchange began of which Heard is the last
	named    mono.Time // last Add
	answered mono.Time // last EPC
	rest     time.Duration
	rough    bool      // RTT is that of a handshake
	worse    bool      // much worse than the relay
	trial    mono.Time // since when it works, and has to go on for trialFor before it is used; 0: it has not
	steady   mono.Time // since when it has answered each request of its trial; 0: it has not
	check    check
}

// Checking reports whether requests are under way.
func (i *Info) Checking() bool { return i.check.pending && len(i.check.asked) > 0 }

// exchangeGap is the silence that ends an exchange.
const exchangeGap = 10 * time.Second

// hear notes that something authentic came.
func (i *Info) hear(now mono.Time) {
	if i.begun == 0 || now.Sub(i.Heard) > exchangeGap {
		i.begun = now
	}
	i.Heard = now
}

// Exchange is for how long something came without a longer pause, the last time that something did.
func (i *Info) Exchange() time.Duration { return i.Heard.Sub(i.begun) }

// become moves the state on.
func (i *Info) become(now mono.Time, s State) {
	if i.State != s || i.Since == 0 {
		i.State, i.Since = s, now
	}
}

// check is the check of one way. While it is pending, next is when to ask again; of a
// failed way, when to begin anew.
type check struct {
	pending bool
	waits   bool          // while UDP may answer, see connected.go
	single  bool          // one request is enough: UDP beside a connection
	reopens bool          // its connection ended, and the check opens another
	burst   bool          // of an attempt
	open    bool          // and something came from there meanwhile
	over    bool          // no more requests, for want of a budget
	wait    time.Duration // of a burst: for answers, after the last request
	asked   []request     // outstanding, oldest first; at most openTries
	before  []request     // of the check before, if it was not answered; as many
	silent  mono.Time     // when it began, for a way that was silent then; 0: it was not
	next    mono.Time
}

// burstWaits are the times between the requests of a burst.
var burstWaits = [maxTries - 1]time.Duration{30 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 220 * time.Millisecond}

// Where something came from during a burst, the way is open: what is missing was lost. A few more
// requests cost less than the next attempt.
const (
	openTries = 10
	openWait  = 100 * time.Millisecond
)

// most is how many requests the check may take.
func (i *Info) most() int {
	switch {
	case i.check.single:
		return 1
	case i.check.open:
		return openTries
	case i.Endpoint.Kind.Connected():
		return connectTries
	}
	return maxTries
}

type request struct {
	id   uint32
	sent mono.Time
}

// Request asks the engine to send EPC_REQ with this ID along a way.
type Request struct {
	Way    Way
	Origin Origin
	ID     uint32
	Try    int  // of this check of the way: 0 is the first
	Early  bool // it comes before the first can have been answered
	Burst  bool // it belongs to an attempt
}

// start begins a check of the way.
func (i *Info) start(now mono.Time) {
	if i.State == Failed {
		i.become(now, Candidate)
	}
	before := i.check.asked
	if len(before) == 0 {
		before = i.check.before
	}
	var silent mono.Time
	if i.silent() {
		silent = now
	}
	i.check = check{pending: true, waits: i.waits(), next: now, before: before, silent: silent}
}

// find returns when the request with an ID was sent. try is its number in this check, or -1 if it
// is one of the check before: with a long round trip its answer is under way still.
func (c *check) find(now mono.Time, id uint32) (sent mono.Time, try int, ok bool) {
	for k, r := range c.asked {
		if r.id == id {
			return r.sent, k, true
		}
	}
	for _, r := range c.before {
		if r.id == id && now.Sub(r.sent) <= answerFor {
			return r.sent, -1, true
		}
	}
	return 0, 0, false
}

// burst begins a check by a burst; answers may come wait after the last request.
func (i *Info) burst(now mono.Time, wait time.Duration) {
	i.start(now)
	i.check.burst, i.check.wait = true, wait
}

// ask notes a request that is sent now.
func (i *Info) ask(now mono.Time, id uint32) Request {
	c := &i.check
	c.waits = false
	early := i.Origin == Relay && i.State == Candidate && len(c.asked) == 1
	wait := min(max(firstRetry, 2*i.RTT), slowRetry) << len(c.asked)
	switch {
	case c.burst && len(c.asked) < len(burstWaits):
		wait = burstWaits[len(c.asked)]
	case c.burst && c.open && len(c.asked) < openTries-1:
		wait = openWait
	case c.burst:
		wait = c.wait
	case c.single, i.Endpoint.Kind.Connected() && i.Direct():
		wait = max(slowRetry, 2*i.RTT) << len(c.asked)
	case i.Origin == Relay && i.State == Candidate && len(c.asked) == 0:
		wait = relayRetry
	}
	c.asked = append(c.asked, request{id, now})
	c.next = now.Add(min(wait, lastRetry))
	return Request{i.Way, i.Origin, id, len(c.asked) - 1, early, c.burst}
}

// fail ends a check without an answer. The next one follows after first, and later after up to
// last.
func (i *Info) fail(now mono.Time, first, last time.Duration) {
	if i.State == Confirmed {
		i.named = now // it is worth as much as one that is named now
	}
	if i.Punched {
		i.Origin = min(i.Origin, i.First)
	}
	i.become(now, Failed)
	i.rest = min(max(2*i.rest, first), max(last, first))
	i.trial, i.steady = 0, 0
	i.check = check{next: now.Add(i.rest)}
}

// lossy is the loss from which on a single request without an answer says nothing.
const lossy = 0.1

// silent reports whether the way was asked and nothing came from there in time, neither
// an answer nor anything else. A check that begins anew does not change that.
func (i *Info) silent() bool {
	c := &i.check
	most := 1
	if i.Loss.Rate() > lossy {
		most = 2
	}
	return c.pending && (c.silent != 0 && i.Heard <= c.silent || len(c.asked) > most && i.Heard <= c.asked[0].sent)
}
