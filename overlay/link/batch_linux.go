package link

import "sync/atomic"

// batch is the rungs gso and batch: many messages a system call. It never changes how it
// reads; only writing can go down a rung.
//
// Memory is fixed: 4 buffers of ReadSize for gso, 32 for batch (of which ordinary
// packets touch a page each), and 13 KiB for each writer.
type batch struct {
	*socket
	gso      atomic.Bool  // write trains as they are
	failures atomic.Int32 // trains that had to go as single packets

	// owned by the goroutine that reads
	rx reader
}

const (
	readTrains    = 4  // messages of a recvmmsg on gso: what fits a core's cache
	readPackets   = 32 // and on batch
	writeMessages = 64 // messages of a sendmmsg
	maxFailures   = 8  // how many trains may fail before no more are written
)

func newBatch(s *socket, rung string) *batch {
	b := &batch{socket: s}
	b.gso.Store(rung == RungGSO)
	b.rx.most = readPackets
	if rung == RungGSO {
		b.rx.most = readTrains
	}
	return b
}

// Rung implements Conn.
func (b *batch) Rung() string {
	if b.gso.Load() {
		return RungGSO
	}
	return RungBatch
}

// failed notes a train that the kernel refused, and whose packets it then took
// one by one.
func (b *batch) failed() {
	b.c.txSplit.Add(1)
	if b.failures.Add(1) >= maxFailures {
		b.gso.Store(false)
	}
}
