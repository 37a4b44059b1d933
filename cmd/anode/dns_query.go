package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/dns/dnsmessage"

	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/names"
)

// queryTypes are the types that "dns query" takes.
var queryTypes = map[string]dnsmessage.Type{
	"A": dnsmessage.TypeA, "AAAA": dnsmessage.TypeAAAA, "TXT": dnsmessage.TypeTXT, "PTR": dnsmessage.TypePTR,
	"SRV": dnsmessage.TypeSRV, "SOA": dnsmessage.TypeSOA, "NS": dnsmessage.TypeNS, "ANY": dnsmessage.TypeALL,
}

// dnsAnswer is the JSON of dns query.
type dnsAnswer struct {
	Schema  int         `json:"schema"`
	Name    string      `json:"name"`
	Type    string      `json:"type"`
	Server  string      `json:"server"`
	Code    string      `json:"code"` // such as NOERROR
	Records []dnsRecord `json:"records"`

	asked, suffix string // what people wrote, and the domain that the server answers for
}

// dnsRecord is one record of an answer.
type dnsRecord struct {
	Name string `json:"name"`
	TTL  uint32 `json:"ttl"` // seconds
	Type string `json:"type"`
	Data string `json:"data"`
}

func (a *app) dnsQuery() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "query NAME [TYPE]",
		Short: "Ask the daemon's DNS server, without the system's resolver",
		Long: "Ask the daemon's DNS server, without the system's resolver. NAME is a name with or without\n" +
			"the suffix, or an IPv6 address. TYPE is AAAA, A, TXT, PTR, SRV, SOA, NS or ANY; without it,\n" +
			"AAAA, or PTR for an address.",
		Args:              want(1, 2),
		ValidArgsFunction: a.completePeer(0),
	}
	asJSON := jsonFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		word := ""
		if len(args) > 1 {
			word = strings.ToUpper(args[1])
			if _, ok := queryTypes[word]; !ok {
				return usage(cmd, "TYPE: want AAAA, A, TXT, PTR, SRV, SOA, NS or ANY, not %q", args[1])
			}
		}
		v, err := a.names(cmd.Context())
		if err != nil {
			return err
		}
		answer, err := askNames(v, args[0], word)
		if err != nil {
			return err
		}
		if *asJSON {
			return errors.Join(a.json(answer), answer.judge())
		}
		a.printRecords(answer)
		return answer.judge()
	}
	return cmd
}

// printRecords prints an answer as lines that people know from other tools.
func (a *app) printRecords(answer dnsAnswer) {
	for _, r := range answer.Records {
		fmt.Fprintf(a.out, "%s %d %s %s\n", r.Name, r.TTL, r.Type, r.Data)
	}
	if answer.Code == "NOERROR" && len(answer.Records) == 0 {
		fmt.Fprintf(a.out, "%s exists, and has no %s record\n", answer.Name, answer.Type)
	}
}

// judge returns the failure that an answer is, nil if the name exists.
func (answer dnsAnswer) judge() error {
	switch answer.Code {
	case "NOERROR":
		return nil
	case "NXDOMAIN":
		return answer.unknown()
	case "REFUSED":
		return &failure{exitFailed, fmt.Sprintf("the daemon answers only for names under %s, not for %s (REFUSED)", answer.suffix, answer.Name), othersTry(answer.Name)}
	}
	return &failure{exitFailed, fmt.Sprintf("the server answers %s for %s", answer.Code, answer.Name), "a name under the suffix that \"anode dns\" shows"}
}

// unknown is the failure of a name that does not exist.
func (answer dnsAnswer) unknown() error {
	f := &failure{exitUnknownPeer, "no such name: " + answer.Name, "anode peers list"}
	_, under := names.Under(answer.asked, answer.suffix)
	switch {
	case isIPv6(answer.asked):
		f.message = "no peer of this machine has the address " + answer.asked
	case names.Domain(strings.TrimSuffix(answer.asked, ".")) && !under && !strings.HasSuffix(answer.asked, ".arpa"):
		f.try += "; a name of the internet: " + othersTry(answer.asked)
	}
	return f
}

// othersTry asks the system, which knows other names too.
func othersTry(name string) string { return "getent ahosts " + name }

func isIPv6(text string) bool {
	ip, err := netip.ParseAddr(text)
	return err == nil && ip.Is6()
}

// askNames asks the daemon's server for a name.
func askNames(v control.NamesView, text, word string) (dnsAnswer, error) {
	if v.Server == nil {
		return dnsAnswer{}, noNameServer(v)
	}
	if err := checkQuery(text); err != nil {
		return dnsAnswer{}, err
	}
	name, usual := wholeName(text, v.Suffix)
	if word == "" {
		word = usual
	}
	question, err := dnsmessage.NewName(name)
	if err != nil {
		return dnsAnswer{}, &failure{exitUsage, fmt.Sprintf("NAME is too long: %q", text), "a shorter one"}
	}
	m, err := exchange(*v.Server, dnsmessage.Question{Name: question, Type: queryTypes[word], Class: dnsmessage.ClassINET})
	if err != nil {
		return dnsAnswer{}, err
	}
	answer := dnsAnswer{schema, strings.TrimSuffix(name, "."), word, v.Server.String(), codeWord(m.RCode), []dnsRecord{}, text, v.Suffix}
	for _, r := range m.Answers {
		answer.Records = append(answer.Records, dnsRecord{strings.TrimSuffix(r.Header.Name.String(), "."), r.Header.TTL, strings.TrimPrefix(r.Header.Type.String(), "Type"), dataOf(r.Body)})
	}
	return answer, nil
}

