package peer

import "errors"

// Reason says in one word why packets do not get through between us and a peer. The
// words are stable: scripts read them.
type Reason string

// The reasons. A peer has at most one at a time: the first of these groups that holds.
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

	// Of one message.
	TooMuch Reason = "too_much" // too many messages wait for it
	Removed Reason = "removed"  // it was removed while the message waited
)

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
