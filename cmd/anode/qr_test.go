package main

import (
	"bufio"
	"context"
	"fmt"
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
	for _, s := range []screen{small, {80, 23}} { // quiet zones of 2 and of 3
		c, _, err := fitQR(aLink(), s)
		if err != nil {
			t.Fatal(err)
		}
		for _, colors := range []bool{true, false} {
			checkLines(t, c, colors)
		}
	}
}

func checkLines(t *testing.T, c qrCode, colors bool) {
	t.Helper()
	lines, above := c.lines(colors), c.quiet+c.quiet%2 // the code begins with an upper half
	if len(lines) != (c.size()+1)/2 {
		t.Fatalf("%d lines", len(lines))
	}
	for y, line := range lines {
		cells := readCells(t, line, colors)
		if len(cells) != c.size() {
			t.Fatalf("line %d has %d cells", y, len(cells))
		}
		for x, cell := range cells {
			if x, y := x-c.quiet, 2*y-above; c.code.Black(x, y) != cell[0] || c.code.Black(x, y+1) != cell[1] {
				t.Fatalf("module %d, %d is wrong", x, y)
			}
		}
	}
}

// readCells reads what a line of a code shows, upper and lower halves: true is black. Lines with colours
// must not paint the upper half of a cell, nor all of it.
func readCells(t *testing.T, line string, colors bool) (cells [][2]bool) {
	t.Helper()
	if !colors {
		for _, r := range line {
			cells = append(cells, [2]bool{r != '█' && r != '▀', r != '█' && r != '▄'})
		}
		return cells
	}
	line, ended := strings.CutSuffix(line, qrEnd)
	if !ended || strings.ContainsAny(line, "█▀") {
		t.Fatalf("%q", line)
	}
	for _, run := range strings.Split(line, "\x1b[")[1:] {
		color, text, _ := strings.Cut(run, "m")
		var painted, around int
		if _, err := fmt.Sscanf(color, "38;5;%d;48;5;%d", &painted, &around); err != nil {
			t.Fatal(color, err)
		}
		for _, r := range text {
			cell := [2]bool{around == 16, around == 16}
			if r == '▄' {
				cell[1] = painted == 16
			}
			cells = append(cells, cell)
		}
	}
	return cells
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

// TestQRScreenshot shows the code in a terminal, dark or light, with fonts in which half blocks leave
// gaps, and has another program read a picture of the screen, and one such as a camera would make.
func TestQRScreenshot(t *testing.T) {
	const trueType = "DejaVu Sans Mono"
	for _, tool := range []string{"Xvfb", "xterm", "import", "convert", "zbarimg", "fc-match"} {
		_, err := exec.LookPath(tool)
		orSkip(t, err)
	}
	file, err := exec.Command("fc-match", "-f", "%{file}", trueType).Output()
	if err == nil && !strings.HasSuffix(string(file), "DejaVuSansMono.ttf") {
		err = fmt.Errorf("no %s, but %s", trueType, file)
	}
	orSkip(t, err)
	people, socket := servePeople(t)
	display := startScreen(t)
	for _, c := range []struct {
		name, guest, fg, bg, size, env string
		lines                          int
	}{
		{"light", "east", "black", "white", "", "", 24},
		{"dark", "east", "white", "black", "", "", 24},
		{"relay", "far", "white", "black", "", "", 24},
		{"no colours", "east", "white", "black", "", "NO_COLOR=1", 24},
		{"TrueType", "east", "white", "black", "8", "", 24},
		{"TrueType light", "east", "black", "white", "11", "", 24},
		{"TrueType relay", "far", "white", "black", "14", "", 24},
		{"TrueType no colours", "east", "white", "black", "11", "NO_COLOR=1", 24},
		{"TrueType line less", "east", "white", "black", "8", "", 23}, // as in tmux, which has a line of its own
		{"TrueType line less light", "east", "black", "white", "10", "", 23},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			args := []string{"-geometry", fmt.Sprintf("80x%d+0+0", c.lines), "-fg", c.fg, "-bg", c.bg}
			if c.size != "" {
				args = append(args, "-fa", trueType, "-fs", c.size)
			}
			x := exec.CommandContext(ctx, "xterm", append(args, "-e", "sh", "-c", "anode invite "+c.guest+" --qr; printf '$ '; exec sleep 30")...)
			x.Env = append(os.Environ(), "DISPLAY="+display, "ANODE_SOCKET="+socket, "LC_ALL=C.UTF-8", c.env)
			if err := x.Start(); err != nil {
				t.Fatal(err)
			}
			defer func() { cancel(); _ = x.Wait() }()
			text, picture := readScreen(ctx, t, display)
			got, err := invite.Parse(text)
			want := people.last()
			if len(want.Relays) == 0 && c.lines >= small.lines && text != want.QR() {
				t.Errorf("read %s, want %s", text, want.QR())
			}
			if err != nil || got.Token != want.Token || !slices.Equal(got.Relays, want.Relays) {
				t.Errorf("got %s, %v", text, err)
			}
			if again := readCode(ctx, photograph(ctx, t, picture)); again != text {
				t.Errorf("a camera reads %q", again)
			}
		})
	}
}

// orSkip skips a test for want of something, which must be there in CI.
func orSkip(t *testing.T, missing error) {
	t.Helper()
	switch {
	case missing == nil:
	case os.Getenv("CI") != "":
		t.Fatal(missing)
	default:
		t.Skip(missing)
	}
}

// photograph makes of a picture one that is as if held askew, out of focus, dim and noisy.
func photograph(ctx context.Context, t *testing.T, picture string) string {
	t.Helper()
	photo := filepath.Join(t.TempDir(), "photo.jpg")
	out, err := exec.CommandContext(ctx, "convert", picture, "-filter", "Triangle", "-resize", "150%", "-virtual-pixel", "edge",
		"-distort", "Perspective", "0,0 36,18 1200,0 1164,54 1200,900 1188,855 0,900 12,891",
		"-blur", "0x2", "-modulate", "92", "-seed", "7", "-attenuate", "0.35", "+noise", "Gaussian", "-quality", "70", photo).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return photo
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

// readScreen takes pictures of a screen until there is a code in one, and returns both.
func readScreen(ctx context.Context, t *testing.T, display string) (text, picture string) {
	t.Helper()
	picture = filepath.Join(t.TempDir(), "screen.png")
	for ctx.Err() == nil {
		shot := exec.CommandContext(ctx, "import", "-display", display, "-window", "root", picture)
		if out, err := shot.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if text := readCode(ctx, picture); text != "" {
			return text, picture
		}
		_ = wait(ctx, 100*time.Millisecond)
	}
	t.Fatal("no code was read")
	return "", ""
}

// readCode returns the text of the code in a picture; empty: there is none that can be read.
func readCode(ctx context.Context, picture string) string {
	read := exec.CommandContext(ctx, "zbarimg", "-q", "--raw", picture)
	read.Stderr = io.Discard
	out, err := read.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}
