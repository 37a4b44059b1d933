package people

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"strings"
	"unicode/utf8"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
)

// The bounds of bodies, in bytes.
const (
	maxName     = 32 // of a name in ASK, ACCEPT and INTRO
	maxSaid     = 64 // of what a peer calls itself
	maxNote     = 140
	maxAsk      = 512
	maxProfile  = 4 << 10
	maxServices = 16
	maxTexts    = 8   // of a service
	maxText     = 255 // of one of them, and of a service's type and name (RFC 1035, 3.3)
	maxWays     = 4   // endpoints and relays, each
)

// errBody says that a body cannot be read. Its sender is told no more.
var errBody = errors.New("malformed body")

// Reason says why a BYE was said.
type Reason uint8

// The reasons.
const (
	Left    Reason = 0 // I removed you
	Used    Reason = 1 // somebody else used your invitation
	Over    Reason = 2 // your invitation is expired or revoked
	Removed Reason = 3 // you were removed since you used your invitation
)

// ask is ASK: name, text (a note), address (who introduced us).
type ask struct {
	Name, Note string
	Via        anode.Address // zero: nobody
}

// accept is ACCEPT: name, which the sender gave its receiver.
type accept struct{ Name string }

// bye is BYE: state (a reason), or an address: a peer that the sender brought, and removed.
type bye struct {
	Why    Reason
	Remove anode.Address
}

// profile is PROFILE: name, services, secret.
type profile struct {
	Name     string
	Services []Service
	Secret   [32]byte // zeros: not told
}

// intro is INTRO: address, name, text (a note), endpoints, relays; state 1: a device of the sender's person.
type intro struct {
	Address   anode.Address
	Name      string
	Note      string
	Endpoints []wire.Endpoint
	Relays    []Relay
	Mine      bool
}

// text adds a field if there is something in it.
func text(f wire.Fields, t wire.FieldType, s string) wire.Fields {
	if s == "" {
		return f
	}
	return append(f, wire.Field{Type: t, Value: []byte(s)})
}

func address(f wire.Fields, a anode.Address) wire.Fields {
	if a.IsZero() {
		return f
	}
	return append(f, wire.Field{Type: wire.FieldAddress, Value: a[:]})
}

func (a ask) body() []byte {
	return address(text(text(nil, wire.FieldName, a.Name), wire.FieldText, a.Note), a.Via).Append(nil)
}

func (a accept) body() []byte { return text(nil, wire.FieldName, a.Name).Append(nil) }

func (b bye) body() []byte {
	f := address(nil, b.Remove)
	if b.Why != Left {
		f = append(f, wire.Field{Type: wire.FieldState, Value: []byte{byte(b.Why)}})
	}
	return f.Append(nil)
}

// body leaves out the services for which there is no room.
func (p profile) body() []byte {
	f := text(nil, wire.FieldName, p.Name)
	if p.Secret != [32]byte{} {
		f = append(f, wire.Field{Type: wire.FieldSecret, Value: p.Secret[:]})
	}
	b := f.Append(nil)
	for _, s := range p.Services[:min(len(p.Services), maxServices)] {
		v := append(binary.BigEndian.AppendUint16(nil, s.Port), s.Proto)
		v = append(v, strings.Join(append([]string{s.Type, s.Name}, s.TXT...), "\x00")...)
		if next := (wire.Fields{{Type: wire.FieldService, Value: v}}).Append(b); len(next) <= maxProfile {
			b = next
		}
	}
	return b
}

func (i intro) body() []byte {
	f := text(text(address(nil, i.Address), wire.FieldName, i.Name), wire.FieldText, i.Note)
	for _, e := range i.Endpoints[:min(len(i.Endpoints), maxWays)] {
		f = append(f, wire.Field{Type: wire.FieldEndpoint, Value: e.Append(nil)})
	}
	for _, r := range i.Relays[:min(len(i.Relays), maxWays)] {
		f = append(f, wire.Field{Type: wire.FieldRelay, Value: r.Endpoint.Append(bytes.Clone(r.Address[:]))})
	}
	if i.Mine {
		f = append(f, wire.Field{Type: wire.FieldState, Value: []byte{1}})
	}
	return f.Append(nil)
}

// fields are those of a body that is read. The first fault stays.
type fields struct {
	wire.Fields
	err error
}

func parseFields(b []byte, most int) (f fields) {
	if len(b) > most {
		return fields{err: errBody}
	}
	f.Fields, f.err = wire.ParseFields(b)
	return f
}

// text returns a text that is safe to show; "" if there is none. Too long a text is a fault.
func (f *fields) text(t wire.FieldType, most int) string {
	v, _ := f.Get(t)
	if len(v) > most {
		f.err = errBody
		return ""
	}
	return clean(string(v), most)
}

