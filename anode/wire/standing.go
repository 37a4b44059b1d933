package wire

// StandingMsg is STANDING: standing[1], whether the sender lets the recipient in: it has
// added it, or lets everybody in. It is only ever sealed. The handshake says the same.
// STANDING follows when it changes, and at a bounded rate when the sender refused something
// of the recipient's, which can then say "has not added you" where connections would hang.
type StandingMsg uint8

// The standings.
const (
	StandingUnknown  StandingMsg = iota // nothing was said
	StandingNotAdded                    // 0 on the wire
	StandingAdded                       // 1 on the wire
)

// String names the standing.
func (s StandingMsg) String() string {
	switch s {
	case StandingNotAdded:
		return "not added"
	case StandingAdded:
		return "added"
	}
	return "unknown"
}

// ParseStanding reads a STANDING.
func ParseStanding(b []byte) (StandingMsg, error) {
	if err := exactly(b, 1); err != nil {
		return StandingUnknown, err
	}
	if b[0] > 1 {
		return StandingUnknown, ErrField
	}
	return StandingNotAdded + StandingMsg(b[0]), nil
}

// Append writes the message behind dst; whatever is not StandingAdded is written as 0.
func (s StandingMsg) Append(dst []byte) []byte {
	if s == StandingAdded {
		return append(dst, 1)
	}
	return append(dst, 0)
}

// Instance is CLASH: instance[8], the run of a machine, which draws it at its start. The
// machine that is told its own is not the only one with its address and peer ID. CLASH
// is only ever sealed. The zero value is none.
type Instance [8]byte

// ParseClash reads a CLASH.
func ParseClash(b []byte) (i Instance, err error) {
	if err := exactly(b, len(i)); err != nil {
		return i, err
	}
	return Instance(b), nil
}

// Append writes the message behind dst.
func (i Instance) Append(dst []byte) []byte { return append(dst, i[:]...) }
