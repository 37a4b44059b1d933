package path

// Loss is which share of what was sent along a way was answered lately.
type Loss struct {
	rate    float64
	samples int
}

// lossSamples is about how many of the last packets count, and lossKnown how many there
// must be before Rate says anything.
const (
	lossSamples = 16
	lossKnown   = 8
)

// note takes packets that were lost, and then some that were answered.
func (l *Loss) note(lost, answered int) {
	for k := range lost + answered {
		x := 0.0
		if k < lost {
			x = 1
		}
		l.samples = min(l.samples+1, lossSamples)
		l.rate += (x - l.rate) / float64(l.samples)
	}
}

// Rate returns the share that was lost, from 0 to 1; 0 while too little is known.
func (l *Loss) Rate() float64 {
	if l.samples < lossKnown {
		return 0
	}
	return l.rate
}
