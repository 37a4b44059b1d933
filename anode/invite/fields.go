package invite

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// The fields.
const (
	fieldToken     = 0x01
	fieldExpires   = 0x02
	fieldName      = 0x03
	fieldEndpoints = 0x04
	fieldRelays    = 0x05
	fieldCheck     = 0x7f
)

const (
	headSize  = 2 // type and length
	checkSize = 4
)

// payload writes the fields and the check. The first relay comes before all endpoints when the
// room is shared out: with it a guest gets in from everywhere.
func (l Link) payload() []byte {
	var b []byte
	if !l.Token.IsZero() {
		b = appendField(b, fieldToken, l.Token[:])
	}
	if s := l.Expires.Unix(); !l.Expires.IsZero() && s > 0 && s <= math.MaxUint32 {
		b = appendField(b, fieldExpires, binary.BigEndian.AppendUint32(nil, uint32(s)))
	}
	if goodName(l.Name) {
		b = appendField(b, fieldName, []byte(l.Name))
	}
	room := MaxPayload - headSize - checkSize - len(b)
	relays := l.fitRelays(room, 1)
	endpoints := l.fitEndpoints(room - sizeOf(relays))
	relays = l.fitRelays(room-sizeOf(endpoints), MaxRelays)
	b = appendList(b, fieldEndpoints, endpoints)
	b = appendList(b, fieldRelays, relays)
	sum := check(l.Address, b)
	return appendField(b, fieldCheck, sum[:])
}

// fitEndpoints writes as many endpoints as fit into a field within room, the first ones first.
func (l Link) fitEndpoints(room int) (list []byte) {
	n := 0
	for _, e := range l.Endpoints {
		next := e.Append(list)
		if n == MaxEndpoints || e.Kind == wire.Unspecified || sizeOf(next) > room {
			continue
		}
		list = next
		n++
	}
	return list
}

// fitRelays does the same with at most most relays.
func (l Link) fitRelays(room, most int) (list []byte) {
	n := 0
	for _, r := range l.Relays {
		next := r.Endpoint.Append(append(list, r.Address[:]...))
		if n == most || r.Endpoint.Kind == wire.Unspecified || sizeOf(next) > room {
			continue
		}
		list = next
		n++
	}
	return list
}

// sizeOf returns the size of a list's field.
func sizeOf(list []byte) int {
	if len(list) == 0 {
		return 0
	}
	return headSize + len(list)
}

func appendList(b []byte, kind byte, list []byte) []byte {
	if len(list) == 0 {
		return b
	}
	return appendField(b, kind, list)
}

// appendField writes a field, whose value has at most 255 bytes.
func appendField(b []byte, kind byte, value []byte) []byte {
	return append(append(b, kind, byte(len(value))), value...)
}

// check returns the check of an address and the fields before it.
func check(a anode.Address, fields []byte) (sum [checkSize]byte) {
	h := sha256.New()
	h.Write([]byte(checkLabel))
	h.Write(a[:])
	h.Write(fields)
	copy(sum[:], h.Sum(nil))
	return sum
}

// Faults of a payload. One that is complete has a wrong character.
var (
	errShort = errors.New("a field is cut off or its check is missing")
	errWrong = errors.New("its check is wrong")
)

// parse fills l, whose address is known, from a payload.
func (l *Link) parse(payload []byte) error {
	seen := map[byte]bool{}
	for rest := payload; ; {
		if len(rest) < headSize || len(rest) < headSize+int(rest[1]) {
			return errShort
		}
		kind, value := rest[0], rest[headSize:headSize+int(rest[1])]
		if kind == fieldCheck {
			return l.checked(payload, rest)
		}
		if !seen[kind] {
			seen[kind] = true
			l.field(kind, value)
		}
		rest = rest[headSize+len(value):]
	}
}

// checked compares the check, which last begins with, to the fields before it.
func (l *Link) checked(payload, last []byte) error {
	sum := check(l.Address, payload[:len(payload)-len(last)])
	if string(last) != string(appendField(nil, fieldCheck, sum[:])) {
		return errWrong
	}
	return nil
}

// field reads a field. The check proves that it is as it was written, so a value that cannot
// be read is of a newer program, and skipped like an unknown field.
func (l *Link) field(kind byte, value []byte) {
	switch kind {
	case fieldToken:
		if len(value) == len(l.Token) {
			l.Token = Token(value)
		}
	case fieldExpires:
		if len(value) == 4 {
			if s := binary.BigEndian.Uint32(value); s > 0 {
				l.Expires = time.Unix(int64(s), 0)
			}
		}
	case fieldName:
		if goodName(string(value)) {
			l.Name = string(value)
		}
	case fieldEndpoints:
		l.Endpoints = parseEndpoints(value)
	case fieldRelays:
		l.Relays = parseRelays(value)
	}
}

// parseEndpoints reads endpoints up to the first that it does not know the length of.
func parseEndpoints(b []byte) (list []wire.Endpoint) {
	for len(b) > 0 && len(list) < MaxEndpoints {
		e, rest, err := wire.ParseEndpoint(b)
		if err != nil {
			return list
		}
		if b = rest; e.Kind != wire.Unspecified {
			list = append(list, e)
		}
	}
	return list
}

// parseRelays reads relays up to the first that it cannot read.
func parseRelays(b []byte) (list []Relay) {
	for len(b) > anode.AddressSize && len(list) < MaxRelays {
		a, err := anode.AddressFromBytes(b[:anode.AddressSize])
		if err != nil {
			return list
		}
		e, rest, err := wire.ParseEndpoint(b[anode.AddressSize:])
		if err != nil {
			return list
		}
		if b = rest; e.Kind != wire.Unspecified {
			list = append(list, Relay{a, e})
		}
	}
	return list
}

// goodName reports whether a name is one that book.CheckName accepts.
func goodName(s string) bool {
	if s == "" || len(s) > MaxName || s[0] == '-' || s[0] == '_' {
		return false
	}
	for _, r := range s {
		if !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_') {
			return false
		}
	}
	_, err := anode.ParseID(s)
	return err != nil
}
