package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"
	"rsc.io/qr"

	"anodenet/anode/invite"
)

// The quiet zone around a QR code, in modules. The standard wants 4; cameras do with 2, and
// most with 1.
const (
	bestQuiet  = 4
	goodQuiet  = 2
	leastQuiet = 1
)

// Colours of the code: black and white of the colour cube, which no theme changes.
const (
	qrBlack = "16"
	qrWhite = "231"
	qrEnd   = "\x1b[0m"
)

// screen is the size of a terminal that a code has to fit; zeros: there is none.
type screen struct{ columns, lines int }

// fits reports whether a square of modules can be shown, with the next prompt below it.
func (s screen) fits(modules int) bool {
	return s == screen{} || modules <= s.columns && (modules+1)/2 < s.lines
}

// screenOf returns the size of the terminal that output goes to.
func (a *app) screenOf() screen {
	f, ok := a.out.(*checkedFile)
	if !ok || !a.terminal {
		return screen{}
	}
	columns, lines, err := term.GetSize(int(f.Fd()))
	if err != nil || columns <= 0 || lines <= 0 {
		return screen{}
	}
	return screen{columns, lines}
}

// qrCode is a code that fits.
type qrCode struct {
	code    *qr.Code
	quiet   int
	leftOut []string // of the link
}

// size returns the modules of a side, with the quiet zone.
func (c qrCode) size() int { return c.code.Size + 2*c.quiet }

// fitQR makes the code of as much of a link as fits the screen. If nothing fits, ok is false,
// and c is the smallest that there is.
func fitQR(l invite.Link, s screen) (c qrCode, ok bool, err error) {
	small := shorter(l)
	for _, least := range []int{goodQuiet, leastQuiet} {
		for _, x := range small {
			if c.code, err = qr.Encode(x.link.QR(), qr.L); err != nil {
				return qrCode{}, false, err
			}
			c.leftOut = x.leftOut
			for c.quiet = bestQuiet; c.quiet >= least; c.quiet-- {
				if s.fits(c.size()) {
					return c, true, nil
				}
			}
			c.quiet = leastQuiet
		}
	}
	return c, false, nil
}

// shortLink is a link without some of its fields.
type shortLink struct {
	link    invite.Link
	leftOut []string
}

// shorter returns a link, and what it can be cut down to: first without the name, then without
// what a guest can do without, because the issuer knows it or because there is a relay.
func shorter(l invite.Link) []shortLink {
	list := []shortLink{{link: l}}
	drop := func(what string) {
		last := list[len(list)-1].leftOut
		if !slices.Contains(last, what) {
			last = append(slices.Clone(last), what)
		}
		list = append(list, shortLink{l, last})
	}
	if l.Name != "" {
		l.Name = ""
		drop("the name")
	}
	if len(l.Relays) > 1 {
		l.Relays = l.Relays[:1]
		drop("the second relay")
	}
	for len(l.Endpoints) > 1 || len(l.Endpoints) == 1 && len(l.Relays) > 0 {
		l.Endpoints = l.Endpoints[:len(l.Endpoints)-1]
		drop("endpoints")
	}
	if !l.Expires.IsZero() {
		l.Expires = time.Time{}
		drop("the time")
	}
	return list
}

// lines returns the code, two rows of modules a line: in black and white if colors is set. Without
// colours the blocks are the white modules, as terminals are dark in most cases. The code begins with
// the upper half of a line: fonts that leave a line of pixels free below ▄ cut its finder patterns else,
// and zbar does not see them. There is room for that, as the modules of a side are an odd number.
func (c qrCode) lines(colors bool) (lines []string) {
	for y := -c.quiet - c.quiet%2; y < c.code.Size+c.quiet; y += 2 {
		var b strings.Builder
		for x, last := -c.quiet, ""; x < c.code.Size+c.quiet; x++ {
			upper, lower := c.code.Black(x, y), c.code.Black(x, y+1)
			if !colors {
				b.WriteString(halfBlock(!upper, !lower))
				continue
			}
			color, cell := qrCell(upper, lower)
			if color != last {
				b.WriteString(color)
			}
			b.WriteString(cell)
			last = color
		}
		if colors {
			b.WriteString(qrEnd)
		}
		lines = append(lines, b.String())
	}
	return lines
}

// qrCell returns a cell of which the halves are black or white, and the colours before it. It has
// as little painted as possible, and never the upper half: TrueType fonts in most sizes leave a line
// free above ▀ and around █, which cuts the code in stripes, and zbar reads none of it.
func qrCell(upper, lower bool) (color, cell string) {
	name := map[bool]string{true: qrBlack, false: qrWhite}
	color = "\x1b[38;5;" + name[lower] + ";48;5;" + name[upper] + "m"
	if upper == lower {
		return color, " "
	}
	return color, "▄"
}

// halfBlock returns a cell of which the upper and the lower half are painted, or not.
func halfBlock(upper, lower bool) string {
	switch {
	case upper && lower:
		return "█"
	case upper:
		return "▀"
	case lower:
		return "▄"
	}
	return " "
}

// printQR prints a link's code, which fits the terminal and the next prompt below it.
func (a *app) printQR(l invite.Link) error {
	s := a.screenOf()
	c, ok, err := fitQR(l, s)
	if err != nil {
		return err
	}
	if !ok {
		return &failure{exitFailed, fmt.Sprintf("the QR code does not fit: the terminal has %d columns and %d lines, and it needs %d and %d",
			s.columns, s.lines, c.size(), (c.size()+1)/2+1), "a larger window or a smaller font, and the same command again; or give the link in another way"}
	}
	if len(c.leftOut) > 0 {
		fmt.Fprintf(a.err, "To fit this terminal, the QR code does without %s; a larger window or a smaller font shows all.\n", strings.Join(c.leftOut, " and "))
	}
	if a.terminal && !a.color {
		fmt.Fprintln(a.err, "Without colours, the QR code is right on a dark terminal only.")
	}
	for _, line := range c.lines(a.color) {
		fmt.Fprintln(a.out, line)
	}
	return nil
}
