package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"anodenet/platform"
)

// Whether programs find peers by name is tried with the name of this machine, in three ways at
// once. The first that fails, seen from the daemon, is the step to mend:
//
//	direct   the daemon's own server, on our ULA
//	stub     systemd-resolved, which asks the daemon
//	libc     what programs use; it asks whom /etc/resolv.conf names
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
	report platform.NameReport // of the system's resolver; asked for only if libc finds nothing
}

// nameStep is the result of one way.
type nameStep struct {
	absent bool // there is nobody to ask
	addrs  []netip.Addr
	err    error
}

// finds reports whether the address was found.
func (s nameStep) finds(a netip.Addr) bool { return slices.Contains(s.addrs, a) }

// why says in words why it was not.
func (s nameStep) why() string {
	if s.err != nil {
		return printable(plain(s.err))
	}
	return "it knows no such name"
}

const (
	defaultSuffix = "anode.internal" // of peers' names
	selfName      = "self"           // this machine's
	nameWait      = time.Second      // for an answer
)

// namePorts are the ports at which the daemon may answer.
func namePorts() []uint16 { return []uint16{53, 8753} }

func checkNames(ctx context.Context, p *patient) []finding {
	if p.status == nil || p.status.Tun == nil || p.elsewhere {
		return nil
	}
	f, answers := lookUpSelf(ctx, defaultSuffix, p.status.ULA.Addr())
	if !answers {
		return nil // the daemon answers no names
	}
	if !f.libc.finds(f.want) {
		f.report = platform.NewNames(slog.New(slog.DiscardHandler)).Describe()
	}
	return judgeNames(f)
}

// lookUpSelf asks in all ways. It reports whether the daemon's server answers at all.
func lookUpSelf(ctx context.Context, suffix string, ula netip.Addr) (f nameFacts, answers bool) {
	ctx, cancel := context.WithTimeout(ctx, nameWait)
	defer cancel()
	f = nameFacts{name: selfName + "." + suffix, want: ula}
	stub, libc := make(chan nameStep, 1), make(chan nameStep, 1)
	go func() { stub <- askStub(ctx, f.name) }()
	go func() { libc <- askSystem(ctx, f.name) }()
	for _, port := range namePorts() {
		at := netip.AddrPortFrom(ula, port)
		if f.direct = askDNS(ctx, at.String(), f.name); f.direct.err == nil {
			f.server, answers = at, true
			break
		}
	}
	f.stub, f.libc = <-stub, <-libc
	return f, answers
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
		return []finding{{topic, bad, fmt.Sprintf("the daemon's name server at %s does not answer for %s: %s", f.server, f.name, f.direct.why()),
			"anode dns status; then restart the daemon: anode down; anode up", "names_server"}}
	case f.libc.finds(f.want):
		return []finding{{topic, fine, "programs find peers by name: " + f.name + " leads to this machine", "", "names"}}
	case len(f.libc.addrs) > 0:
		return []finding{{topic, bad, fmt.Sprintf("programs find another machine under %s: %s", f.name, f.libc.addrs[0]),
			"remove the name from /etc/hosts, or from the DNS server that has it", "names_other"}}
	case f.stub.finds(f.want):
		return []finding{{topic, warn, "programs do not find peers by name: systemd-resolved knows " + f.name + ", but programs do not ask it, because /etc/resolv.conf does not lead to it",
			"sudo ln -sf ../run/systemd/resolve/stub-resolv.conf /etc/resolv.conf; or install libnss-resolve", "names_resolv_conf"}}
	case !f.stub.absent:
		return []finding{{topic, warn, fmt.Sprintf("programs do not find peers by name: the daemon answers for %s, but systemd-resolved does not ask it: %s", f.name, f.stub.why()),
			"anode dns status", "names_not_asked"}}
	}
	says, try := "programs do not find peers by name: nothing asks the daemon for "+f.name, "anode dns status"
	if f.report.Why != "" {
		says += " (" + f.report.Why + ")"
	}
	if f.report.Try != "" {
		try = strings.ReplaceAll(f.report.Try, "\n", "; ")
	}
	return []finding{{topic, warn, says, try, "names_no_resolver"}}
}