// checkQuery refuses texts that no name can be made of.
func checkQuery(text string) error {
	ip, err := netip.ParseAddr(text)
	switch {
	case strings.Trim(text, ".") == "":
		return &failure{exitUsage, "NAME is empty", "anode dns query self"}
	case err == nil && !ip.Is6():
		return &failure{exitUsage, "IPv4 addresses have no names here: " + text, "anode whois " + text}
	}
	return nil
}

// wholeName returns the whole name that a text means, and the type that is usual for it.
func wholeName(text, suffix string) (name, usual string) {
	if ip, err := netip.ParseAddr(text); err == nil && ip.Is6() {
		const digits = "0123456789abcdef"
		var b strings.Builder
		raw := ip.As16()
		for i := 31; i >= 0; i-- {
			b.WriteByte(digits[raw[i/2]>>(4*(1-i%2))&15])
			b.WriteByte('.')
		}
		return b.String() + "ip6.arpa.", "PTR"
	}
	if strings.HasSuffix(text, ".arpa") {
		return text + ".", "PTR"
	}
	if _, under := names.Under(text, suffix); under || strings.HasSuffix(text, ".") {
		return strings.TrimSuffix(text, ".") + ".", "AAAA"
	}
	return text + "." + suffix + ".", "AAAA"
}

// queryWait is how long the server has to answer, which is on this machine.
const queryWait = 2 * time.Second

// exchange asks a server by UDP, and by TCP if the answer does not fit.
func exchange(server netip.AddrPort, q dnsmessage.Question) (m dnsmessage.Message, err error) {
	query := dnsmessage.Message{Header: dnsmessage.Header{ID: uint16(rand.Uint32())}, Questions: []dnsmessage.Question{q}}
	b, err := query.Pack()
	if err != nil {
		return m, &failure{exitUsage, fmt.Sprintf("NAME cannot be asked for: %q", q.Name.String()), "labels of 1 to 63 characters"}
	}
	for _, network := range []string{"udp", "tcp"} {
		reply, err := ask(network, server, b)
		if err != nil {
			return m, &failure{exitFailed, fmt.Sprintf("%s does not answer: %v", server, plainNet(err)), "anode dns"}
		}
		if err := m.Unpack(reply); err != nil || m.ID != query.ID {
			return m, &failure{exitFailed, server.String() + " answers with nonsense", "anode doctor"}
		}
		if !m.Truncated {
			break
		}
	}
	return m, nil
}

// plainNet returns an error of the network without addresses and calls.
func plainNet(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}

// ask sends one query and reads one reply.
func ask(network string, server netip.AddrPort, query []byte) ([]byte, error) {
	c, err := net.DialTimeout(network, server.String(), queryWait)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(queryWait)); err != nil {
		return nil, err
	}
	b := make([]byte, 1<<16)
	if network == "udp" {
		if _, err := c.Write(query); err != nil {
			return nil, err
		}
		n, err := c.Read(b)
		return b[:n], err
	}
	if _, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)); err != nil {
		return nil, err
	}
	if _, err := io.ReadFull(c, b[:2]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint16(b)
	_, err = io.ReadFull(c, b[:n])
	return b[:n], err
}

// codeWord returns a code as other tools print it.
func codeWord(code dnsmessage.RCode) string {
	switch code {
	case dnsmessage.RCodeSuccess:
		return "NOERROR"
	case dnsmessage.RCodeNameError:
		return "NXDOMAIN"
	case dnsmessage.RCodeRefused:
		return "REFUSED"
	}
	return strings.TrimPrefix(code.String(), "RCode")
}

// dataOf returns a record as other tools print it.
func dataOf(body dnsmessage.ResourceBody) string {
	switch r := body.(type) {
	case *dnsmessage.AAAAResource:
		return netip.AddrFrom16(r.AAAA).String()
	case *dnsmessage.AResource:
		return netip.AddrFrom4(r.A).String()
	case *dnsmessage.TXTResource:
		var quoted []string
		for _, t := range r.TXT {
			quoted = append(quoted, fmt.Sprintf("%q", t))
		}
		return strings.Join(quoted, " ")
	case *dnsmessage.PTRResource:
		return strings.TrimSuffix(r.PTR.String(), ".")
	case *dnsmessage.NSResource:
		return strings.TrimSuffix(r.NS.String(), ".")
	case *dnsmessage.SRVResource:
		return fmt.Sprintf("%d %d %d %s", r.Priority, r.Weight, r.Port, strings.TrimSuffix(r.Target.String(), "."))
	case *dnsmessage.SOAResource:
		return fmt.Sprintf("%s %d", strings.TrimSuffix(r.NS.String(), "."), r.Serial)
	}
	return "?"
}
