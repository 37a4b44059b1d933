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
