package overlay

import (
	"anodenet/anode/wire"
	"anodenet/overlay/mono"
)

// nattRate is how many NAT_T of one peer are taken: three for each attempt.
var nattRate = mono.Rate{PerSecond: 2, Burst: 12}

// natt takes a message about an attempt to open a direct way. It comes sealed, and from added
// peers only. SPRAY and modes that are not known are ignored.
func (s *signals) natt(m *message) error {
	x, err := wire.ParseNATT(m.body)
	if err != nil {
		return err
	}
	if !m.peer.Marks.NATT.Allow(s.l.now, nattRate) {
		s.l.n.counters.count(dBudget)
		return nil
	}
	switch x.Mode {
	case wire.NATTPunch:
		o, err := wire.ParsePunch(x.Options)
		if err != nil {
			return err
		}
		m.peer.Punch(s.l.now, m.in, o)
	case wire.NATTPredict:
		o, err := wire.ParsePredict(x.Options)
		if err != nil {
			return err
		}
		m.peer.Predict(s.l.now, m.in, o)
	}
	return nil
}
