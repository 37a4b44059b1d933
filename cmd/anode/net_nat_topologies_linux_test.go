package main_test

import "time"

// topology is one row of the matrix: where a and b are, and what must come of it.
type topology struct {
	name   string
	a, b   place
	want   way
	limit  time.Duration // for the direct path; 0: a second
	relays int           // 0: one
	always bool          // it is one of those that run with all tests
}

// way is how two hosts reach each other.
type way string

const (
	direct way = "direct"
	relay  way = "relay"
	none   way = "none"
)

// topologies is the matrix. It states what is possible, whether or not the program can do it
// yet.
var topologies = []topology{
	{name: "open-open", a: behind("router"), b: behind("router"), want: direct, always: true},
	{name: "open-home", a: behind("router"), b: behind("home"), want: direct, always: true},
	{name: "home-home", a: behind("home"), b: behind("home"), want: direct},
	{name: "random-home", a: behind("random"), b: behind("home"), want: relay, always: true},
	{name: "random-random", a: behind("random"), b: behind("random"), want: relay, always: true},
}

// loss is what the lines lose of pings and their replies, in percent.
func (r topology) loss() float64 {
	arrives := 1.0
	for _, p := range []place{r.a, r.b} {
		if p.line != nil {
			arrives *= 1 - float64(p.line.loss)/1000
		}
	}
	return 100 * (1 - arrives*arrives)
}
