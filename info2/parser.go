package info2

import (
	"bytes"
	"errors"
	"time"
)

// errTooLong ends a link: a message of more than maxFrame bytes.
var errTooLong = errors.New("info2: message too long")

// parser cuts a stream into frames. A message ends at a blank line (LF or
// CRLF), a NUL, the end of the stream, or 200 ms of silence; at a single
// newline only if a keyword follows; never inside a line. What follows a NUL is
// padding until a keyword begins a line, or silence.
//
// It is a pure machine: the same bytes and times give the same frames, however
// the bytes are divided among calls of the same moment.
type parser struct {
	buf  []byte    // the message begun
	last time.Time // when its last byte came

	skipping  bool // in the padding after a NUL
	lineStart bool // of that padding
	skipped   int
}

// feed takes the next bytes of the stream and appends the frames that they
// complete. After an error the stream is of no more use.
func (p *parser) feed(now time.Time, b []byte, out []frame) ([]frame, error) {
	out = p.tick(now, out)
	p.last = now
	for len(b) > 0 {
		n := min(len(b), maxFrame)
		p.buf = append(p.buf, b[:n]...)
		b = b[n:]
		var err error
		if out, err = p.cut(out, false); err != nil {
			return out, err
		}
	}
	return out, nil
}

// tick lets silence end a message.
func (p *parser) tick(now time.Time, out []frame) []frame {
	if at := p.deadline(); at.IsZero() || now.Before(at) {
		return out
	}
	return p.end(out)
}

// deadline is when tick has something to do, zero for never.
func (p *parser) deadline() time.Time {
	if len(p.buf) == 0 && !p.skipping {
		return time.Time{}
	}
	return p.last.Add(silence)
}

// end takes what is left as complete: the stream is over, or silent.
func (p *parser) end(out []frame) []frame {
	// Too long cannot happen here: feed has refused it.
	out, _ = p.cut(out, true)
	p.buf, p.skipping, p.skipped = p.buf[:0], false, 0
	return out
}

// cut appends all frames that are complete in buf; if final, the rest is, too.
func (p *parser) cut(out []frame, final bool) ([]frame, error) {
	for {
		if p.skipping {
			found := p.skip(final)
			if p.skipped > maxFrame {
				return out, errTooLong
			}
			if !found {
				return out, nil
			}
		}
		p.drop(len(p.buf) - len(bytes.TrimLeft(p.buf, padding)))
		if len(p.buf) == 0 {
			return out, nil
		}
		at, next, done := frameEnd(p.buf, final)
		if at > maxFrame {
			return out, errTooLong
		}
		if !done {
			return out, nil
		}
		out = append(out, parseFrame(p.buf[:at]))
		if next > at && p.buf[next-1] == 0 {
			p.skipping, p.lineStart, p.skipped = true, true, 0
		}
		p.drop(next)
	}
}

// skip drops padding, and reports whether a keyword ended it.
func (p *parser) skip(final bool) bool {
	for len(p.buf) > 0 {
		if p.lineStart {
			if bytes.IndexByte([]byte("\x00\r\n"), p.buf[0]) >= 0 {
				p.skipped++
				p.drop(1)
				continue
			}
			switch keywordAt(p.buf) {
			case wholly:
				p.skipping = false
				return true
			case partly:
				if !final {
					return false
				}
			}
		}
		n := bytes.IndexAny(p.buf, "\x00\n") + 1
		p.lineStart = n > 0
		if n == 0 {
			n = len(p.buf)
		}
		p.skipped += n
		p.drop(n)
	}
	return false
}

func (p *parser) drop(n int) {
	p.buf = append(p.buf[:0], p.buf[n:]...)
}

// frameEnd finds where the message at the start of b ends, and where the next
// begins. If it is not done, at is how long the message is at least.
func frameEnd(b []byte, final bool) (at, next int, done bool) {
	for i, c := range b {
		switch c {
		case 0:
			return i, i + 1, true
		case '\n':
			rest := b[i+1:]
			if bytes.HasPrefix(rest, []byte("\n")) {
				return i, i + 2, true
			}
			if bytes.HasPrefix(rest, []byte("\r\n")) {
				return i, i + 3, true
			}
			if len(rest) == 0 || len(rest) == 1 && rest[0] == '\r' {
				return i, i, final
			}
			switch keywordAt(rest) {
			case wholly:
				return i, i + 1, true
			case partly:
				if !final {
					return i, i, false
				}
			}
		}
	}
	return len(b), len(b), final
}

// match says how far bytes agree with a word.
type match uint8

const (
	not    match = iota
	partly       // the bytes end too early to tell
	wholly
)

func keywordAt(b []byte) match {
	best := not
	for _, w := range keywords {
		if len(b) >= len(w) && string(b[:len(w)]) == w {
			return wholly
		}
		if len(b) < len(w) && w[:len(b)] == string(b) {
			best = partly
		}
	}
	return best
}
