package info2

import (
	"strings"
	"unicode/utf8"
)

// Clean makes a text safe to show and to forward: one line of valid UTF-8
// without control characters. Line breaks and tabs become a space, other
// control characters their pictures (ESC is ␛), bidi controls and bytes that are
// not UTF-8 become U+FFFD; padding at both ends goes. Cleaning twice changes
// nothing.
func Clean(text string) string {
	text = strings.ReplaceAll(text, "\r\n", "\n")
	text = strings.Map(cleanRune, text)
	return strings.Trim(text, " ")
}

// cleanRune maps a rune to what stands for it; strings.Map gives it U+FFFD for
// bytes that are no rune.
func cleanRune(r rune) rune {
	switch {
	case r == '\n', r == '\r', r == '\t', r == '\v', r == '\f', r == 0x85, r == 0x2028, r == 0x2029:
		return ' '
	case r < ' ':
		return 0x2400 + r
	case r == 0x7f:
		return 0x2421
	case 0x80 <= r && r < 0xa0, isBidi(r), r == 0xfeff, 0xfff9 <= r && r <= 0xfffb:
		return utf8.RuneError
	}
	return r
}

// isBidi names the characters that change the direction of what follows
// (UAX #9, explicit and implicit marks).
func isBidi(r rune) bool {
	return 0x202a <= r && r <= 0x202e || 0x2066 <= r && r <= 0x2069 || r == 0x200e || r == 0x200f || r == 0x061c
}

// cutText shortens a clean text to max bytes, at a rune's edge.
func cutText(text string, max int) string {
	if len(text) <= max {
		return text
	}
	for max > 0 && !utf8.RuneStart(text[max]) {
		max--
	}
	return strings.TrimRight(text[:max], " ")
}
