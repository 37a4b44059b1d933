package dns

import (
	"errors"
	"strings"

	"golang.org/x/net/dns/dnsmessage"

	"anodenet/anode"
	"anodenet/cmd/internal/names"
)

// Sizes of messages.
const (
	ednsSize  = 1232 // bytes that pass everywhere by UDP, with EDNS
	plainSize = 512  // and without (RFC 1035, 4.2.1)
	tcpSize   = 65535

	maxQuery   = 4096 // bytes of a query that is read
	maxRecords = 32   // of a query: it needs one
)

// badVersion is the code that needs EDNS (RFC 6891, 6.1.3).
const badVersion = dnsmessage.RCode(16)

// Answer returns the reply to a query, nil for none. It is at most as long as the query allows,
// and with tcp as a message by TCP can be. It looks at nothing but the snapshot.
func Answer(s *Snapshot, query []byte, tcp bool) []byte { return s.answer(query, tcp).message }

// reply is a message and what it says.
type reply struct {
	message []byte // nil: none
	code    dnsmessage.RCode
	cut     bool
	named   anode.Address // that was asked for by its address; zero: none
}

// answer reads a query and answers it.
func (s *Snapshot) answer(query []byte, tcp bool) reply {
	q, code, ok := read(query)
	switch {
	case !ok:
		return reply{}
	case code != dnsmessage.RCodeSuccess:
		return q.refuse(code)
	case q.version != 0:
		return q.refuse(badVersion)
	case q.question.Class != dnsmessage.ClassINET || transfer(q.question.Type):
		return q.refuse(dnsmessage.RCodeRefused)
	}
	name := strings.TrimSuffix(q.question.Name.String(), ".")
	f := s.look(names.Lower(name))
	if f.zone == "" {
		return q.refuse(dnsmessage.RCodeRefused)
	}
	return q.tell(s, f, tcp)
}

// transfer reports whether a type asks for a whole zone.
func transfer(t dnsmessage.Type) bool { return t == dnsmessage.TypeAXFR || t == typeIXFR }

const typeIXFR = dnsmessage.Type(251)

// query is one that was read.
type query struct {
	header   dnsmessage.Header
	question dnsmessage.Question
	whole    bool // there is a question
	edns     bool
	size     int // bytes that the asker takes by UDP
	version  int
	dnssec   bool
}

// read reads a query. It reports false if nothing can answer it, and a code if there is no more
// to say.
func read(b []byte) (q query, code dnsmessage.RCode, ok bool) {
	var p dnsmessage.Parser
	var err error
	if q.header, err = p.Start(b); err != nil || q.header.Response {
		return q, 0, false
	}
	switch {
	case q.header.OpCode != 0:
		return q, dnsmessage.RCodeNotImplemented, true
	case counts(b) > maxRecords:
		return q, dnsmessage.RCodeFormatError, true
	}
	question, err := p.Question()
	if err != nil {
		return q, dnsmessage.RCodeFormatError, true
	}
	if _, err := p.Question(); !errors.Is(err, dnsmessage.ErrSectionDone) {
		return q, dnsmessage.RCodeFormatError, true
	}
	q.question, q.whole, q.size = question, true, plainSize
	if q.readOptions(&p) != nil {
		return q, dnsmessage.RCodeFormatError, true
	}
	return q, dnsmessage.RCodeSuccess, true
}

// counts returns how many records a message says it has.
func counts(b []byte) (n int) {
	for i := 6; i < 12; i += 2 {
		n += int(b[i])<<8 | int(b[i+1])
	}
	return n
}

var errOptions = errors.New("more than one OPT, or of another name than the root")

// readOptions reads what follows the question, of which EDNS counts.
func (q *query) readOptions(p *dnsmessage.Parser) error {
	if err := p.SkipAllAnswers(); err != nil {
		return err
	}
	if err := p.SkipAllAuthorities(); err != nil {
		return err
	}
	for {
		h, err := p.AdditionalHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Type == dnsmessage.TypeOPT {
			if q.edns || h.Name.Length != 1 || h.Name.Data[0] != '.' {
				return errOptions
			}
			q.edns, q.size, q.version = true, max(plainSize, int(h.Class)), int(h.TTL>>16&0xff)
			q.dnssec = h.DNSSECAllowed()
		}
		if err := p.SkipAdditional(); err != nil {
			return err
		}
	}
}

// refuse makes a reply without records.
func (q query) refuse(code dnsmessage.RCode) reply {
	b, err := q.compose(draft{code: code})
	if err != nil {
		return reply{}
	}
	return reply{message: b, code: code}
}

