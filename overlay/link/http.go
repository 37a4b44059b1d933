package link

import (
	"encoding/hex"
	"errors"
	"strconv"
	"strings"
	"time"
)

// Packets travel as frames in the bodies of POST requests and of their answers (draft 2.9.3).
// The client draws a number of 128 bits, and requests that name it belong together: they are
// a session, in which several requests may be in flight. The path is free; what follows is
// the query:
//
//	id=SESSION&n=1           here are packets; the answer is empty, and comes at once
//	id=SESSION&d=2&w=25      the answer has packets, as soon as there are some, or is empty after 25 seconds
//	id=SESSION&d=3&s=1       the answer has an empty frame at once, and stays open
//	id=SESSION&d=4&seen=3    that empty frame has come: from now on packets go in that answer
//	(none)                   here are packets; the answer has those that follow within a moment
//
// The client numbers its requests from 1. Bodies with a number n are taken in that order, as
// far as they come. Packets go in the answer with the highest number d alone; one that stays
// open has the number with which it was seen, since a proxy that keeps answers until they are
// whole would keep the packets. A client that is idle has one request in flight: it makes two or
// three in a minute.
type query struct {
	id      sessionID
	named   bool // id is there
	up      uint64
	down    uint64
	stream  bool
	seen    uint64
	patient time.Duration
}

type sessionID [16]byte

const (
	maxHold    = 25 * time.Second // for an answer with nothing in it; proxies often wait a minute
	minHold    = 5 * time.Second
	maxStream  = 2 * time.Minute // for one answer that stays open, in time and in bytes
	maxFlow    = 1 << 30
	octets     = "application/octet-stream"
	maxPost    = 256 << 10 // bytes in the body of a request that we make
	maxBody    = 1 << 20   // and in one that we take
	guestBody  = 16 << 10
	maxHeaders = 8 << 10
)

var errQuery = errors.New("link: not the query of a session")

// parseQuery reads a query. What it does not know is no error.
func parseQuery(raw string) (query, error) {
	q := query{patient: maxHold}
	for part := range strings.SplitSeq(raw, "&") {
		key, value, _ := strings.Cut(part, "=")
		var err error
		switch key {
		case "id":
			if len(value) != 2*len(q.id) {
				return query{}, errQuery
			}
			_, err = hex.Decode(q.id[:], []byte(value))
			q.named = true
		case "n":
			q.up, err = strconv.ParseUint(value, 10, 63)
		case "d":
			q.down, err = strconv.ParseUint(value, 10, 63)
		case "seen":
			q.seen, err = strconv.ParseUint(value, 10, 63)
		case "s":
			q.stream = value == "1"
		case "w":
			var seconds uint64
			seconds, err = strconv.ParseUint(value, 10, 8)
			q.patient = min(time.Duration(seconds)*time.Second, maxHold)
		}
		if err != nil {
			return query{}, errQuery
		}
	}
	if !q.named && (q.up|q.down|q.seen != 0 || q.stream) {
		return query{}, errQuery
	}
	return q, nil
}

// append writes the query after another one, which may be empty.
func (q *query) append(raw string) string {
	b := []byte(raw)
	if len(b) > 0 {
		b = append(b, '&')
	}
	b = append(b, "id="...)
	b = hex.AppendEncode(b, q.id[:])
	number := func(key string, n uint64) {
		if n != 0 {
			b = append(b, key...)
			b = strconv.AppendUint(b, n, 10)
		}
	}
	number("&n=", q.up)
	number("&d=", q.down)
	number("&seen=", q.seen)
	if q.stream {
		b = append(b, "&s=1"...)
	}
	if q.down != 0 && q.seen == 0 && !q.stream {
		number("&w=", uint64(q.patient/time.Second))
	}
	return string(b)
}
