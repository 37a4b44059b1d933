package main_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// crashed reports what a program prints that Go's runtime ended.
func crashed(out string) bool {
	return strings.Contains(out, "goroutine ") || strings.Contains(out, "panic") || strings.Contains(out, "fatal error") || strings.Contains(out, "SIG")
}

// serve starts a daemon without an adapter, waits until it runs, and ends it. It returns
// what the daemon said.
func (h *host) serve(flags ...string) string {
	h.t.Helper()
	p := h.start(append([]string{h.bin, "daemon", "--socket", h.socket(), "--tun", "none", "--port", "0"}, flags...)...)
	within(h.t, dialWait, "a daemon that runs", func() bool {
		select {
		case <-p.done:
			h.t.Fatalf("it has ended: %s", p.output())
		default:
		}
		return strings.Contains(p.output(), "msg=running")
	})
	if code := p.end(syscall.SIGTERM); code != 0 {
		h.t.Errorf("exit code %d", code)
	}
	if out := p.output(); crashed(out) {
		h.t.Errorf("a crash:\n%s", out)
	}
	return p.output()
}

// TestNetStateDamaged: a daemon starts whatever has become of its database, says what it
// did, and keeps its identity; a verb that reads changes nothing.
func TestNetStateDamaged(t *testing.T) {
	a := newMachine(t, "a")
	a.identify()
	for i := range 30 {
		other := filepath.Join(a.dir, fmt.Sprint("other", i))
		a.run(a.bin, "id", "--state", other)
		var self struct{ Address string }
		a.decode(a.run(a.bin, "id", "--json", "--state", other), &self)
		a.run(a.bin, "peers", "add", self.Address, fmt.Sprint("n", i), "--state", a.state())
	}
	a.serve("--state", a.state())
	path := filepath.Join(a.state(), "state.db")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	noise := bytes.Repeat([]byte{0xa5, 0x00, 0x17, 0xff, 0x80}, 40)
	files := map[string][]byte{"empty": {}, "garbage": noise}
	for size := 512; size < 24*512; size += 5 * 512 {
		files[fmt.Sprint("cut to ", size)] = good[:size]
	}
	for at := 0; at < min(len(good), 8*4096); at += 4096 {
		file := slices.Clone(good)
		copy(file[at+16:], noise)
		files[fmt.Sprint("noise at ", at)] = file
	}
	for name, file := range files {
		step(t, name, func(t *testing.T) {
			if err := os.WriteFile(path, file, 0o600); err != nil {
				t.Fatal(err)
			}
			out, code := a.try(a.bin, "peers", "list", "--state", a.state())
			if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, file) || crashed(out) {
				t.Errorf("a reader changed it, or crashed: %v\n%s", err, out)
			}
			if code != 0 && (code != 1 || !strings.Contains(out, "damaged") || !strings.Contains(out, "try: ")) {
				t.Errorf("exit code %d: %s", code, out)
			}
			said := a.serve("--state", a.state())
			if code == 1 && !strings.Contains(said, "the database was damaged") {
				t.Errorf("the daemon does not say so:\n%s", said)
			}
			was := a.address
			if a.identify(); a.address != was {
				t.Error("the address has changed")
			}
		}, a)
	}
}