// tell makes a reply of what was found.
func (q query) tell(s *Snapshot, f found, tcp bool) reply {
	d := draft{authoritative: true, answers: q.wanted(f.records)}
	if !f.exists {
		d.code = dnsmessage.RCodeNameError
	}
	if len(d.answers) == 0 {
		soa, err := s.soa()
		if err != nil {
			return q.refuse(dnsmessage.RCodeServerFailure)
		}
		d.zone, d.soa = f.zone, soa
	}
	d.beside = s.targets(d.answers)
	r := reply{code: d.code, named: f.named}
	limit := tcpSize
	if !tcp {
		limit = min(q.size, ednsSize)
	}
	var err error
	r.message, err = q.compose(d)
	if err == nil && len(r.message) > limit && len(d.beside) > 0 {
		d.beside = nil
		r.message, err = q.compose(d)
	}
	if err == nil && len(r.message) > limit {
		r.cut = true
		r.message, err = q.compose(draft{code: d.code, authoritative: true, cut: true})
	}
	if err != nil {
		return q.refuse(dnsmessage.RCodeServerFailure)
	}
	return r
}

// wanted returns the records of the type that was asked for; of all types, those of the first
// (RFC 8482).
func (q query) wanted(all []record) (list []record) {
	kind := q.question.Type
	if kind == dnsmessage.TypeALL && len(all) > 0 {
		kind = all[0].kind
	}
	for _, r := range all {
		if r.kind == kind {
			list = append(list, r)
		}
	}
	return list
}

// target is the ULA of a machine that an answer names.
type target struct {
	name dnsmessage.Name
	ula  anode.ULA
}

// targets returns the ULAs of the machines of services, so that nobody has to ask for them.
func (s *Snapshot) targets(answers []record) []target {
	for _, r := range answers {
		if srv, ok := r.body.(*dnsmessage.SRVResource); ok { // all name one machine
			front, _ := strings.CutSuffix(srv.Target.String(), "."+s.suffix+".")
			if h := s.byName[front]; h != nil {
				return []target{{srv.Target, h.address.ULA()}}
			}
		}
	}
	return nil
}

// draft is what a reply is composed of.
type draft struct {
	code               dnsmessage.RCode
	authoritative, cut bool
	answers            []record
	zone               string                  // whose soa it is
	soa                *dnsmessage.SOAResource // nil: none
	beside             []target
}

// compose writes a reply. The question is repeated as it was asked, with the case of its letters.
func (q query) compose(d draft) ([]byte, error) {
	b := dnsmessage.NewBuilder(make([]byte, 0, plainSize), dnsmessage.Header{
		ID: q.header.ID, Response: true, OpCode: q.header.OpCode, Authoritative: d.authoritative, Truncated: d.cut,
		RecursionDesired: q.header.RecursionDesired, CheckingDisabled: q.header.CheckingDisabled, RCode: d.code & 15,
	})
	b.EnableCompression()
	if err := b.StartQuestions(); err != nil {
		return nil, err
	}
	if q.whole {
		if err := b.Question(q.question); err != nil {
			return nil, err
		}
	}
	if err := b.StartAnswers(); err != nil {
		return nil, err
	}
	for _, r := range d.answers {
		if err := put(&b, q.head(q.question.Name, ttl), r); err != nil {
			return nil, err
		}
	}
	if err := q.composeRest(&b, d); err != nil {
		return nil, err
	}
	return b.Finish()
}

// composeRest writes what stands behind the answers.
func (q query) composeRest(b *dnsmessage.Builder, d draft) error {
	if err := b.StartAuthorities(); err != nil {
		return err
	}
	if d.soa != nil {
		zone, err := dnsmessage.NewName(d.zone + ".")
		if err != nil {
			return err
		}
		if err := b.SOAResource(q.head(zone, negative), *d.soa); err != nil {
			return err
		}
	}
	if err := b.StartAdditionals(); err != nil {
		return err
	}
	for _, t := range d.beside {
		if err := b.AAAAResource(q.head(t.name, ttl), dnsmessage.AAAAResource{AAAA: t.ula}); err != nil {
			return err
		}
	}
	if !q.edns {
		return nil
	}
	var h dnsmessage.ResourceHeader
	if err := h.SetEDNS0(ednsSize, d.code, q.dnssec); err != nil {
		return err
	}
	return b.OPTResource(h, dnsmessage.OPTResource{})
}

func (q query) head(name dnsmessage.Name, ttl uint32) dnsmessage.ResourceHeader {
	return dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: ttl}
}

// put writes one answer.
func put(b *dnsmessage.Builder, h dnsmessage.ResourceHeader, r record) error {
	switch body := r.body.(type) {
	case *dnsmessage.AAAAResource:
		return b.AAAAResource(h, *body)
	case *dnsmessage.AResource:
		return b.AResource(h, *body)
	case *dnsmessage.TXTResource:
		return b.TXTResource(h, *body)
	case *dnsmessage.SRVResource:
		return b.SRVResource(h, *body)
	case *dnsmessage.PTRResource:
		return b.PTRResource(h, *body)
	case *dnsmessage.NSResource:
		return b.NSResource(h, *body)
	case *dnsmessage.SOAResource:
		return b.SOAResource(h, *body)
	}
	return errors.New("no such record is ever made")
}
