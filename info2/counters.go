package info2

// Counter names something that is counted; every message, connection or address
// that is dropped has one.
type Counter uint8

// The counters of a Servent, in the order of Status.
const (
	MessagesIn       Counter = iota // SEND and LOGOFF that came, duplicates included
	MessagesNew                     // of them, the first of their identifier
	MessagesOut                     // SEND and LOGOFF written, to all links together
	OwnMessages                     // said here
	Duplicates                      // came again
	OtherText                       // of them, with another text than the first
	Suppressed                      // not sent, because the receiver sent it to us first
	ProtocolOut                     // BACKCONNECT, FRIEND REQUEST and replies written
	DroppedQueue                    // message: receiver's queue was full
	DroppedStale                    // message: receiver too slow for two minutes
	DroppedClosed                   // message: waiting for a link or neighbour that ended
	DroppedBudget                   // message or connection: source over its budget
	DroppedEmpty                    // message: nothing left of the text
	DroppedMalformed                // message: keyword known, the rest not
	DroppedUnknown                  // message: keyword unknown
	TextsCleaned                    // control characters or bad UTF-8 replaced
	TextsCut                        // shortened to what fits in one message
	RefusedBanned                   // connection: source is banned
	RefusedFull                     // connection: too many, or too many of one address
	RefusedForeign                  // connection: Config.Allow says no
	BadHandshake                    // connection: no hello, no OK, or a version below 0.1
	HandshakeLate                   // connection: hello or OK did not come in time
	TooLong                         // connection: a message of more than 4096 bytes, or 64 without a hello
	TooUnknown                      // connection: five unknown keywords
	FloodersCut                     // sources banned for 15 minutes
	ReadsOver                       // of them, for what they sent in too many pieces or bytes
	Stalled                         // link: one write took more than a minute
	Pruned                          // link: least useful of more than seven
	Twins                           // link: second one between the same two hosts
	Dials                           // begun
	DialsFailed                     // no connection or no OK
	Deliveries                      // messages brought by a dial of their own
	NeighboursFull                  // BACKCONNECT: already four that are dialled per message
	BackconnectOther                // BACKCONNECT: names another address than it came from
	FriendUnanswered                // friend request: on a connection that carries one message
	FriendUnasked                   // friend reply that nobody asked for
	FriendForbidden                 // friend reply: an address that we never dial
	FriendFull                      // friend reply: over a bound of the host cache
	LogoffDirect                    // from the one who leaves
	LogoffRelayed                   // about somebody else: no link closed for it
	LogoffForged                    // about ourselves; not forwarded
	SlowReaders                     // message not given to a subscriber that does not read
	HistoryLost                     // message not written to the history
	counterCount
)

var counterNames = [counterCount]string{
	"messages_in", "messages_new", "messages_out", "own_messages", "duplicates", "other_text", "suppressed",
	"protocol_out", "dropped_queue", "dropped_stale", "dropped_closed", "dropped_budget", "dropped_empty", "dropped_malformed",
	"dropped_unknown", "texts_cleaned", "texts_cut", "refused_banned", "refused_full", "refused_foreign",
	"bad_handshake", "handshake_late", "too_long", "too_unknown", "flooders_cut", "reads_over", "stalled", "pruned", "twins",
	"dials", "dials_failed", "deliveries", "neighbours_full", "backconnect_other", "friend_unanswered", "friend_unasked",
	"friend_forbidden", "friend_full", "logoff_direct", "logoff_relayed", "logoff_forged", "slow_readers", "history_lost",
}

// String is the counter's name in Status and JSON.
func (c Counter) String() string {
	if c < counterCount {
		return counterNames[c]
	}
	return "unknown"
}

// MarshalText is String.
func (c Counter) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// counters belong to whoever holds them; they are not safe for two goroutines.
type counters [counterCount]uint64

// nonZero returns what has been counted at all.
func (c *counters) nonZero() map[Counter]uint64 {
	m := make(map[Counter]uint64)
	for i, n := range c {
		if n > 0 {
			m[Counter(i)] = n
		}
	}
	return m
}
