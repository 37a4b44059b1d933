package platform

import (
	"bufio"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Groups returns the multicast groups that programs and the kernel have joined on an interface, IPv6
// and IPv4, sorted, each once.
func Groups(index int) (list []netip.Addr, err error) {
	c, err := dialNetlink(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, err
	}
	defer c.close()
	list, err = c.groups(unix.AF_INET6, index)
	if err != nil {
		return nil, fmt.Errorf("reading the IPv6 groups: %w", err)
	}
	// Kernels before 6.15 do not know this request for IPv4. With one that does, each interface that
	// is up has the group of all hosts at least.
	fourth, err := c.groups(unix.AF_INET, index)
	if err != nil || len(fourth) == 0 {
		if fourth, err = groupsOfProc(index); err != nil {
			return nil, fmt.Errorf("reading the IPv4 groups: %w", err)
		}
	}
	list = append(list, fourth...)
	slices.SortFunc(list, netip.Addr.Compare)
	return slices.Compact(list), nil
}

// groups asks the kernel for the groups of one family.
func (c *conn) groups(family byte, index int) (list []netip.Addr, err error) {
	err = c.dump(func(e *encoder) {
		e.message(unix.RTM_GETMULTICAST, unix.NLM_F_DUMP, addrHeader(family, index, 0), nil)
	}, func(body []byte) {
		if a, of, ok := parseGroup(body); ok && of == index && familyOf(a) == family {
			list = append(list, a)
		}
	})
	return list, err
}

// parseGroup reads a message about a group, which is built like one about an address.
func parseGroup(b []byte) (group netip.Addr, index int, ok bool) {
	if len(b) < unix.SizeofIfAddrmsg {
		return group, 0, false
	}
	err := eachAttr(b[unix.SizeofIfAddrmsg:], func(kind uint16, value []byte) {
		if a, is := netip.AddrFromSlice(value); kind == unix.IFA_MULTICAST && is {
			group = a
		}
	})
	return group, number(b[4:]), err == nil && group.IsMulticast()
}

// groupsOfProc reads the IPv4 groups of an interface from the file for this thread's network
// namespace.
func groupsOfProc(index int) ([]netip.Addr, error) {
	f, err := os.Open("/proc/thread-self/net/igmp")
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // a kernel without IGMP
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return parseIGMP(f, index)
}

// parseIGMP reads the kernel's list of groups, in which each address is a number in the machine's
// order:
//
//	Idx	Device    : Count Querier	Group    Users Timer	Reporter
//	2	eth0      :     1      V3
//				010000E0     1 0:00000000		0
func parseIGMP(r io.Reader, index int) (list []netip.Addr, err error) {
	lines := bufio.NewScanner(r)
	at := -1
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		switch {
		case len(f) == 0 || f[0] == "Idx":
		case strings.HasPrefix(lines.Text(), "\t"):
			b, err := hex.DecodeString(f[0])
			if at != index || err != nil || len(b) != 4 {
				continue
			}
			var a [4]byte
			binary.NativeEndian.PutUint32(a[:], binary.BigEndian.Uint32(b))
			if g := netip.AddrFrom4(a); g.IsMulticast() {
				list = append(list, g)
			}
		default:
			if at, err = strconv.Atoi(f[0]); err != nil {
				return nil, fmt.Errorf("the list of groups has a line %q", lines.Text())
			}
		}
	}
	return list, lines.Err()
}
