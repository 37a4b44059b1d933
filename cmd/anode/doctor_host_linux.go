package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"anodenet/cmd/internal/control"
	"anodenet/overlay/link"
	"anodenet/platform"
)

// machineFacts reads the facts from Linux. Nothing that it does changes anything.
type machineFacts struct{}

func newMachineFacts() machine { return machineFacts{} }

// dialLimit is how long connecting to the control socket may take, which a daemon that is
// stopped does not delay.
const dialLimit = time.Second

func (machineFacts) holder(ctx context.Context, socket string) (h holder) {
	h.uid = -1
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return h
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return h
	}
	var cred *unix.Ucred
	if raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }) != nil || err != nil {
		return h
	}
	h.uid = int(cred.Uid)
	if cred.Pid <= 0 {
		return h // in another PID namespace
	}
	h.pid = int(cred.Pid)
	h.state = processState(h.pid)
	ours, err1 := os.Readlink("/proc/self/ns/net")
	theirs, err2 := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", h.pid))
	h.elsewhere = err1 == nil && err2 == nil && ours != theirs
	return h
}

// processState returns the state of a process (proc_pid_stat(5)), empty if it is not known.
func processState(pid int) string {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return ""
	}
	return parseStat(string(b))
}

// parseStat reads the state from a line of /proc/PID/stat. The name before it may hold
// blanks and brackets:
//
//	1234 (name) S ...
func parseStat(line string) string {
	end := strings.LastIndex(line, ") ")
	if end < 0 {
		return ""
	}
	state, _, _ := strings.Cut(line[end+2:], " ")
	return state
}

func (machineFacts) rights() (r rights, err error) {
	r.root = os.Geteuid() == 0
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return r, err
	}
	r.netAdmin = data[0].Effective&(1<<unix.CAP_NET_ADMIN) != 0
	gid, ok := control.GroupID()
	if !ok {
		return r, nil
	}
	r.group = true
	groups, err := os.Getgroups()
	r.member = err == nil && slices.Contains(append(groups, os.Getegid()), gid)
	if u, err := user.Current(); err == nil {
		listed, err := u.GroupIds()
		r.listed = err == nil && slices.Contains(listed, strconv.Itoa(gid))
	}
	return r, nil
}

const tunPath = "/dev/net/tun"

func (machineFacts) device() (d device, err error) {
	_, err = os.Stat("/sys/class/misc/tun")
	d.module = err == nil
	f, err := os.OpenFile(tunPath, os.O_RDWR, 0) // makes no interface
	switch {
	case err == nil:
		f.Close()
	case errors.Is(err, fs.ErrNotExist):
		d.missing = true
	case errors.Is(err, unix.ENODEV), errors.Is(err, unix.ENXIO):
		d.err = errNoDriver
	default:
		d.err = err
	}
	return d, nil
}

func (machineFacts) iface(name string) (i iface, err error) {
	l, err := netlink.LinkByName(name)
	var missing netlink.LinkNotFoundError
	if errors.As(err, &missing) {
		return i, nil
	}
	if err != nil {
		return i, err
	}
	i = iface{exists: true, kind: l.Type(), up: l.Attrs().Flags&net.FlagUp != 0, mtu: l.Attrs().MTU}
	if l.Type() == "device" {
		i.kind = ""
	}
	if index := l.Attrs().MasterIndex; index != 0 {
		i.master = fmt.Sprintf("interface %d", index)
		if m, err := netlink.LinkByIndex(index); err == nil {
			i.master = m.Attrs().Name
		}
	}
	addrs, err := netlink.AddrList(l, netlink.FAMILY_V6)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return i, err
	}
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			i.addrs = append(i.addrs, ip)
		}
	}
	return i, nil
}

func (machineFacts) ipv6(adapter string) (x ipv6, err error) {
	off := func(name string) (disabled, known bool) {
		b, err := os.ReadFile(filepath.Join("/proc/sys/net/ipv6/conf", name, "disable_ipv6"))
		return strings.TrimSpace(string(b)) == "1", err == nil
	}
	x.all, x.kernel = off("all")
	x.byDefault, _ = off("default")
	x.loopback, _ = off("lo")
	x.adapter, x.hasAdapter = off(adapter)
	return x, nil
}

func (machineFacts) port(port uint16) (users []portUser, err error) {
	list, err := link.Holders(port)
	for _, h := range list {
		if h.Local.Addr().IsMulticast() {
			continue
		}
		u := portUser{local: h.Local, uid: h.UID}
		u.name, u.pid = h.Process()
		users = append(users, u)
	}
	return users, err
}

func (machineFacts) locker(file string) (pid int, err error) {
	var st unix.Stat_t
	if err := unix.Stat(file, &st); err != nil {
		return 0, err
	}
	f, err := os.Open("/proc/locks")
	if err != nil {
		return 0, err
	}
	defer f.Close()
	return parseLocks(f, unix.Major(st.Dev), unix.Minor(st.Dev), st.Ino)
}

// parseLocks returns the process that holds a lock on a file, 0 if there is none, from
// /proc/locks (proc_locks(5)):
//
//	1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF
func parseLocks(r io.Reader, major, minor uint32, inode uint64) (pid int, err error) {
	want := fmt.Sprintf("%02x:%02x:%d", major, minor, inode)
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		if len(f) >= 6 && f[1] == "FLOCK" && f[5] == want {
			return strconv.Atoi(f[4])
		}
	}
	return 0, lines.Err()
}

// maxRules is the most bytes of a listing of rules.
const maxRules = 16 << 20

func (machineFacts) rules(ctx context.Context) (r firewallRules, err error) {
	if b, err := os.ReadFile("/proc/net/ip_tables_names"); err == nil {
		r.legacy = len(bytes.TrimSpace(b)) > 0
	}
	nft, err := exec.LookPath("nft")
	for _, path := range []string{"/usr/sbin/nft", "/sbin/nft"} { // not in the PATH of users
		if err == nil {
			break
		}
		nft, err = exec.LookPath(path)
	}
	if err != nil {
		return r, errNoTool
	}
	list := exec.CommandContext(ctx, nft, "-j", "list", "ruleset")
	list.WaitDelay = time.Second
	var out bytes.Buffer
	list.Stdout = &limited{w: &out, left: maxRules}
	if err := list.Run(); err != nil {
		return r, fmt.Errorf("nft list ruleset: %w", err)
	}
	r.chains, err = parseNFT(out.Bytes())
	return r, err
}

// limited passes on a number of bytes, and then fails.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(b []byte) (int, error) {
	if l.left -= len(b); l.left < 0 {
		return 0, errors.New("too long")
	}
	return l.w.Write(b)
}

func (machineFacts) synchronised() (bool, error) {
	var t unix.Timex // modes 0: only reads
	state, err := unix.Adjtimex(&t)
	return state != unix.TIME_ERROR && t.Status&unix.STA_UNSYNC == 0, err
}

func (machineFacts) links(adapter string) (link.State, error) {
	var s link.System
	s.Exclude(adapter)
	return s.State()
}

func (machineFacts) takesSource(ula netip.Addr) (bool, error) { return platform.TakesSource(ula) }

func (machineFacts) routeOf(to netip.Addr) (string, error) {
	_, name, err := platform.RouteOf(to)
	return name, err
}

func (machineFacts) covering(adapter string, addrs []netip.Addr) ([]platform.Covering, error) {
	return platform.CoveringPrefixes(adapter, addrs...)
}

func ownerOf(info fs.FileInfo) (uid int, ok bool) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, false
	}
	return int(st.Uid), true
}
