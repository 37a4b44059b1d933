// Package wire reads and writes packets: the header, endpoints and every message
// of the draft's sections 4 and 5 and of our own, but for the handshake's bodies
// (package seal). It knows no keys and keeps no state.
//
// A packet of the draft (section 3), 28 bytes at least:
//
//	offset  field
//	0       hop[1]             raised by each relay; not in the MAC
//	1       flags[1]           1 full sender, 2 full recipient, 4 authentication error
//	2       mac[8]             folded CMAC-AES-256
//	10      sender[8|40]       short ID or full address
//	18|50   recipient[8|40]
//	        peers[1]           peer IDs: sender in the high nibble, recipient in the low
//	        type[1]
//	        message
//
// A sealed packet (ours, flag 8 alone), 43 bytes at least:
//
//	offset  field
//	0       hop[1]             a hint, not authenticated
//	1       flags[1] = 8
//	2       index[2]           the receiver's
//	4       counter[6]
//	10      sender[8]          short ID
//	18      recipient[8]
//	26      peers[1]
//	27      AES-256-GCM of (type[1] message), tag[16]; associated data: offsets 1 to 26
//
// All integers are big endian. A message is what follows its type byte, whether it
// came sealed or not. ParseX takes a whole message and returns views of it, valid
// as long as it is; the lengths must be exact. Errors are the package's bare
// sentinels, so that refusing a packet costs no memory. AppendX, or the Append
// method of the parsed form, writes the message behind dst.
package wire

import "errors"

// Why a packet or message was refused.
var (
	ErrShort    = errors.New("wire: too short")
	ErrLong     = errors.New("wire: more bytes than there should be")
	ErrFlags    = errors.New("wire: flags that do not go together or are unknown")
	ErrAddress  = errors.New("wire: malformed address")
	ErrEndpoint = errors.New("wire: malformed endpoint")
	ErrField    = errors.New("wire: a field has a value that it must not have")
)
