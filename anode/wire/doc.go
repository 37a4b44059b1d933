// Package wire reads and writes packets: both headers, endpoints, frames and every
// message, except the bodies of the handshake (package seal). It knows no keys.
//
// This text is also the protocol as we speak it: Anode 0.8 ("the draft"), how we read it
// where it leaves a choice, and what we add. All integers are big endian, the bits of a
// byte count from the left, and addresses, short IDs and ULAs are those of package anode.
//
// # Unsealed packets
//
// A packet of the draft (section 3), 28 bytes at least, 60 with one full address:
//
//	offset  field
//	0       hop[1]             relays so far; not in the MAC, so a hint
//	1       flags[1]           1 full sender, 2 full recipient, 4 authentication error
//	2       mac[8]             CMAC-AES-256, its halves XORed
//	10      sender[8|40]       short ID or full address
//	18|50   recipient[8|40]
//	        peers[1]           peer IDs: sender in the high nibble, recipient in the low
//	        type[1]
//	        message
//
// The MAC covers everything except the hop byte, with the packet's size in the place of
// the MAC. Its key is the X coordinate of the ECDH of both addresses.
//
//   - The sender is given in full until the first valid packet of that peer has come, and
//     again after 60 s without one. A packet of an unknown short ID is dropped. Of two
//     addresses with one short ID, the MAC decides. A packet from one's own address is
//     dropped.
//   - Machines with one address have different peer IDs, 1 to 15; 0 is any. An answer goes
//     to the sender's machine: its nibble is the recipient's in the answer, sealed or not.
//     A packet for another machine's nibble is not for us.
//   - A relay raises the hop count, which stops at 255, and drops what would have more
//     than its limit, 3 by default.
//   - Flag 4 is counted and shown; it changes nothing, and is not answered. Unknown flags
//     are refused, since they may change the layout.
//   - A type that is not known is not answered, and no ERROR is answered with an ERROR.
//
// # Sealed packets
//
// The draft authenticates with static keys and does not encrypt. Everything that carries
// users' data therefore travels in sessions (package seal). Flag 8 stands alone; with any
// other the packet is dropped. 43 bytes at least, 44 more than the message:
//
//	offset  field
//	0       hop[1]             not authenticated
//	1       flags[1] = 8
//	2       index[2]           the receiver's; indices are scoped to the sender
//	4       counter[6]
//	10      sender[8]          short ID
//	18      recipient[8]
//	26      peers[1]
//	27      AES-256-GCM of (type[1] message), tag[16]
//
// The associated data are offsets 1 to 26. The nonce is four zero bytes, then index and
// counter. An empty plaintext is a keepalive. Both IDs must be the session's. The peer is
// the one of the session, not the one that the header names.
//
// # Messages
//
// A message is what follows its type byte, the same whether it came sealed or not. Types
// 20 to 24 are decimal. The column "how" is u for unsealed or sealed, s for sealed only, c for
// sealed only unless clear text is allowed for the peer, and h for unsealed only.
//
//	type  name       how  message
//	0x00  ERROR      u    code[2] arguments
//	0x01  PING       u    any payload
//	0x02  PONG       u    the payload of the PING
//	0x03  EPC_REQ    u    request[4]
//	0x04  EPC        u    request[4]
//	0x05  EPI        u    flags[1]=0 endpoint mode[1] options
//	0x06  NAT_T      s    mode[1] options
//	0x07  NETID_REQ  u    request[4] endpoint
//	0x08  NETID      u    request[4] endpoint
//	0x09  DGRAM      c    source port[2] destination port[2] payload
//	20    S_OPEN     c    link[4] window[2] sequence number[4] flags[1]
//	21    S_CLOSE    c    link[4] flags[1] reason[1] first sequence number[4] sequence number[4]
//	22    S_DATA     c    link[4] sequence number[4] payload
//	23    S_ACK      c    link[4] window[2] acknowledgements, first[4] count[1] each
//	24    S_DACK     c    link[4] window[2] n[1] n acknowledgements, sequence number[4] payload
//	0x40  HELLO      h    version[1]=1 cookie[16] index[2] noise message 1
//	0x41  WELCOME    h    version[1]=1 index[2] your index[2] noise message 2
//	0x42  COOKIE     h    your index[2] first 16 bytes of your noise message 1, cookie[16]
//	0x43  STALE      h    your index[2] greatest stamp[12]
//	0x44  WHOIS      u    request[4] kind[1] key, kind 1: ULA[16], kind 2: short ID[8]
//	0x45  IAM        u    request[4] address[40]; request[4] alone is "not found"
//	0x46  STANDING   s    standing[1], 0: the sender does not let you in, 1: it does
//	0x47  CLASH      s    instance[8], yours: another machine of your address has your peer ID
//	0x48  PROBE      s    ID[4] size[2] zeros
//	0x49  PROBE_ACK  s    ID[4] size[2]
//	0x4a  LINGER     h    request[4] delay ms[4], at most 180000; or request[4] 0xffffffff 136 zeros
//	0x4b  FRIENDS    h    salt[8] n[1] tags[8] each
//	0x50  IP6        s    version, class and flow[4] next header[1] hop limit[1] payload
//	0x51  IP         s    a whole IPv4 or IPv6 packet
//	0x52  FRAG       s    ID[4] offset[2] total[2] part
//	0x53  IP6P       s    as IP6, with the checksum field of TCP or UDP sent as 0
//	0x54  IP4        s    class[1] ident[2] fragment[2] ttl[1] protocol[1] payload
//	0x55  GROUP      s    destination[16], then as IP6, or for IPv4-mapped ones as IP4
//	0x56  GROUPS     s    serial[4] flags[1] n[1] groups[16] each
//	0x57  GROUPS_ACK s    serial[4]
//	0x68  TELL       s    id[8] kind[1] fields, type[1] length[2] value each
//	0x69  TOLD       s    id[8] status[1]
//
// 0x60 to 0x67 are kept for a directory, 0x6a to 0x7f for people.
//
// # Readings of the draft
//
//   - Frames on TCP and in bodies of HTTP, requests and replies, are length[2] packet; the
//     length does not count itself. Ethernet carries one such frame in each of its own,
//     EtherType 0x88B5, perhaps padded.
//   - EPC proves an endpoint only with a pending request, a valid MAC and from the peer that
//     was asked. An unspecified endpoint in EPI and NETID_REQ is the source of the message.
//   - An EPI by broadcast (a beacon) has a full sender; recipient and MAC are zero, since
//     there is no key yet. It is a hint, to be answered by EPC_REQ, and counts only from a
//     source on the same link.
//   - NETID_REQ is answered only toward its source, and at a limited rate.
//   - An unknown NAT traversal mode leaves the plain endpoint. Ours are 1 PUNCH, 2 PREDICT
//     and 3 SPRAY; NAT_T is taken from added peers only. See "NAT traversal".
//   - Link IDs and ports share one number space. The answering S_OPEN's destination port is
//     the opener's link ID. S_OPEN consumes its sequence number, and a refusing S_CLOSE
//     repeats that of the S_OPEN. The count of an acknowledgement includes its first number.
//     Sequence numbers count packets. A window is in units of 1024 bytes.
//   - S_DACK lacks a sequence number for its payload; ours stands before the payload. It is
//     sent only to those who announce that they read it so, as is flag 1 of S_CLOSE, which
//     ends the sender's direction alone.
//   - A peer makes itself known to a relay of its zone by PING (2.3.1). The relay checks by
//     EPC_REQ where the PING came from, forwards from then on, and answers the PING last:
//     PONG says that it forwards. A PING or EPC that crossed another relay counts for
//     nothing. Whoever wants to speak with a peer makes itself known to that peer's relay in
//     the same way; if its own zone is another one, the relay forwards between it and that
//     zone alone. A packet is forwarded only if it bears the ID of the sender that is known
//     at the endpoint that it came from. A relay forgets a sender after 5 minutes of silence.
//   - While the relay of an address is silent, the next one in the order of the zr entries
//     takes its place, for the peer itself and for everybody who looks for it.
//   - An endpoint with an IPv4-mapped IPv6 address is the IPv4 endpoint.
//
// # Notes on our messages
//
//   - HELLO and WELCOME have the MAC and a full sender; COOKIE's MAC is zero, and it counts
//     only if both its fields match a HELLO that is waiting. WELCOME and STALE count only
//     for the index of such a HELLO. Other versions get no answer.
//   - A relay that has too many newcomers answers their PINGs by COOKIE: index 0, the first
//     8 bytes of the PING's payload, 8 zeros, cookie. The newcomer repeats the PING with
//     those 8 bytes and the cookie as its payload. It is never larger than the PING.
//   - WHOIS by broadcast has a zero MAC, a full sender, and the wanted short ID as
//     recipient; only the owner answers. IAM counts only for a pending request, and its
//     address must give back what was asked. A relay answers for its clients
//     and to them; the relay to ask for a ULA is that of its byte sum. "Not found"
//     counts only from a relay, with a MAC.
//   - LINGER is answered by NETID after the delay, to where it came from: so its sender learns
//     whether its NAT keeps a mapping so long without a packet. It counts only from clients
//     of the receiver as a relay, and one at a time of each. The long form is answered at
//     once, from the port that it came to and from another one: so its sender learns whether
//     its NAT lets in what comes from a port to which it did not send. Both answers together
//     are no longer than the request.
//   - FRIENDS is broadcast in place of EPI by who wants to be found by added peers alone. Its
//     header says nothing: sender, recipient, peer IDs and MAC are zero. Each tag is for one
//     peer: the first 8 bytes of the CMAC, under the key of the packets between both, of
//     "anode friends 1" salt[8] sender's address[40] source[16], the IP address that the packet
//     comes from (IPv4-mapped; of Ethernet, the link-local one of the MAC). So nobody
//     repeats it from another address. Salts are random, and so are tags that fill it up to
//     32. Who finds a tag that an added peer made for it answers as to a beacon.
//   - The size in PROBE is that of the whole sealed packet, the UDP payload. One that says
//     another size than it has is dropped.
//   - IP6 is a packet between the ULAs of both ends, which are not sent, so that a source
//     cannot be forged. IP6P is the same for TCP or UDP right behind the fixed header, if
//     the checksum was right and not 0, or was left to the device; the receiver computes
//     it, from ULAs, length and next header.
//   - IP4 is a packet between the IPv4 aliases of both ends (package alias), which are not
//     sent either; it has no options. The first bit of its fragment field stands for IP6P's
//     rule: TCP or UDP right behind the header, with its checksum field sent as 0. Since each
//     end may have other aliases for both, other checksums of TCP and UDP leave the addresses
//     out of the pseudo-header (a UDP checksum of 0 stays). An ICMP error quotes a packet of
//     the recipient to the sender, whose addresses are 0, also for its header's checksum; the
//     ICMP checksum is not changed by that. Each end puts its own aliases in.
//   - GROUP is a packet to a multicast group, or by broadcast, from the sender's ULA or alias.
//     It counts only where both ends have the other one in their virtual LAN, is delivered as
//     if it came from the link, and never sent on. UDP to IPv4 has the first bit of IP4's
//     fragment field set. The broadcast of the sender's range of aliases is
//     100.127.255.255 here, and that of the recipient's at its end.
//   - GROUPS says that the recipient is in the sender's virtual LAN (flag 01), and which groups
//     the sender's programs have joined; it replaces what was said before. It is repeated until
//     GROUPS_ACK comes, a few times, and said again in a new session.
//   - TELL carries requests between people. Its fields depend on the kind, unknown ones are
//     skipped, and a body has at most 8192 bytes. TOLD answers it when its effect is on the
//     disk. A TELL without an answer is repeated with the same ID, and takes effect once.
//   - IP counts only if its source lies in prefixes configured for the peer.
//   - FRAG cuts type and message of one message, never of a FRAG. An exact repetition of a
//     part is ignored. Any other overlap and any other total end the message. A session has
//     4 messages under way, each for 2 s; the oldest goes first, and parts of one that went
//     are dropped. See Reassembler.
//
// # Invitations
//
// An invitation lets a stranger shake hands, also in a network with a secret. It is 16 random
// bytes, the token, which its issuer made and passed on by another channel. An ID[8] and a
// preshared key[32] follow from it by HKDF. HELLO has in the payload of its noise message
//
//	TLV   value
//	0x02  id[8], of the recipient's invitation
//
// and the key takes the place of the network secret in message 2 and in the session. So the
// token is never sent, only the issuer can read the ID, and a recording does not help to guess
// the token, not even together with the issuer's private key.
//
//   - The issuer looks the ID up when it has read message 1, and at most 10 times a minute for
//     each that it knows. The first packet that opens in the session proves the token; a HELLO
//     proves nothing.
//   - If the issuer does not know the ID, or not any more, it answers as if none was named: in a
//     network with a secret, not at all. The guest sees by the key that opens message 2 whether
//     the invitation is known; a replay cannot show that.
//   - The guest sends keepalives until it hears something, and the issuer answers each by one.
//   - In a session by an invitation only PING, PONG, EPC_REQ, EPC, EPI, NAT_T, TELL, TOLD,
//     ERROR and keepalives count, and FRAG of these, in both directions and from everybody. It
//     ends 2 s after there is an ordinary session. The issuer begins that when it has added the
//     guest, and the guest when it has been told the network's secret.
//
// # NAT traversal
//
// Two machines with only a relayed path try to open a direct one, both at the same moment: a
// packet that comes to a NAT before its own side has sent can take the port that its own
// side needs.
//
// HELLO and WELCOME say, to added peers only, in the payload of their noise message
//
//	TLV   value
//	0x05  bit 6: NAT_T modes 1 and 2 are taken
//	0x06  endpoints of UDP, at most 8, the most promising first. Others are skipped; an
//	      endpoint of an unknown kind ends the list
//	0x07  mapping[1]: kind of mapping in the high nibble (0 unknown, 1 no NAT, 2 the same
//	      for all destinations, 3 another one for each destination), choice of ports in the
//	      low one (0 unknown, 1 preserved, 2 in order, 3 random)
//
// What HELLO says counts once the session is confirmed. Endpoints are hints: nothing is sent
// to private addresses on no link of ours, unless both sides name the same public address,
// and so are behind one NAT, nor to multicast, broadcast, or the overlay's.
// Those on a common link are checked at once by EPC_REQ, and all of a machine without NAT.
//
// NAT_T is mode[1] options, sealed, by the relay:
//
//	1 PUNCH    attempt[4] delay ms[2] n[1] endpoints
//	2 PREDICT  attempt[4] endpoint step[2, signed] n[1]
//	3 SPRAY    attempt[4] endpoint sockets[2]
//
// An attempt goes like this:
//
//   - The sender of PUNCH sends to the other side's endpoints delay later, half the round
//     trip of the relayed path, and the receiver to those in PUNCH when it comes, so both at
//     once. It comes twice, with the same attempt ID, as one may be lost. Who gets a PUNCH
//     while its own one is under way sends at once, and the two are one attempt.
//   - Each endpoint gets a sealed EPC_REQ at 0, 30, 80, 180 and 400 ms, until it answers. The
//     source of an authentic EPC_REQ is an endpoint to check too.
//   - PREDICT comes before the PUNCH of its attempt: a NAT that takes ports in order gave the
//     endpoint last, and the receiver sends to n ports too, each step after the one before
//     (8 at most). The side behind such a NAT starts. If both are, the one with the higher
//     address sends PREDICT alone, and the other one starts; both send to the predicted ports
//     first, in their order.
//   - An attempt sends 64 EPC_REQ at most, after the first minute 8, and all attempts with one
//     peer 300 a minute. They follow each other after 2, 5, 15 and 60 s, then every 5
//     minutes while data flows, and anew when either side's network or endpoints change.
//   - A direct path is used in place of a relay once a PROBE of 1232 bytes, or of the most
//     that the relay carries, was answered on it; each side decides for what it sends.
//   - A direct path through a NAT that was silent for longer than NATs remember (20 s if it
//     is not known better) is not trusted: data goes by the relay, and an attempt starts.
//   - SPRAY is neither sent nor acted upon.
//
// # This package
//
// ParseX takes a whole message and returns views of it, valid as long as it is; lengths
// must be exact. Errors are the package's bare sentinels, so that refusing a packet costs
// no memory. AppendX, or the Append method of the parsed form, writes the message behind
// dst. testdata/wire.txt of package anode has each message in hex.
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
