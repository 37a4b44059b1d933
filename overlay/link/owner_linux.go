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

// Holder is a UDP socket, as /proc/net/udp and udp6 list it.
type Holder struct {
	Local netip.AddrPort
	UID   int
	inode uint64
}

// Holders lists the sockets of this network namespace that are bound to the port.
func Holders(port uint16) ([]Holder, error) {
	var list []Holder
	for _, name := range []string{"udp", "udp6"} {
		f, err := os.Open("/proc/thread-self/net/" + name)
		if errors.Is(err, fs.ErrNotExist) && name == "udp6" {
			continue // a kernel without IPv6
		}
		if err != nil {
			return nil, err
		}
		lines := bufio.NewScanner(f)
		lines.Scan() // the header
		for lines.Scan() {
			if h, ok := parseHolder(lines.Text()); ok && h.Local.Port() == port {
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
func parseHolder(line string) (h Holder, ok bool) {
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
	return Holder{netip.AddrPortFrom(a, uint16(p)), int(uid), inode}, true
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
	a, ok := netip.AddrFromSlice(b)
	return a.Unmap(), ok
}

// checkSole returns an error if another node of this user has the port: a socket for all
// addresses that is none of own.
func (s *System) checkSole(port uint16, own ...prober) error {
	list, err := Holders(port)
	if err != nil {
		s.log().Warn("sockets cannot be listed; another node of this user on the same UDP port goes unnoticed", "port", port, "err", err)
		return nil
	}
	var ours []uint64
	for _, c := range own {
		ours = append(ours, inode(c.sock().raw))
	}
	for _, h := range list {
		if h.UID == os.Geteuid() && h.Local.Addr().IsUnspecified() && !slices.Contains(ours, h.inode) {
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
	list, listErr := Holders(port)
	if listErr != nil || len(list) == 0 {
		return &portError{port: port, err: err}
	}
	// Another user's socket is the likely reason, then one for all addresses.
	rank := func(h Holder) int {
		switch {
		case h.UID != os.Geteuid():
			return 0
		case h.Local.Addr().IsUnspecified():
			return 1
		}
		return 2
	}
	first := slices.MinFunc(list, func(a, b Holder) int { return cmp.Compare(rank(a), rank(b)) })
	return &portError{port: port, by: first.String(), another: first.UID != 0 && first.UID != os.Geteuid(), err: err}
}

// String returns who holds the socket, in words.
func (h Holder) String() string {
	who := "user " + strconv.Itoa(h.UID)
	if u, err := user.LookupId(strconv.Itoa(h.UID)); err == nil {
		who = fmt.Sprintf("user %s (%d)", u.Username, h.UID)
	}
	if program, pid := h.Process(); pid != 0 {
		return fmt.Sprintf("%s (process %d) of %s", program, pid, who)
	}
	return "a program of " + who
}

// Process finds a process that has the socket open; pid is 0 if none is seen. Without
// privileges only this user's own processes can be looked at.
func (h Holder) Process() (name string, pid int) {
	want := fmt.Sprintf("socket:[%d]", h.inode)
	fds, _ := filepath.Glob("/proc/[0-9]*/fd/*") // fails for malformed patterns only
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || to != want {
			continue
		}
		dir := filepath.Dir(filepath.Dir(fd))
		comm, err := os.ReadFile(filepath.Join(dir, "comm"))
		pid, err2 := strconv.Atoi(filepath.Base(dir))
		if errors.Join(err, err2) != nil {
			continue
		}
		return printable(string(comm)), pid
	}
	return "", 0
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