// ownMounts gives the host's thread mounts of its own.
func (h *host) ownMounts() {
	h.t.Helper()
	_, err := in(h, func() (struct{}, error) {
		return struct{}{}, errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// mount mounts on a directory that it makes.
func (h *host) mount(source, path, kind string, flags uintptr, data string) {
	h.t.Helper()
	_, err := in(h, func() (struct{}, error) {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, unix.Mount(source, path, kind, flags, data)
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// list returns the files of a directory as the host sees it.
func (h *host) list(dir string) (names []string) {
	h.t.Helper()
	entries, err := in(h, func() ([]os.DirEntry, error) { return os.ReadDir(dir) })
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		h.t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestNetStateFull: on a disk that is full, a first start ends with words and without half
// a file, and the next one works; a later start works at once.
func TestNetStateFull(t *testing.T) {
	a := newMachine(t, "a")
	a.ownMounts()
	for _, kb := range []int{4, 8, 12, 16, 20, 24, 28, 32, 36, 40, 64} {
		step(t, fmt.Sprint(kb, " KB"), func(t *testing.T) {
			disk := filepath.Join(a.dir, fmt.Sprint("disk", kb))
			state := filepath.Join(disk, "state")
			a.mount("none", disk, "tmpfs", 0, fmt.Sprintf("mode=700,size=%dk", kb))
			p := a.start(a.bin, "daemon", "--state", state, "--socket", a.socket(), "--tun", "none", "--port", "0")
			within(t, dialWait, "an end, or a start", func() bool {
				select {
				case <-p.done:
					return true
				default:
					return strings.Contains(p.output(), "msg=running")
				}
			})
			p.end(syscall.SIGTERM)
			out := p.output()
			if crashed(out) {
				t.Errorf("a crash:\n%s", out)
			}
			if !strings.Contains(out, "msg=running") && !(strings.Contains(out, "no space left on device") && strings.Contains(out, "try: ")) {
				t.Errorf("neither a start nor a reason:\n%s", out)
			}
			for _, name := range a.list(state) {
				if name != "state.db" && name != "identity" {
					t.Errorf("%s was left behind", name)
				}
			}
			// Nothing has to be mended once there is room.
			a.mount("none", disk, "tmpfs", unix.MS_REMOUNT, "size=4m")
			if said := a.serve("--state", state); strings.Contains(said, "damaged") {
				t.Error(said)
			}
			// And a disk that fills up later stops no start, and loses nothing.
			fill := filepath.Join(disk, "fill")
			if _, err := in(a, func() (struct{}, error) {
				err := os.WriteFile(fill, make([]byte, 8<<20), 0o600)
				if !errors.Is(err, syscall.ENOSPC) {
					return struct{}{}, fmt.Errorf("the disk is not full: %w", err)
				}
				return struct{}{}, nil
			}); err != nil {
				t.Fatal(err)
			}
			a.serve("--state", state)
			if _, code := a.try(a.bin, "peers", "list", "--state", state); code != 0 {
				t.Error("the peers cannot be listed on a full disk")
			}
		}, a)
	}
}

// TestNetStateReadOnly: on a disk that is read-only, a daemon says so; with --read-only it
// runs with what is there; with --state none it needs no disk.
func TestNetStateReadOnly(t *testing.T) {
	a, b := newHost(t, "a"), newHost(t, "b")
	a.add(b)
	a.ownMounts()
	a.mount(a.state(), a.state(), "", unix.MS_BIND, "")
	a.mount("", a.state(), "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY, "")
	before := a.list(a.state())

	daemon := []string{a.bin, "daemon", "--socket", a.socket(), "--tun", "none", "--port", "0", "--state"}
	out, code := a.try(append(daemon, a.state())...)
	if code != 1 || !strings.Contains(out, "read-only") || !strings.Contains(out, "try: --read-only") {
		t.Errorf("exit code %d: %s", code, out)
	}
	if out := a.run(a.bin, "peers", "list", "--state", a.state()); !strings.Contains(out, b.address.ID().String()) {
		t.Errorf("the peers are not listed: %s", out)
	}
	out, code = a.try(a.bin, "peers", "remove", "b", "--state", a.state())
	if code != 1 || !strings.Contains(out, "read-only") {
		t.Errorf("exit code %d: %s", code, out)
	}

	p := a.start(append(daemon, a.state(), "--read-only")...)
	a.node = p
	a.ready()
	if s := a.status(); s.Address != a.address || len(s.Peers) != 1 || s.Peers[0].Address != b.address {
		t.Errorf("it runs as %s with %v", s.Address, s.Peers)
	}
	a.anode("peers", "remove", "b")
	if n := len(a.status().Peers); n != 0 {
		t.Errorf("%d peers after one was removed", n)
	}
	p.end(syscall.SIGTERM)
	if !strings.Contains(p.output(), "the state is only read") {
		t.Errorf("no warning:\n%s", p.output())
	}
	if after := a.list(a.state()); !slices.Equal(before, after) {
		t.Errorf("the directory had %v, and has %v", before, after)
	}
	if out := a.run(a.bin, "peers", "list", "--state", a.state()); !strings.Contains(out, b.address.ID().String()) {
		t.Errorf("what was changed in memory is on the disk: %s", out)
	}

	if said := a.serve("--state", "none"); !strings.Contains(said, "nothing is kept") || strings.Contains(said, a.address.String()) {
		t.Errorf("no warning, or the address of the disk:\n%s", said)
	}
}

// forbid makes system calls fail with EPERM for the host's thread, and for all programs that
// it starts.
func (h *host) forbid(calls ...uint32) {
	h.t.Helper()
	filter := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}} // the call's number
	for _, n := range calls {
		filter = append(filter,
			unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: n},
			unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)})
	}
	filter = append(filter, unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW})
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, err := in(h, func() (struct{}, error) {
		return struct{}{}, errors.Join(
			unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
			unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0))
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

// TestNetStateNoLinks: where the file system has no hard links, and even no rename that
// spares existing files, an identity and a database are made, and a damaged one is kept.
func TestNetStateNoLinks(t *testing.T) {
	for name, calls := range map[string][]uint32{
		"no links":                  {unix.SYS_LINKAT},
		"no links and no renameat2": {unix.SYS_LINKAT, unix.SYS_RENAMEAT2},
	} {
		t.Run(name, func(t *testing.T) {
			a := newMachine(t, "a")
			a.forbid(calls...)
			_, err := in(a, func() (struct{}, error) { return struct{}{}, os.Link(a.bin, filepath.Join(a.dir, "link")) })
			if !errors.Is(err, syscall.EPERM) {
				t.Fatalf("links can be made: %v", err)
			}
			a.identify()
			a.serve("--state", a.state())
			if got := a.list(a.state()); !slices.Equal(got, []string{"identity", "state.db"}) {
				t.Errorf("the directory has %v", got)
			}
			if err := os.WriteFile(filepath.Join(a.state(), "state.db"), []byte("garbage"), 0o600); err != nil {
				t.Fatal(err)
			}
			if said := a.serve("--state", a.state()); !strings.Contains(said, "is kept as") {
				t.Error(said)
			}
			was := a.address
			if a.identify(); a.address != was || len(a.list(a.state())) != 3 {
				t.Errorf("the address was %s and is %s; %v", was, a.address, a.list(a.state()))
			}
		})
	}
}
