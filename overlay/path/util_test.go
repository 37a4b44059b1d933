package path

import "time"

const ms = time.Millisecond

// ids returns 1, 2, 3, ...
func ids() func() uint32 {
	var n uint32
	return func() uint32 { n++; return n }
}
