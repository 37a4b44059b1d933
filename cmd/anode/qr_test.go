package main

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"anodenet/anode/invite"
	"anodenet/anode/wire"
	"anodenet/cmd/internal/control"
)

// small is the usual terminal.
var small = screen{80, 24}

// aLink is a link as most are: three endpoints.
func aLink() invite.Link {
	return invite.Link{Address: westAddress, Token: fixtureToken, Expires: fixtureTime, Name: "north",
		Endpoints: []wire.Endpoint{mustEndpoint("udp:[2001:db8::1]:8737"), mustEndpoint("udp:192.0.2.1:8737"), mustEndpoint("udp:10.0.0.1:8737")}}
}

func farLink() invite.Link {
	l := aLink()
	l.Relays = []invite.Relay{{Address: hubAddress, Endpoint: mustEndpoint("udp:198.51.100.7:8737")}, {Address: southAddress, Endpoint: mustEndpoint("udp:198.51.100.8:8737")}}
	return l
}

// TestQRFits: a link is shown in full if it fits, and without what is needed least if not.
func TestQRFits(t *testing.T) {
	long := aLink()
	long.Name = strings.Repeat("n", invite.MaxName)
	for _, c := range []struct {
		what    string
		link    invite.Link
		screen  screen
		leftOut string
		quiet   int
	}{
		{"no terminal", farLink(), screen{}, "", 4},
		{"large", farLink(), screen{120, 50}, "", 4},
		{"usual", aLink(), small, "", 2},
		{"usual, long name", long, small, "the name", 2},
		{"usual, relays", farLink(), small, "the name, the second relay, endpoints, the time", 2},
		{"one line less", aLink(), screen{80, 23}, "the name, endpoints", 3},
		{"narrow", aLink(), screen{40, 50}, "the name, endpoints", 1},
	} {
		got, ok, err := fitQR(c.link, c.screen)
		if err != nil || !ok || strings.Join(got.leftOut, ", ") != c.leftOut || got.quiet != c.quiet || !c.screen.fits(got.size()) {
			t.Errorf("%s: %v, %v: %d modules, quiet zone %d, without %q", c.what, ok, err, got.code.Size, got.quiet, got.leftOut)
		}
	}
	if c, ok, err := fitQR(farLink(), screen{80, 20}); ok || err != nil || c.size() != 43 {
		t.Errorf("too small: %v, %v, %d", ok, err, c.size())
	}
}

// TestQRLines reads the half blocks back, with colours and without.
func TestQRLines(t *testing.T) {
	c, _, err := fitQR(aLink(), small)
	if err != nil {
		t.Fatal(err)
	}
	for _, colors := range []bool{true, false} {
		lines := c.lines(colors)
		if len(lines) != (c.size()+1)/2 {
			t.Fatalf("%d lines", len(lines))
		}
		for y, line := range lines {
			bare := strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(line, qrColors), qrEnd), qrFull, "█")
			if colors == (bare == line) {
				t.Fatalf("line %d: %q", y, line)
			}
			for x, r := range []rune(bare) {
				upper, lower := r == '█' || r == '▀', r == '█' || r == '▄'
				if x, y := x-c.quiet, 2*y-c.quiet; c.code.Black(x, y) != (upper == colors) || c.code.Black(x, y+1) != (lower == colors) {
					t.Fatalf("module %d, %d is wrong", x, y)
				}
			}
		}
	}
}

func TestShorter(t *testing.T) {
	for _, l := range []invite.Link{aLink(), farLink(), {Address: westAddress}} {
		for i, s := range shorter(l) {
			switch {
			case s.link.Address != l.Address || s.link.Token != l.Token:
				t.Error("the token must stay")
			case len(s.link.Endpoints)+len(s.link.Relays) == 0 && len(l.Endpoints) > 0:
				t.Error("no way to the issuer is left")
			case i > 0 && len(s.link.String()) >= len(shorter(l)[i-1].link.String()):
				t.Error("not shorter")
			}
		}
	}
}

// TestQRScreenshot shows the code in a terminal, dark or light, and has another program read a
// picture of the screen.
func TestQRScreenshot(t *testing.T) {
	for _, tool := range []string{"Xvfb", "xterm", "import", "zbarimg"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	people, socket := servePeople(t)
	display := startScreen(t)
	for _, c := range []struct{ name, guest, fg, bg, env string }{
		{"light", "east", "black", "white", ""},
		{"dark", "east", "white", "black", ""},
		{"relay", "far", "white", "black", ""},
		{"no colours", "east", "white", "black", "NO_COLOR=1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			x := exec.CommandContext(ctx, "xterm", "-geometry", "80x24+0+0", "-fg", c.fg, "-bg", c.bg,
				"-e", "sh", "-c", "anode invite "+c.guest+" --qr; printf '$ '; exec sleep 30")
			x.Env = append(os.Environ(), "DISPLAY="+display, "ANODE_SOCKET="+socket, "LC_ALL=C.UTF-8", c.env)
			if err := x.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { cancel(); _ = x.Wait() }()
			text := readScreen(ctx, t, display)
			got, err := invite.Parse(text)
			want := people.last()
			if len(want.Relays) == 0 && text != want.QR() {
				t.Errorf("read %s, want %s", text, want.QR())
			}
			if err != nil || got.Token != want.Token || !slices.Equal(got.Relays, want.Relays) {
				t.Errorf("got %s, %v", text, err)
			}
		})
	}
}

func (p *fixturePeople) last() invite.Link {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.issued
}

// servePeople runs a control server for the length of a test.
func servePeople(t *testing.T) (*fixturePeople, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "socket")
	l, err := control.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	people, served := newFixturePeople(), make(chan error, 1)
	s := control.NewServer(newFixture(), newFixtureTalk(), cancel, slog.New(slog.DiscardHandler))
	s.ServePeople(people)
	go func() { served <- s.Serve(ctx, l) }()
	t.Cleanup(func() { cancel(); <-served })
	return people, socket
}

// startScreen runs an X server without a screen, and returns its name.
func startScreen(t *testing.T) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	x := exec.Command("Xvfb", "-displayfd", "3", "-screen", "0", "800x600x24", "-nolisten", "tcp")
	x.ExtraFiles = []*os.File{w}
	if err := x.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { _ = x.Process.Kill(); _ = x.Wait() })
	_ = r.SetReadDeadline(time.Now().Add(20 * time.Second))
	line, err := bufio.NewReader(r).ReadString('\n')
	if _, bad := strconv.Atoi(strings.TrimSpace(line)); err != nil || bad != nil {
		t.Fatal("the X server does not start: ", line, err)
	}
	return ":" + strings.TrimSpace(line)
}

// readScreen takes pictures of a screen until there is a code in one.
func readScreen(ctx context.Context, t *testing.T, display string) string {
	t.Helper()
	picture := filepath.Join(t.TempDir(), "screen.png")
	for ctx.Err() == nil {
		shot := exec.CommandContext(ctx, "import", "-display", display, "-window", "root", picture)
		if out, err := shot.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		read := exec.CommandContext(ctx, "zbarimg", "-q", "--raw", picture)
		read.Stderr = io.Discard
		if out, err := read.Output(); err == nil && len(out) > 0 {
			return strings.TrimSpace(string(out))
		}
		_ = wait(ctx, 100*time.Millisecond)
	}
	t.Fatal("no code was read")
	return ""
}
