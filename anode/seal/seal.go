// Package seal has the cryptography of the wire: the draft's packet MAC, and our
// sealed sessions. It does no I/O and reads no clock.
//
// The draft authenticates packets with one static key for each pair of addresses,
// and does not encrypt (draft 2.4, 2.5, 3.3):
//
//	hop[1] flags[1] mac[8] sender[8|40] recipient[8|40] peers[1] type[1] message
//	       `------------------------- MAC -----------------------------------'
//
// All that carries users' data therefore travels in sessions, whose keys come from
// a Noise handshake and are forgotten after three minutes:
//
//	hop[1] flags[1]=8 index[2] counter[6] sender[8] recipient[8] peers[1] | type[1] message | tag[16]
//	       `------ nonce: `-------------'                              '   `-- AES-256-GCM ---------'
//	       `--------------- associated data ---------------------------'
//
// A Session is what the data path needs: Seal and Open, no allocation, no lock. A
// Set makes and ends the sessions with one machine:
//
//	initiator                                        responder
//	Want    -- HELLO: cookie, index, noise message 1 -->  OnHello: session pending
//	OnWelcome <-- WELCOME: both indices, message 2 ----
//	session -- first sealed packet (maybe empty) ---->  Confirm: session confirmed
//
// Under load a responder answers COOKIE first (Cookies), and STALE tells an
// initiator that its clock was set back.
//
// # The handshake
//
// It is Noise_KKpsk2_P256_AESGCM_SHA256: points are compressed, 33 bytes, and the result of
// DH is the X coordinate, 32 bytes. Both static keys are those of the addresses, which the
// packets' headers have. The prologue is "anode sealed 1", the initiator's address and the
// responder's. The preshared key is the network secret, 32 random bytes, or zeros, or that of an
// invitation which message 1 names.
//
// The payload of message 1 is `stamp[12] TLVs`, that of message 2 is TLVs; users' data is in
// neither. A stamp is a TAI64N label. A TLV is `type[1] length[1] value`; unknown types are
// skipped, and a malformed list drops the message:
//
//	1  lanes         count[1] of consecutive indices granted, the message's own included
//	2  invitation    id[8], in HELLO: see Invitation
//	3  standing      standing[1], 0: you are not let in here, 1: you are
//	4  instance      instance[8], random at each start
//	5  capabilities  bits from the left, of as many bytes as it takes (Capabilities)
//
// The first key of Noise's Split is the initiator's. A side may seal in any of the lanes
// that the other granted; the index is in the nonce, so lanes share keys and nothing else.
//
//   - Confirmation: the responder's session is pending until a sealed packet was opened in
//     it. Until then it sends nothing in it, believes no TLV, records no stamp and ends no
//     other session: message 1 can be replayed, or forged by who has the responder's key.
//     There are at most 2 pending sessions, for 10 s each. The initiator confirms at once.
//   - Retransmission: the same noise message, 250 ms and doubling to 4 s; only the cookie
//     changes. The responder repeats its WELCOME.
//   - Stamps: the initiator's is the greatest of its clock, the last sent + 1 and the
//     greatest reported + 1. The responder keeps the greatest confirmed one. An equal stamp
//     is dropped, and a lower one is answered by STALE, once a second.
//   - Both at once: both handshakes complete. At most 3 sessions are live, all of which are
//     received on. Current says which one is sent on.
//   - Time: the initiator renews after 120 s if data flows, the responder after 150 s. Keys
//     end after 180 s, or 2^32 packets of a lane. A keepalive goes out when data was
//     received and nothing sent for 0.5 s, and a HELLO when data was sent and nothing heard
//     for 1.5 s. Ages count sleep.
//   - Machines: sessions and stamps are per address and peer ID. The first HELLO goes to
//     peer ID 0; the WELCOME's sender is the machine from then on.
//
// # Replay
//
// Each lane has a window of more than 16,000 counters, which is looked at before a packet is
// opened and moved afterwards.
package seal

import "errors"

// Errors of Session.Open, without more text: nothing is allocated for them. What a
// packet that causes one of them does is nothing but count.
var (
	ErrShort  = errors.New("seal: too short")
	ErrHeader = errors.New("seal: flags, index or IDs are not the session's")
	ErrReplay = errors.New("seal: counter seen before, or too old to tell")
	ErrAuth   = errors.New("seal: not authentic")
	ErrEnded  = errors.New("seal: the session's keys have ended")
)