// address returns an address that a key has; zero if there is none.
func (f *fields) address() (a anode.Address) {
	v, ok := f.Get(wire.FieldAddress)
	if !ok {
		return a
	}
	a, err := anode.AddressFromBytes(v)
	if err != nil || a.IsZero() {
		f.err = errBody
		return anode.Address{}
	}
	return a
}

// state returns a state; 0 if there is none.
func (f *fields) state() uint8 {
	v, ok := f.Get(wire.FieldState)
	if ok && len(v) != 1 {
		f.err = errBody
	}
	if !ok || f.err != nil {
		return 0
	}
	return v[0]
}

func parseAsk(b []byte) (a ask, err error) {
	f := parseFields(b, maxAsk)
	a = ask{f.text(wire.FieldName, maxName), f.text(wire.FieldText, maxNote), f.address()}
	return a, f.err
}

func parseAccept(b []byte) (a accept, err error) {
	f := parseFields(b, maxAsk)
	a = accept{f.text(wire.FieldName, book.MaxName)}
	return a, f.err
}

func parseBye(b []byte) (y bye, err error) {
	f := parseFields(b, maxAsk)
	y = bye{Reason(f.state()), f.address()}
	return y, f.err
}

func parseProfile(b []byte) (p profile, err error) {
	f := parseFields(b, maxProfile)
	p.Name = f.text(wire.FieldName, maxSaid)
	if v, ok := f.Get(wire.FieldSecret); ok && f.err == nil {
		if len(v) != len(p.Secret) {
			return profile{}, errBody
		}
		p.Secret = [32]byte(v)
	}
	for _, v := range f.All(wire.FieldService) {
		if s, ok := parseService(v); ok && len(p.Services) < maxServices {
			p.Services = append(p.Services, s)
		}
	}
	return p, f.err
}

// parseService reads `port[2] proto[1] type NUL name`, and texts with a NUL before each. One that cannot
// be read is skipped: a later version may have others.
func parseService(v []byte) (s Service, ok bool) {
	if len(v) < 3 {
		return s, false
	}
	words := strings.Split(string(v[3:]), "\x00")
	if len(words) < 2 || len(words) > 2+maxTexts {
		return s, false
	}
	for _, w := range words {
		if clean(w, maxText) != w {
			return s, false
		}
	}
	s = Service{Name: words[1], Type: words[0], Proto: v[2], Port: binary.BigEndian.Uint16(v), TXT: words[2:]}
	return s, s.Type != "" && s.Port != 0
}

func parseIntro(b []byte) (i intro, err error) {
	f := parseFields(b, wire.MaxTell)
	i = intro{Address: f.address(), Name: f.text(wire.FieldName, book.MaxName), Note: f.text(wire.FieldText, maxNote), Mine: f.state() == 1}
	if f.err != nil || i.Address.IsZero() {
		return intro{}, errBody
	}
	for _, v := range f.All(wire.FieldEndpoint) {
		if e, ok := parseWay(v); ok && len(i.Endpoints) < maxWays {
			i.Endpoints = append(i.Endpoints, e)
		}
	}
	for _, v := range f.All(wire.FieldRelay) {
		if len(v) < anode.AddressSize || len(i.Relays) == maxWays {
			continue
		}
		a, err := anode.AddressFromBytes(v[:anode.AddressSize])
		if e, ok := parseWay(v[anode.AddressSize:]); ok && err == nil {
			i.Relays = append(i.Relays, Relay{a, e})
		}
	}
	return i, nil
}

// parseWay reads an endpoint that somebody else names. It must not be one of this machine.
func parseWay(v []byte) (e wire.Endpoint, ok bool) {
	e, rest, err := wire.ParseEndpoint(v)
	if err != nil || len(rest) > 0 || book.CheckEndpoint(e) != nil {
		return wire.Endpoint{}, false
	}
	return e, e.Addr == netip.AddrPort{} || !e.Addr.Addr().IsLoopback()
}

// clean makes a text of others safe to show, in at most a number of bytes: one line of UTF-8,
// without control characters and without those that change the direction of text. Cleaning twice
// changes nothing.
func clean(s string, most int) string {
	s = strings.Trim(strings.Map(cleanRune, s), " ")
	for len(s) > most {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return strings.Trim(s, " ")
}

// cleanRune maps a rune to what stands for it; -1: nothing does.
func cleanRune(r rune) rune {
	switch {
	case r == '\n', r == '\r', r == '\t', r == '\v', r == '\f', r == 0x85, r == 0x2028, r == 0x2029:
		return ' '
	case r < ' ', 0x7f <= r && r < 0xa0, r == 0xfeff, 0xfff9 <= r && r <= 0xfffb, r == utf8.RuneError,
		0x200b <= r && r <= 0x200f, 0x202a <= r && r <= 0x202e, 0x2060 <= r && r <= 0x206f, r == 0x061c:
		return -1
	}
	return r
}
