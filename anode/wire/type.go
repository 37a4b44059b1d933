package wire

import "fmt"

// Type is the type of a message.
type Type uint8

// Types of the draft (4.1, 5.1) and our own.
const (
	Error    Type = 0x00
	Ping     Type = 0x01
	Pong     Type = 0x02
	EPCReq   Type = 0x03
	EPC      Type = 0x04
	EPI      Type = 0x05
	NATT     Type = 0x06
	NetIDReq Type = 0x07
	NetID    Type = 0x08
	Dgram    Type = 0x09

	SOpen  Type = 20
	SClose Type = 21
	SData  Type = 22
	SAck   Type = 23
	SDAck  Type = 24

	Hello    Type = 0x40
	Welcome  Type = 0x41
	Cookie   Type = 0x42
	Stale    Type = 0x43
	Whois    Type = 0x44
	IAm      Type = 0x45
	Standing Type = 0x46
	Clash    Type = 0x47
	Probe    Type = 0x48
	ProbeAck Type = 0x49
	Linger   Type = 0x4a
	Friends  Type = 0x4b

	IP6  Type = 0x50
	IP   Type = 0x51
	Frag Type = 0x52
	IP6P Type = 0x53

	IP4       Type = 0x54
	Group     Type = 0x55
	Groups    Type = 0x56
	GroupsAck Type = 0x57
	Tell      Type = 0x68
	Told      Type = 0x69
)

// String returns the name as it is written in the package documentation, or "0x7f".
func (t Type) String() string {
	switch t {
	case Error:
		return "ERROR"
	case Ping:
		return "PING"
	case Pong:
		return "PONG"
	case EPCReq:
		return "EPC_REQ"
	case EPC:
		return "EPC"
	case EPI:
		return "EPI"
	case NATT:
		return "NAT_T"
	case NetIDReq:
		return "NETID_REQ"
	case NetID:
		return "NETID"
	case Dgram:
		return "DGRAM"
	case SOpen:
		return "S_OPEN"
	case SClose:
		return "S_CLOSE"
	case SData:
		return "S_DATA"
	case SAck:
		return "S_ACK"
	case SDAck:
		return "S_DACK"
	case Hello:
		return "HELLO"
	case Welcome:
		return "WELCOME"
	case Cookie:
		return "COOKIE"
	case Stale:
		return "STALE"
	case Whois:
		return "WHOIS"
	case IAm:
		return "IAM"
	case Standing:
		return "STANDING"
	case Clash:
		return "CLASH"
	case Probe:
		return "PROBE"
	case ProbeAck:
		return "PROBE_ACK"
	case Linger:
		return "LINGER"
	case Friends:
		return "FRIENDS"
	case IP6:
		return "IP6"
	case IP:
		return "IP"
	case Frag:
		return "FRAG"
	case IP6P:
		return "IP6P"
	case IP4:
		return "IP4"
	case Group:
		return "GROUP"
	case Groups:
		return "GROUPS"
	case GroupsAck:
		return "GROUPS_ACK"
	case Tell:
		return "TELL"
	case Told:
		return "TOLD"
	}
	return fmt.Sprintf("0x%02x", uint8(t))
}
