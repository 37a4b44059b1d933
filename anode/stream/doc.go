// Package stream is the draft's stream protocol (section 5): connections between ports of
// two peers, as TCP has them, over messages that may be lost, repeated and reordered.
//
// A Machine is all streams with one machine of a peer. It is pure: it does no I/O, reads no
// clock and starts no goroutine. Who drives it passes the time, which is the distance from
// the origin of a clock that never goes back:
//
//	Receive(now, message)     what the peer sent: type[1] message
//	Open, Write, Read, Close  what the program does
//	Send(now, batch)          what is to be sent, as trains of messages of one length
//	Due()                     when Send has to be called again, if nothing happens before
//
// A Host is the shell: a goroutine for each peer with streams, net.Conn and net.Listener. It
// stands on a Carrier, which moves messages, and knows the length of those that fit the
// path.
//
//	opener                                              acceptor
//	opening    -- S_OPEN: link ID a, port P, number x ----> answering
//	open       <-- S_OPEN: link ID P, port a, number y ----
//	           -- S_ACK y, or S_DATA x+1 -----------------> open
//	           <-- S_DATA y+1 … / S_ACK x+1 … ------------
//	           -- S_CLOSE: its number follows the data's --> end of file
//	over       <-- S_ACK, and an S_CLOSE of its own ------- over
//
// # Readings of the draft
//
//   - A connection is the pair of both link IDs. Flag 1 of S_OPEN says that the link ID is a
//     port of origin. The answer to an S_OPEN may have any link ID.
//   - Numbers count packets, S_OPEN and S_CLOSE included. No acknowledgement is cumulative:
//     each S_ACK repeats the newest ranges, up to 32 items, and one range that ends where
//     data in sequence ends. What comes twice is acknowledged again.
//   - The window is the receiver's free room now; what is sent and not acknowledged does not
//     exceed it. At a window of 0 one packet each retransmission timeout probes it. The draft
//     does not ask a peer to do so: the S_ACK that opens a window is repeated, up to 9 times,
//     until data comes.
//   - An S_CLOSE of reason 0 follows the data. Without flag 1 it ends both directions: the
//     program may write nothing more, but what it wrote before is still delivered, and
//     an S_CLOSE of our own follows it. With flag 1 it ends the sender's direction alone.
//     Toward a peer that does not read the flag the S_CLOSE of one direction is held back
//     until the peer's comes. If the peer opened the stream, has all, and is silent for 2 s,
//     it gets one without the flag, since it may wait for that alone, and what it sends
//     nevertheless is still taken.
//   - Reasons 2 and 3 end both directions at once. Both are acknowledged, and repeated a few
//     times until they are.
//   - A refusing S_CLOSE has the S_OPEN's number twice. S_DATA for a stream that does not
//     exist is answered by an S_CLOSE of reason 2 with the S_DATA's number twice, within a
//     budget: a peer that restarted does not leave the other side waiting. It is not if its
//     port is a link ID of ours that waits for an answer, which may come later than the data.
//   - An S_CLOSE that comes before the answer to an S_OPEN takes it back, unless it ends one
//     direction alone or follows data: then it waits for the answer, and so does data.
//   - A repeated S_OPEN with another initial number replaces a stream that was silent for
//     5 s, and is ignored otherwise.
//   - A packet keeps its number and its length when it is sent again. One that no longer fits
//     the path is a train of its own, longer than the carrier said: the carrier splits it.
//
// # Sending
//
// Round-trip times after RFC 6298, without its lower bound of 1 s. Losses after RFC 8985
// (RACK-TLP): acknowledgements repeat no timestamps, so an acknowledgement that comes sooner
// after a retransmission than any round trip took belongs to the first transmission.
// Congestion control is CUBIC (RFC 9438) with HyStart++ (RFC 9406), paced. Its reductions
// are on trial: one that does not shorten the queue is taken back. So random loss does not
// slow a stream down, and a queue that only we fill does not stand.
package stream
