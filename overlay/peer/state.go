package peer

// State says how far things are with one machine of a peer. It follows from the facts:
//
//	session and way               up, or lost while it leaves HELLOs unanswered
//	else, a try ended in vain     unreachable
//	else, a try is under way      shaking if there is a way, else seeking
//	else                          idle, if it was up or idle; unreachable, if it was
//	                              anything else, until a way answers again
//
// The usual course is
//
//	          wanted             a way answers           a session
//	idle -----------> seeking ---------------> shaking ----------> up <-----.
//	 ^ ^                 | nothing answers        | no WELCOME      | |      | heard
//	 | '---- wanted -----+---.                    |       silent,   | |      | again
//	 |                   v   |                    v       asked     | v      |
//	 |              unreachable <-----------------'                 | lost --'
//	 |                   ^              no way, or keys end         |  |
//	 |                   '---------------------------------------------'
//	 '------------------------ no way, or keys end ----------------'
//
// A machine that speaks to us first is up without having been sought.
type State uint8

// The states, as drawn above.
const (
	Idle        State = iota // no session: one is made when there is something to send
	Seeking                  // something is to be sent, and no way has answered yet
	Shaking                  // a way answers, and there is no session yet
	Up                       // a session and a way
	Lost                     // as up, but the machine leaves HELLOs unanswered: nothing is sent into the void
	Unreachable              // the last try failed
)

// String returns the state's name.
func (s State) String() string {
	return [...]string{"idle", "seeking", "shaking", "up", "lost", "unreachable"}[s]
}

// facts are what a state follows from.
type facts struct {
	way     bool // one is confirmed
	session bool // there is one to send on
	trying  bool // a handshake is under way
	silent  bool // HELLOs have gone unanswered for silentFor, and nothing else was heard
	gaveUp  bool // a try just ended without an answer
}

// next returns the state that follows s.
func (s State) next(f facts) State {
	switch {
	case f.session && f.way && f.silent:
		return Lost
	case f.session && f.way:
		return Up
	case f.gaveUp:
		return Unreachable
	case f.trying && f.way:
		return Shaking
	case f.trying:
		return Seeking
	case s == Up || s == Idle:
		return Idle
	}
	return Unreachable
}
