package main

import (
	"os"
	"runtime/debug"
	"time"
)

// collectAfter is when a daemon's start is over. Its heap grows from nothing until then, and would be collected ten times.
const collectAfter = 10 * time.Second

// collectOften has a daemon's garbage collected when the heap has grown by a quarter, unless GOGC says otherwise, until
// stop is called.
//
// Five of the six MB that a daemon has are packets' buffers, which never become garbage, and which the system gives no
// memory before they are used. At Go's 100 % they let it keep 6 MB of garbage: 1,700 strangers who ask made 8.2 MB
// resident, 2.8 at 25 %. Packets allocate nothing (no collection in a minute of 1 Gbit/s); streams are collected nine
// times a GiB, which is about 1 % of their CPU time.
func collectOften() (stop func() bool) {
	if os.Getenv("GOGC") != "" {
		return func() bool { return false }
	}
	return time.AfterFunc(collectAfter, func() { debug.SetGCPercent(25) }).Stop
}
