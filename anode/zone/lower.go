package zone

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// A copy is replaced by a file with a lower revision only after the web has had nothing but
// lower ones at lowerTimes looks or more, over lowerFor or longer.
const (
	lowerTimes = 3
	lowerFor   = 2 * time.Hour
)

// Lower is how long the web has had only files with a lower revision than a copy. The zero
// value is a copy for which that is not so.
//
// A lower revision usually means a stale cache on the way, or an old file that somebody put
// back by mistake, so it does not count at once. It must not be refused for ever either: nobody
// signs a zone file, and whoever forges one where this machine happens to be, such as a hotel's
// network, can give it the highest revision there is. No file of the zone's own would ever
// count again. Therefore a file counts as well if it is what this machine finds again and
// again for some hours. A stale cache has ended by then, or another newer file ends the
// mistake. Looks that find nothing count neither way, and one that finds the copy's revision
// or a higher one ends the doubt. Both kinds of file may steer where packets go, and never
// who is who, so the rule only has to make sure that a mistake ends.
type Lower struct {
	Since time.Time // the first look that found a lower one; zero: none
	Times int       // the number of looks that did
}

// seen returns l after another look.
func (l Lower) seen(now time.Time) Lower {
	if l.Times == 0 || l.Since.After(now) { // or the clock was set back
		return Lower{now, 1}
	}
	l.Times = min(l.Times+1, math.MaxInt16)
	return l
}

// settled reports whether a lower revision counts.
func (l Lower) settled(now time.Time) bool {
	return l.Times >= lowerTimes && now.Sub(l.Since) >= lowerFor
}

// text is how a cache keeps it; parseLower reads it.
func (l Lower) text() string {
	if l.Times == 0 {
		return ""
	}
	return strconv.FormatInt(l.Since.Unix(), 10) + " " + strconv.Itoa(l.Times)
}

func parseLower(text string) Lower {
	since, times, _ := strings.Cut(text, " ")
	at, err1 := strconv.ParseInt(since, 10, 64)
	n, err2 := strconv.ParseUint(times, 10, 15)
	if err1 != nil || err2 != nil || n == 0 {
		return Lower{}
	}
	return Lower{time.Unix(at, 0), int(n)}
}

// clock is the present to the second, which a cache can keep.
func clock() time.Time { return time.Unix(time.Now().Unix(), 0) }

// NextRevision returns the revision of a file that is to replace one with a revision. Above the
// highest there is none: the file then begins again with the time, as files that anode makes
// do, and members come to use it after some hours (Lower).
func NextRevision(revision uint64, now time.Time) uint64 {
	if revision == math.MaxUint64 {
		return uint64(max(now.Unix(), 1))
	}
	return revision + 1
}
