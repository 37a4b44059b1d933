package peer

import "errors"

// Reason says in one word why packets do not get through between us and a peer. The
// words are stable: scripts read them.
type Reason string

// The reasons. A peer has at most one at a time: the first of these groups that holds. Why
// its path is not a better one is a reason of its own.
const (
	NoReason Reason = "" // nothing is known to be wrong

	// What people decided.
	Blocked       Reason = "blocked"         // here
	NotAddedHere  Reason = "not_added_here"  // it speaks to us, and only its pings get in
	NotAddedThere Reason = "not_added_there" // it said so: only our pings get in there

	// It answers, and yet there is no session.
	OtherSecret    Reason = "other_secret"    // its network secret is another one, or only one side has one
	AnotherVersion Reason = "another_version" // it speaks a handshake that we do not know
	NoSession      Reason = "no_session"      // it leaves handshakes unanswered: it has a secret and has not added us

	// It does not answer.
	NotHeardThere Reason = "not_heard_there" // its packets arrive here, and ours do not there
	NotRunning    Reason = "not_running"     // its machine says that nobody listens on the port
	NoMachine     Reason = "no_machine"      // no machine has its address: the neighbour, or the last router, says so
	Rejected      Reason = "rejected"        // a firewall on the way says that it rejects our packets
	NoAnswer      Reason = "no_answer"       // packets leave, and nothing comes back
	SendRefused   Reason = "send_refused"    // our own system refuses to send, as a firewall here does
	NoRoute       Reason = "no_route"        // there is no route to where it is, or no network at all
	NoEndpoint    Reason = "no_endpoint"     // nobody knows where it is

	// Nothing of it comes, neither directly nor by a relay.
	UDPBlocked  Reason = "udp_blocked"  // nothing comes from anywhere outside: UDP is blocked here
	RelaySilent Reason = "relay_silent" // no relay that could lead to it answers
	RelayPolicy Reason = "relay_policy" // the relay that leads to it does not forward for us
	PeerAsleep  Reason = "peer_asleep"  // it was heard earlier, and is silent now
	NotAtRelay  Reason = "not_at_relay" // it was never heard, and the relays answer

	// Nothing comes by UDP, and no connection comes about either.
	TCPRefused    Reason = "tcp_refused"    // its machine takes no connections on the port
	CaptivePortal Reason = "captive_portal" // the network here shows its own page in place of the server
	ProxyAuth     Reason = "proxy_auth"     // the proxy wants a user name and a password, or others
	ProxyRefused  Reason = "proxy_refused"  // the proxy refuses the connection

	// There is a path in a connection.
	UDPSilent Reason = "udp_silent" // UDP gets no answer on this network

	// There is a path to it, and no direct one.
	Punching       Reason = "punching"        // an attempt to open a direct way is under way, or about to begin
	FamilyMismatch Reason = "family_mismatch" // one has only IPv4, the other only IPv6
	Hairpin        Reason = "hairpin"         // both are behind one NAT, which sends nothing back inside
	HereSymmetric  Reason = "here_symmetric"  // our NAT takes an unforeseeable port for each destination
	PeerSymmetric  Reason = "peer_symmetric"  // its NAT does
	BothSymmetric  Reason = "both_symmetric"  // both do
	Firewalled     Reason = "firewalled"      // it should be possible, and nothing gets through
	NoCandidates   Reason = "no_candidates"   // it names no endpoint that we may send to
	NoTraversal    Reason = "no_traversal"    // its program takes part in no attempts

	// There is a direct path, and it is not used.
	PMTUBlackhole Reason = "pmtu_blackhole" // large packets get lost on it
	Lossy         Reason = "lossy"          // it loses packets, and the relay does not
	RelayBetter   Reason = "relay_better"   // it is much slower than the relay

	// What would help.
	NoPortmap Reason = "no_portmap" // the router maps no port to us

	// Of one message.
	TooMuch Reason = "too_much" // too many messages wait for it
	Removed Reason = "removed"  // it was removed while the message waited
)

// Reasons lists all reasons.
func Reasons() []Reason {
	return append([]Reason{Blocked, NotAddedHere, NotAddedThere, OtherSecret, AnotherVersion, NoSession,
		NotHeardThere, NotRunning, NoMachine, Rejected, NoAnswer, SendRefused, NoRoute, NoEndpoint,
		NoPortmap, TooMuch, Removed}, PathReasons()...)
}

