package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Whether programs find peers by name is tried with the name of this machine, in three
// ways. The first that fails, seen from the daemon, is the step to mend:
//
//	direct   the daemon's own server, on our ULA
//	stub     systemd-resolved, which asks the daemon
//	libc     what programs use; it asks the servers in /etc/resolv.conf
//
// A system without systemd-resolved may lead to the daemon in another way: libc alone decides.

// nameFacts is what the ways said.
type nameFacts struct {
	name   string // that was looked up
	want   netip.Addr
	server netip.AddrPort // the daemon's
	direct nameStep
	stub   nameStep
	libc   nameStep
	why    string // the system's resolver was not told, as the daemon says
	try    string
}

// nameStep is the result of one way.
type nameStep struct {
	absent bool // there is nobody to ask
	addrs  []netip.Addr
	err    error
}

// finds reports whether the address was found.
func (s nameStep) finds(a netip.Addr) bool { return slices.Contains(s.addrs, a) }

// reason says in words why it was not.
func (s nameStep) reason() string {
	if s.err != nil {
		return printable(plain(s.err))
	}
	return "it knows no such name"
}

// codeNames is that of the finding that all is well.
const codeNames = "names"

const (
	selfName = "self"      // this machine's
	nameWait = time.Second // for an answer
)

func checkNames(ctx context.Context, p *patient) []finding {
	if p.status == nil || p.elsewhere {
		return nil
	}
	v, err := p.client.Names(ctx)
	if err != nil || v.Off != "" {
		return nil
	}
	if v.Server == nil {
		return []finding{{"names", bad, "the daemon does not answer for names: " + printable(v.Problem), v.Try, "names_server"}}
	}
	f := lookUpSelf(ctx, v.Suffix, *v.Server)
	f.why, f.try = v.Resolver.Why, v.Resolver.Try
	return judgeNames(f)
}

// lookUpSelf asks the daemon, and if it answers, in all other ways.
func lookUpSelf(ctx context.Context, suffix string, server netip.AddrPort) nameFacts {
	ctx, cancel := context.WithTimeout(ctx, nameWait)
	defer cancel()
	f := nameFacts{name: selfName + "." + suffix, want: server.Addr(), server: server}
	if f.direct = askDNS(ctx, server.String(), f.name); !f.direct.finds(f.want) {
		return f // which is the step to mend
	}
	stub, libc := make(chan nameStep, 1), make(chan nameStep, 1)
	go func() { stub <- askStub(ctx, f.name) }()
	go func() { libc <- askSystem(ctx, f.name) }()
	f.stub, f.libc = <-stub, <-libc
	return f
}

// askStub asks systemd-resolved, where the system has it.
func askStub(ctx context.Context, name string) nameStep {
	if stubAddress == "" {
		return nameStep{absent: true}
	}
	s := askDNS(ctx, stubAddress, name)
	s.absent = refusedConnection(s.err)
	return s
}

// askDNS asks a server for the IPv6 addresses of a name.
func askDNS(ctx context.Context, at, name string) (s nameStep) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "udp", at)
	if err != nil {
		return nameStep{err: err}
	}
	defer c.Close()
	if end, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(end)
	}
	q, err := nameQuery(name)
	if err != nil {
		return nameStep{err: err}
	}
	if _, err := c.Write(q); err != nil {
		return nameStep{err: err}
	}
	b := make([]byte, 1500)
	n, err := c.Read(b) // from that server alone: the socket is connected
	if err != nil {
		return nameStep{err: err}
	}
	s.addrs, s.err = readAnswer(b[:n])
	return s
}

// nameQuery is a query for AAAA.
func nameQuery(name string) ([]byte, error) {
	n, err := dnsmessage.NewName(name + ".")
	if err != nil {
		return nil, err
	}
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: uint16(time.Now().UnixNano()), RecursionDesired: true},
		Questions: []dnsmessage.Question{{Name: n, Type: dnsmessage.TypeAAAA, Class: dnsmessage.ClassINET}},
	}
	return m.Pack()
}

// readAnswer reads the addresses of an answer. That a name does not exist is none, and no error.
func readAnswer(b []byte) (addrs []netip.Addr, err error) {
	var m dnsmessage.Message
	if err := m.Unpack(b); err != nil || !m.Response {
		return nil, errors.New("its answer cannot be read")
	}
	if m.RCode != dnsmessage.RCodeSuccess && m.RCode != dnsmessage.RCodeNameError {
		return nil, errors.New("it answers " + strings.TrimPrefix(m.RCode.String(), "RCode"))
	}
	for _, r := range m.Answers {
		if a, ok := r.Body.(*dnsmessage.AAAAResource); ok {
			addrs = append(addrs, netip.AddrFrom16(a.AAAA))
		}
	}
	return addrs, nil
}

// judgeNames names the step that fails.
func judgeNames(f nameFacts) []finding {
	const topic = "names"
	switch {
	case !f.direct.finds(f.want):
		return []finding{{topic, warn, fmt.Sprintf("programs do not find peers by name: the daemon's name server at %s does not answer for %s: %s", f.server, f.name, f.direct.reason()),
			"anode dns status; then " + thisService().restart(), "names_server"}}
	case f.libc.finds(f.want):
		return []finding{{topic, fine, "programs find peers by name: " + f.name + " leads to this machine", "", codeNames}}
	case len(f.libc.addrs) > 0:
		return []finding{{topic, bad, fmt.Sprintf("programs find another machine under %s: %s", f.name, f.libc.addrs[0]),
			"remove the name from /etc/hosts, or from the DNS server that has it", "names_other"}}
	case f.stub.finds(f.want):
		return []finding{{topic, warn, "programs do not find peers by name: systemd-resolved knows " + f.name + ", but programs do not ask it, because /etc/resolv.conf does not lead to it",
			"sudo ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf; or install libnss-resolve", "names_resolv_conf"}}
	case !f.stub.absent:
		return []finding{{topic, warn, fmt.Sprintf("programs do not find peers by name: the daemon answers for %s, but systemd-resolved does not ask it: %s", f.name, f.stub.reason()),
			"anode dns status", "names_not_asked"}}
	}
	says, try := "programs do not find peers by name: nothing asks the daemon for "+f.name, "anode dns status"
	if f.why != "" {
		says += " (" + printable(f.why) + ")"
	}
	if f.try != "" {
		try = strings.ReplaceAll(f.try, "\n", "; ")
	}
	return []finding{{topic, warn, says, try, "names_no_resolver"}}
}
