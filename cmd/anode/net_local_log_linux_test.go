package main_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// startOn starts a program with all its output on a file, as the leader of a session; with
// a terminal, it is the session's. The caller still owns the file.
func (h *host) startOn(out *os.File, terminal bool, args ...string) *process {
	h.t.Helper()
	log, err := os.CreateTemp(h.dir, "log") // stays empty
	if err != nil {
		h.t.Fatal(err)
	}
	log.Close()
	p := &process{t: h.t, cmd: exec.Command(args[0], args[1:]...), log: log.Name(), done: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr, p.cmd.Dir = out, out, h.dir
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	if terminal {
		p.cmd.Stdin, p.cmd.SysProcAttr.Setctty = out, true
	}
	h.do(func() { err = p.cmd.Start() })
	if err != nil {
		h.t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		p.cmd.Wait()
	}()
	h.t.Cleanup(func() { p.end(syscall.SIGKILL) })
	return p
}

// launchOn starts up or daemon by startOn and waits until it answers.
func (h *host) launchOn(out *os.File, terminal bool, verb string, before ...string) {
	h.t.Helper()
	h.node = h.startOn(out, terminal, append(before, h.bin, verb, "--state", h.state(), "--socket", h.socket())...)
	h.ready()
}

// pipe makes a pipe; the test's ends are closed at its end.
func pipe(t *testing.T) (in, out *os.File) {
	t.Helper()
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); out.Close() })
	return in, out
}

// full fills a pipe, and returns how many bytes it holds.
func full(t *testing.T, out *os.File) (n int) {
	t.Helper()
	raw, err := out.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) {
		for {
			k, err := unix.Write(int(fd), bytes.Repeat([]byte{'x'}, 1))
			if err != nil {
				return
			}
			n += k
		}
	})
	return n
}

// ends ends the host's daemon by a signal, in time and with an exit code.
func (h *host) ends(s syscall.Signal, code int) {
	h.t.Helper()
	h.node.cmd.Process.Signal(s)
	h.ended(code)
}

// ended waits until the host's daemon has ended. After three seconds it ends by force, which
// the exit code shows (TestOverdue has the limit).
func (h *host) ended(code int) {
	h.t.Helper()
	if got := h.node.wait(dialWait); got != code {
		h.t.Errorf("exit code %d, want %d", got, code)
	}
	h.node = nil
}

// works checks that the daemon answers verbs, and that packets go through to another host.
func (h *host) works(other *host) {
	h.t.Helper()
	h.anode("peers", "rename", other.address.String(), "other")
	h.anode("status", "--json")
	h.meets(other)
}

// TestNetLocalLogStuck: the reader of the output does not read; the network, commands and
// the end go on. When it reads again, it gets the rest.
func TestNetLocalLogStuck(t *testing.T) {
	for _, verb := range []string{"daemon", "up"} {
		t.Run(verb, func(t *testing.T) {
			a, b := pair(t)
			b.up()
			in, out := pipe(t)
			n := full(t, out)
			a.launchOn(out, false, verb)
			a.meets(b)
			if verb == "daemon" {
				a.node.cmd.Process.Signal(syscall.SIGHUP) // logs something
			}
			b.down(syscall.SIGKILL)
			b.up()
			a.works(b)
			a.ends(syscall.SIGTERM, 0)

			a.launchOn(out, false, verb)
			a.works(b)
			out.Close() // the daemon still has it
			if _, err := io.CopyN(io.Discard, in, int64(n)); err != nil {
				t.Fatal(err)
			}
			a.ends(syscall.SIGTERM, 0)
			rest, err := io.ReadAll(in)
			if want := map[string]string{"daemon": "msg=stopped", "up": "Stopped."}[verb]; err != nil || !strings.Contains(string(rest), want) {
				t.Errorf("the rest lacks %q: %q, %v", want, rest, err)
			}
		})
	}
}

// TestNetLocalLogGone: the reader of the output is gone; the daemon lives, and counts the
// lines.
func TestNetLocalLogGone(t *testing.T) {
	for _, verb := range []string{"daemon", "up"} {
		t.Run(verb, func(t *testing.T) {
			a, b := pair(t)
			b.up()
			in, out := pipe(t)
			a.launchOn(out, false, verb)
			out.Close()
			a.meets(b)
			in.Close()
			if verb == "daemon" {
				a.node.cmd.Process.Signal(syscall.SIGHUP)
				within(t, dialWait, "a lost line to be counted", func() bool { return a.status().Counters["log_lines_lost"] > 0 })
			}
			b.down(syscall.SIGKILL)
			b.up()
			a.works(b)
			a.ends(syscall.SIGTERM, 0)
		})
	}
}