// PathReasons lists those that follow from what several peers, relays and ways show together.
func PathReasons() []Reason {
	return []Reason{UDPBlocked, RelaySilent, RelayPolicy, PeerAsleep, NotAtRelay,
		TCPRefused, CaptivePortal, ProxyAuth, ProxyRefused, UDPSilent,
		Punching, FamilyMismatch, Hairpin, HereSymmetric, PeerSymmetric, BothSymmetric, Firewalled, NoCandidates, NoTraversal,
		PMTUBlackhole, Lossy, RelayBetter}
}

// Text returns a reason in words that follow the name of the peer and a colon.
func (r Reason) Text() string {
	switch r {
	case Blocked:
		return "it is blocked here"
	case NotAddedHere:
		return "it is not added here"
	case NotAddedThere:
		return "it has not added this machine"
	case OtherSecret:
		return "it answers, but its network secret is another one"
	case AnotherVersion:
		return "it answers, but it needs another version of anode"
	case NoSession:
		return "it answers, but does not accept a connection"
	case NotHeardThere:
		return "its packets arrive here, but packets from here do not arrive there"
	case NotRunning:
		return "its machine answers, but anode is not running there"
	case NoMachine:
		return "no machine answers at its address"
	case Rejected:
		return "a firewall on the way rejects the packets"
	case NoAnswer:
		return "it does not answer"
	case SendRefused:
		return "this machine refuses to send to it"
	case NoRoute:
		return "this machine has no route to it"
	case NoEndpoint:
		return "nobody knows where it is"
	case TooMuch:
		return "too many messages wait for it"
	case Removed:
		return "it was removed"
	}
	return r.pathText()
}

// pathText is Text for the reasons that are about relays, and about paths that are not used.
func (r Reason) pathText() string {
	switch r {
	case UDPBlocked:
		return "nothing comes from outside this network: UDP seems to be blocked here"
	case RelaySilent:
		return "no relay that leads to it answers"
	case RelayPolicy:
		return "the relay that leads to it does not forward for this machine"
	case PeerAsleep:
		return "it was heard earlier, and is silent now"
	case NotAtRelay:
		return "the relays answer, and nothing of it arrives there"
	case TCPRefused:
		return "its machine refuses connections by TCP"
	case CaptivePortal:
		return "the network here shows a login page of its own"
	case ProxyAuth:
		return "the proxy here asks for a user name and a password"
	case ProxyRefused:
		return "the proxy here refuses the connection"
	case UDPSilent:
		return "UDP gets no answer on this network, so a connection is used"
	case Punching:
		return "a direct path is being opened"
	case FamilyMismatch:
		return "one side has only IPv4, the other only IPv6"
	case Hairpin:
		return "both are behind one router, which sends nothing back inside"
	case HereSymmetric:
		return "the router or provider here takes another port for each connection"
	case PeerSymmetric:
		return "the router or provider there takes another port for each connection"
	case BothSymmetric:
		return "the routers or providers of both sides take another port for each connection"
	case Firewalled:
		return "a firewall or router of one side lets direct packets not in"
	case NoCandidates:
		return "it names no address that this machine can try"
	case NoTraversal:
		return "its version of anode cannot open direct paths through routers"
	case PMTUBlackhole:
		return "large packets get lost on the direct path"
	case Lossy:
		return "the direct path loses many packets"
	case RelayBetter:
		return "the direct path is much slower than the relay"
	case NoPortmap:
		return "the router here opens no port for this machine"
	}
	return ""
}

// ErrUnreachable is wrapped by the error of every message that could not be sent.
var ErrUnreachable = errors.New("the peer cannot be reached")

// UnreachableError says why a message could not be sent. It is an ErrUnreachable, and an
// ErrBlocked if that is the reason.
type UnreachableError struct {
	Reason   Reason
	Endpoint string // that the reason is about, as flags take it; empty: none
}

// The errors of messages whose reason is in no peer's state.
var (
	ErrBlocked error = &UnreachableError{Reason: Blocked}
	ErrFull    error = &UnreachableError{Reason: TooMuch}
	ErrRemoved error = &UnreachableError{Reason: Removed}
)

func (e *UnreachableError) Error() string {
	switch text := e.Reason.Text(); {
	case text == "":
		return ErrUnreachable.Error()
	case e.Endpoint == "":
		return ErrUnreachable.Error() + ": " + text
	default:
		return ErrUnreachable.Error() + ": " + text + " (" + e.Endpoint + ")"
	}
}

// Is makes all of them ErrUnreachable, and those with one reason alike.
func (e *UnreachableError) Is(target error) bool {
	x, ok := target.(*UnreachableError)
	return target == ErrUnreachable || ok && x.Reason == e.Reason && x.Endpoint == ""
}
