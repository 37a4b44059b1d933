// Package invite reads and writes invitation links, and derives what a handshake needs from a
// token.
//
//	anode:ADDRESS/PAYLOAD        both in base32 without padding, in either case
//
// ADDRESS is that of the issuer, 64 characters. PAYLOAD is at most 200 bytes of fields
// type[1] length[1] value, of which unknown ones are skipped, and of two the first counts:
//
//	01 token      16 random bytes; without one, the link is a business card
//	02 expires    Unix seconds[4]
//	03 name       what the issuer is called, 1-32 bytes, as book.CheckName
//	04 endpoints  of the issuer (wire.Endpoint), up to 4, one behind the other
//	05 relays     address[40] endpoint, up to 2, one behind the other
//	7f check      the first 4 bytes of SHA-256("anode link 1" | address[40] | all fields before); last
//
// A relay is named by its whole address, and not by its short ID, because a guest has to know
// the relay's key to register there. A link without a payload is the address alone, such as in a
// DNS record, and a business card too.
//
// Links are copied by hand, by mail and by chat. So Parse ignores white space anywhere, quotes,
// the marks of mail, text around the link, punctuation behind it, and a lost "anode:". The check
// notices what is cut off or mistyped, and where a link ends.
//
// The token never crosses the network. Both sides compute from it
//
//	id[8] | psk[32] = HKDF-SHA256(token, no salt, info "anode invitation 1" | issuer's address[40])
//
// The guest names the id in its HELLO, and the psk is that of the session's handshake.
package invite

import (
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"strings"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// Bounds of a link.
const (
	MaxPayload   = 200 // bytes
	MaxEndpoints = 4
	MaxRelays    = 2
	MaxName      = 32 // bytes

	maxText = 4096 // characters that Parse looks at, with all that it ignores
)

const (
	checkLabel = "anode link 1"
	keysLabel  = "anode invitation 1"
)

// Errors of Parse, and of who uses a link. Those of Parse say more behind them.
var (
	ErrNotLink = errors.New("not an Anode link")
	ErrLong    = errors.New("too long") // with ErrNotLink: a text, or a payload of which the check is right
	ErrSeveral = errors.New("there are links to two machines")
	ErrCut     = errors.New("the link is damaged") // and anode.ErrTypo too, if a character is wrong, else its end is missing
	ErrExpired = errors.New("the link has expired")
)

// Token is the secret of an invitation. It never crosses the network: both sides derive keys from it.
type Token [16]byte

// IsZero reports whether t is none.
func (t Token) IsZero() bool { return t == Token{} }

// String hides the token, so that no log shows it.
func (t Token) String() string {
	if t.IsZero() {
		return "no token"
	}
	return "token"
}

// GoString hides it too.
func (t Token) GoString() string { return t.String() }

// Keys returns the id by which the issuer finds the invitation, and the psk of the handshake.
func (t Token) Keys(issuer anode.Address) (id [8]byte, psk [32]byte) {
	// It fails only for outputs longer than 8160 bytes and secrets shorter than 14.
	b, _ := hkdf.Key(sha256.New, t[:], nil, keysLabel+string(issuer[:]), len(id)+len(psk))
	copy(psk[:], b[copy(id[:], b):])
	return id, psk
}

// Link is what an invitation link says. Without a token it is a business card.
type Link struct {
	Address   anode.Address
	Token     Token           // zero: none
	Expires   time.Time       // seconds; zero: not said
	Name      string          // of who issued it, as book.CheckName; empty: not said
	Endpoints []wire.Endpoint // at most 4
	Relays    []Relay         // at most 2
}

// Relay is a relay that forwards to the issuer for anybody.
type Relay struct {
	Address  anode.Address
	Endpoint wire.Endpoint
}

// Card reports whether the link has no token, so that who has it can only ask.
func (l Link) Card() bool { return l.Token.IsZero() }

// Expired reports whether the link says that it is over.
func (l Link) Expired(now time.Time) bool { return !l.Expires.IsZero() && !now.Before(l.Expires) }

// String returns the link in small letters. Fields that cannot be written are left out: bad
// names, times that do not fit, and endpoints and relays for which there is no room.
func (l Link) String() string {
	return l.Address.TXT() + "/" + encoding.EncodeToString(l.payload())
}

// QR returns the link in capitals. QR codes store capitals in less space.
func (l Link) QR() string { return strings.ToUpper(l.String()) }