// TestNetLocalLogBack: the reader of a named pipe ends and another one comes; it is told how
// many lines are missing.
func TestNetLocalLogBack(t *testing.T) {
	a := newHost(t, "a")
	path := filepath.Join(a.dir, "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	read := func() *os.File {
		f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	in := read()
	out, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	a.launchOn(out, false, "daemon")
	out.Close()
	in.Close()
	reload := func() { a.node.cmd.Process.Signal(syscall.SIGHUP) }
	reload()
	within(t, dialWait, "a lost line to be counted", func() bool { return a.status().Counters["log_lines_lost"] > 0 })
	in = read()
	reload()
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "lines=") && strings.Contains(lines.Text(), "were lost") {
			a.ends(syscall.SIGTERM, 0)
			return
		}
	}
	t.Errorf("the loss was not reported: %v", lines.Err())
}

// terminal makes a pseudo terminal: what is written to keyboard is typed.
func terminal(t *testing.T) (keyboard, screen *os.File) {
	t.Helper()
	keyboard, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { keyboard.Close() })
	raw, err := keyboard.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var n int
	raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err == nil {
			n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN)
		}
	})
	if err == nil {
		screen, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	return keyboard, screen
}

// TestNetLocalTerminal: what happens to the terminal of "anode up".
func TestNetLocalTerminal(t *testing.T) {
	a, b := pair(t)
	before := a.network()
	start := func(h *host, before ...string) (keyboard *os.File) {
		h.t.Helper()
		keyboard, screen := terminal(h.t)
		h.launchOn(screen, true, "up", before...)
		screen.Close()
		return keyboard
	}
	step(t, "closed", func(t *testing.T) {
		start(a).Close()
		a.ended(0)
		if after := a.network(); strings.Join(before, "\n") != strings.Join(after, "\n") {
			t.Errorf("the network was\n%v\nand is\n%v", before, after)
		}
	}, a)
	step(t, "closed under nohup", func(t *testing.T) {
		start(a, "nohup").Close()
		b.up()
		a.works(b)
		a.ends(syscall.SIGTERM, 0)
	}, a, b)
	step(t, "Ctrl-S", func(t *testing.T) {
		keyboard := start(a)
		fmt.Fprint(keyboard, "\x13")
		b.up()
		a.works(b)
		a.ends(syscall.SIGTERM, 0)
	}, a, b)
	step(t, "Ctrl-S and Ctrl-C", func(t *testing.T) {
		keyboard := start(a)
		fmt.Fprint(keyboard, "\x13")
		b.up()
		a.works(b)
		fmt.Fprint(keyboard, "\x03")
		a.ended(0)
	}, a, b)
}

// TestNetLocalStuckClients: clients that send half a request, or read no answer, do not
// delay the end.
func TestNetLocalStuckClients(t *testing.T) {
	a := newHost(t, "a")
	a.up()
	for _, request := range []string{
		"", "GET /v1/sta", "POST /v1/peers/add HTTP/1.1\r\nHost: anode\r\nContent-Length: 100\r\n\r\n{",
		strings.Repeat("GET /v1/status HTTP/1.1\r\nHost: anode\r\n\r\n", 2000),
		"POST /v1/info2/log HTTP/1.1\r\nHost: anode\r\nContent-Length: 22\r\n\r\n{\"last\":1,\"follow\":true}",
	} {
		c, err := net.Dial("unix", a.socket())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetWriteDeadline(time.Now().Add(dialWait / 10)) // the daemon stops reading it at some time
		io.WriteString(c, request)
	}
	a.anode("status")
	a.ends(syscall.SIGTERM, 0)
}

// TestNetLocalHang: a start that waits for a file without end is ended by force, and says so.
func TestNetLocalHang(t *testing.T) {
	a := newHost(t, "a")
	path := filepath.Join(a.dir, "pipe")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	in, out := pipe(t)
	a.node = a.startOn(out, false, a.bin, "daemon", "--config", path, "--state", a.state(), "--socket", a.socket())
	out.Close()
	// It reads its configuration as soon as this end can be opened.
	within(t, dialWait, "the start", func() bool {
		f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		if err == nil {
			t.Cleanup(func() { f.Close() })
		}
		return err == nil
	})
	a.ends(syscall.SIGTERM, 1)
	if said, err := io.ReadAll(in); err != nil || !strings.HasPrefix(string(said), "anode: it did not end within") {
		t.Errorf("it said %q, %v", said, err)
	}
}

// TestNetLocalHead: a client whose reader goes ends by SIGPIPE, as usual programs do.
func TestNetLocalHead(t *testing.T) {
	a := newHost(t, "a")
	in, out := pipe(t)
	in.Close()
	p := a.startOn(out, false, a.bin, "config", "example")
	p.wait(dialWait)
	if s := p.cmd.ProcessState.Sys().(syscall.WaitStatus); s.Signal() != syscall.SIGPIPE {
		t.Errorf("it ended with %v", p.cmd.ProcessState)
	}
}
