package link

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Who may share our port. Linux (6.18, each case tried) lets two UDP sockets have one port and
// one address, or the wildcard and any address, if
//
//	both have SO_REUSEADDR at that moment, whoever owns them; or
//	both have SO_REUSEPORT, and the same user made them.
//
// The more specific address gets the packets. So a socket with SO_REUSEADDR gives its
// packets to any local user who asks. Clearing the option after bind(2) ends that, since the
// kernel looks at its present value; but then our own sockets for beacons could not be opened
// later either. SO_REUSEPORT alone does what is needed: another user can bind neither the
// wildcard, an address of this host, a broadcast, nor ff02::1, with any options, while
// several nodes of one user can hear the same beacons. It must stay set: the kernel chooses
// among the sockets of a group only while they have it. Broadcasts and multicasts are copied
// to every socket that matches; SO_REUSEPORT chooses among the sockets of one address for
// unicasts alone, and ours for beacons have other addresses than the main ones.
//
// The same user could still open the port twice. A name in the abstract namespace, or a TCP
// port, does not prevent that: any user can take it first. The kernel's list of sockets tells
// it: it has the address and the user of each, and nobody can forge it.

// holder is a UDP socket, as /proc/net/udp and udp6 list it.
type holder struct {
	local netip.AddrPort
	uid   int
	inode uint64
}

// holders lists the sockets of this network namespace that are bound to the port.
func holders(port uint16) ([]holder, error) {
	var list []holder
	for _, name := range []string{"udp", "udp6"} {
		f, err := os.Open("/proc/thread-self/net/" + name)
		if errors.Is(err, fs.ErrNotExist) && name == "udp6" && list != nil {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(f)
		lines.Scan() // the header
		for lines.Scan() {
			if h, ok := parseHolder(lines.Text()); ok && h.local.Port() == port {
				list = append(list, h)
			}
		}
		f.Close()
		if err := lines.Err(); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// parseHolder reads a line of the list:
//
//	slot: address:port address:port state queues timer retransmits uid timeout inode ...
func parseHolder(line string) (h holder, ok bool) {
	f := strings.Fields(line)
	if len(f) < 10 {
		return h, false
	}
	address, port, ok := strings.Cut(f[1], ":")
	if !ok {
		return h, false
	}
	a, ok := parseHexAddr(address)
	p, err := strconv.ParseUint(port, 16, 16)
	uid, err2 := strconv.ParseUint(f[7], 10, 32)
	inode, err3 := strconv.ParseUint(f[9], 10, 64)
	if !ok || errors.Join(err, err2, err3) != nil {
		return h, false
	}
	return holder{netip.AddrPortFrom(a, uint16(p)), int(uid), inode}, true
}

// parseHexAddr reads an address that is written as words of 32 bits in the machine's order.
func parseHexAddr(s string) (netip.Addr, bool) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != 4 && len(b) != 16 {
		return netip.Addr{}, false
	}
	for w := b; len(w) > 0; w = w[4:] {
		binary.NativeEndian.PutUint32(w, binary.BigEndian.Uint32(w))
	}
	return netip.AddrFromSlice(b)
}

// checkSole returns an error if another node of this user has the port: a socket for all
// addresses that is none of own.
func (s *System) checkSole(port uint16, own ...prober) error {
	list, err := holders(port)
	if err != nil {
		s.log().Warn("sockets cannot be listed; another node of this user on the same UDP port goes unnoticed", "port", port, "err", err)
		return nil
	}
	var ours []uint64
	for _, c := range own {
		ours = append(ours, inode(c.sock().raw))
	}
	for _, h := range list {
		if h.uid == os.Geteuid() && h.local.Addr().IsUnspecified() && !slices.Contains(ours, h.inode) {
			return &portError{port: port, by: h.String(), err: errInUse}
		}
	}
	return nil
}

// inode returns a socket's inode number, 0 if it is closed.
func inode(raw interface{ Control(func(uintptr)) error }) (n uint64) {
	_ = raw.Control(func(fd uintptr) {
		var st unix.Stat_t
		if unix.Fstat(int(fd), &st) == nil {
			n = st.Ino
		}
	})
	return n
}

// errPortTaken returns the error of a port that cannot be bound. It names the user and the
// program that have it, as far as the system tells.
func errPortTaken(port uint16, err error) error {
	list, listErr := holders(port)
	if listErr != nil || len(list) == 0 {
		return &portError{port: port, err: err}
	}
	// Another user's socket is the likely reason, then one for all addresses.
	rank := func(h holder) int {
		switch {
		case h.uid != os.Geteuid():
			return 0
		case h.local.Addr().IsUnspecified():
			return 1
		}
		return 2
	}
	first := slices.MinFunc(list, func(a, b holder) int { return cmp.Compare(rank(a), rank(b)) })
	return &portError{port: port, by: first.String(), another: first.uid != 0 && first.uid != os.Geteuid(), err: err}
}

// String returns who holds the socket, in words.
func (h holder) String() string {
	who := "user " + strconv.Itoa(h.uid)
	if u, err := user.LookupId(strconv.Itoa(h.uid)); err == nil {
		who = fmt.Sprintf("user %s (%d)", u.Username, h.uid)
	}
	if program, pid := program(h.inode); pid != "" {
		return fmt.Sprintf("%s (process %s) of %s", program, pid, who)
	}
	return "a program of " + who
}

// program finds a process that has a socket open. Without privileges only this user's own
// processes can be looked at.
func program(inode uint64) (name, pid string) {
	want := fmt.Sprintf("socket:[%d]", inode)
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*") // fails for malformed patterns only
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || to != want {
			continue
		}
		dir := filepath.Dir(filepath.Dir(fd))
		comm, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil {
			continue
		}
		return printable(string(comm)), filepath.Base(dir)
	}
	return "", ""
}

// printable returns the name that a process gave itself, without what could mislead a
// terminal.
func printable(name string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return -1
	}, name)
}
