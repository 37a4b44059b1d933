// Package info2 is a servent for P2PInfo2 0.1: short texts that reach everybody
// of a network of programs, each linked to a few others by TCP, port 26000.
//
//	client                        server
//	INFO2 CONNECT/0.6\n\n   ->                  one segment, nothing with it
//	                        <-   INFO2 OK\n\n   nothing after it until the client speaks or 300 ms pass
//	SEND 123456 a text\n\n                <->   a message: forwarded once, to all but the link that brought it
//	LOGOFF 123456 10.0.0.1\n\n            <->   the sender leaves; forwarded the same way
//	BACKCONNECT 10.0.0.1                  <->   dial me back; bare, a terminator is invalid to some programs
//	FRIEND REQUEST\n\n                    <->   which other host do you know?
//	10.0.0.7                              <->   one address, bare; 0.0.0.0 for none
//
// The memo has no framing, and other programs differ in everything but the
// keywords. So reading is tolerant (parser) and writing exact to the byte
// (frame.append): one write per message, no two within 100 ms on a link.
//
// A host that sends BACKCONNECT and closes is dialled once for each message. That
// connection carries our hello, its OK and the message, and nothing else; we end
// it, so that the host can use its port again at once.
//
// Layers, each using only those above it in this list:
//
//	frame, parser    bytes to messages and back; silence is a terminator, so it takes now
//	outbox, memory, sources, hosts   what is queued, known, and allowed
//	links, neighbours                connections; servents that are dialled per message
//	flood, topology, friends         who gets a message, is dialled, and is named to others
//	core             the servent without I/O: events in, actions out
//	Servent          the shell: one goroutine owns the core, two per connection move bytes
//
// Everything above Servent is pure: it takes the time, and does nothing by itself.
//
// A Servent speaks on one network only, the one that its Dial and Listen reach.
// Two of them are two networks, unless Bridge joins them.
package info2

import "time"

// Port is where every servent of the network listens (memo 2.1). Another port
// is another network.
const Port = 26000

// Bounds. Everything below is per servent unless it says otherwise.
const (
	maxFrame = 4096 // bytes of a message that we accept; a longer one closes the link
	maxSend  = 1000 // bytes of a message that we send
	maxHello = 64   // bytes in which a hello or an OK must be complete

	silence   = 200 * time.Millisecond // ends a message that has no terminator
	sendGap   = 100 * time.Millisecond // between two messages on a link
	bareGap   = 300 * time.Millisecond // after a message without terminator, so that silence ends it
	afterOK   = 300 * time.Millisecond // a server's pause after its OK
	readPause = 10 * time.Millisecond  // between two reads of a connection: what comes in pieces is read in one
	delayMax  = 600 * time.Millisecond // of a message on its way through us
	delayBase = 167 * time.Millisecond // scale of the exponential that, cut at delayMax, has a mean of 150 ms

	rememberFor = 10 * time.Minute // message identifiers
	rememberMax = 4096

	linksLow    = 3 // below it we dial
	linksWanted = 5 // until we have so many
	linksHigh   = 7 // above it the least useful links go
	connsMax    = 32
	connsPer    = 8 // of them from one address
	hearersMax  = 4 // half-closed connections that only listen

	neighboursMax = 4 // that are dialled for every message
	neighbourFor  = 10 * time.Minute

	messageRate  = 2.0 // per second and link
	messageBurst = 10.0
	arriveBurst  = 2 * messageBurst // the network may bunch up what left in order
	readRate     = 20.0             // reads per second and source: a message may come in some pieces
	readBurst    = 100.0
	excessMax    = 60.0 // messages or reads over the budget that cut a flooder off
	excessDecay  = 0.5  // of them forgiven per second
	banFor       = 15 * time.Minute

	dialRate      = 1.0 // per second
	dialBurst     = 5.0
	dialsAtOnce   = 4
	pauseFirst    = 15 * time.Minute // after a failed dial; doubles
	pauseShort    = time.Minute      // after a link that ended early; doubles
	pauseMax      = 4 * time.Hour    // for hosts that have been good
	hearsayTries  = 3                // for an address that we only heard of
	hearsayForget = 24 * time.Hour   // before such an address may be tried again

	queueMax   = 64 << 10 // bytes per link
	queueLow   = 32 << 10 // what an overfull queue is cut down to
	queueStale = 2 * time.Minute

	helloWait   = 10 * time.Second // for a hello or an OK
	replyWait   = 30 * time.Second // for a friend reply
	checkWait   = 3 * time.Second  // the same on a connection made only to ask
	lingerWait  = time.Second      // for the other side's end of a connection that carried its one message
	stallWait   = time.Minute      // for one write
	retryWait   = 2 * time.Second  // after a failed delivery to a per-message neighbour
	perMessage  = 10 * time.Second // a BACKCONNECT and a close so soon: a servent that is dialled per message
	brief       = 15 * time.Second // the same for a link of ours that ends
	soon        = 5 * time.Second  // after our message
	settleTime  = 20 * time.Second // before a link can be pruned
	young       = time.Minute      // a link that the other side closes before that ended early
	newcomer    = 5 * time.Minute  // a link taken for useful because it has had no time to be
	exploreTime = 10 * time.Minute // mean time between two dials just to see more of the network
	askAgain    = 5 * time.Minute  // between two friend requests on a link
	verifiedFor = time.Hour        // how long a handshake of ours vouches for a host
	unknownMax  = 5                // unknown keywords that close a link
	answersMax  = 3                // different friend replies per asker and hour
	answersFor  = time.Hour
	inboundWait = 5 * time.Minute // with links and nobody coming in: outbound only
)
