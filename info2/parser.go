package info2

import (
	"bytes"
	"errors"
	"time"
)

// errTooLong ends a link: a message of more than maxFrame bytes, or a hello
// that is not complete after maxHello.
var errTooLong = errors.New("info2: message too long")

// parser cuts a stream into frames. A message ends at a blank line (LF or
// CRLF), a NUL, the end of the stream, or 200 ms of silence; at a single
// newline only if a keyword follows; never inside a line. What follows a NUL is
// padding until a keyword begins a line, or silence.
//
// It is a pure machine: the same bytes and times give the same frames, however
// the bytes are divided among calls of the same moment. Its cost is linear in
// the bytes: what was looked at once is not looked at again, except for the
// last newline and the few bytes after it that may become a keyword.
type parser struct {
	hello bool // the first message is awaited: maxHello bytes at most, padding included

	buf  []byte    // from start on, the message begun and what came after it
	head int       // of buf, the bytes that are done with
	scan int       // of buf, where the search for the message's end goes on
	last time.Time // when the last byte came

	skipping  bool // in the padding after a NUL
	lineStart bool // of that padding
	skipped   int  // bytes of that padding, or of the padding before a hello
}

// feed takes the next bytes of the stream and appends the frames that they
// complete. After an error the stream is of no more use.
func (p *parser) feed(now time.Time, b []byte, out []frame) ([]frame, error) {
	out, err := p.tick(now, out)
	p.last = now
	for err == nil && len(b) > 0 {
		n := min(len(b), maxFrame)
		p.buf = append(p.buf, b[:n]...)
		b = b[n:]
		out, err = p.cut(out, false)
		p.compact()
	}
	return out, err
}

// tick lets silence end a message.
func (p *parser) tick(now time.Time, out []frame) ([]frame, error) {
	if at := p.deadline(); at.IsZero() || now.Before(at) {
		return out, nil
	}
	return p.end(out)
}

// deadline returns when tick has something to do, zero for never.
func (p *parser) deadline() time.Time {
	if len(p.buf) == p.head && !p.skipping {
		return time.Time{}
	}
	return p.last.Add(silence)
}

// end takes what is left as complete: the stream is over, or silent.
func (p *parser) end(out []frame) ([]frame, error) {
	out, err := p.cut(out, true)
	p.drop(len(p.buf) - p.head)
	p.compact()
	if p.skipping {
		p.skipping, p.skipped = false, 0
	}
	return out, err
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
		p.trim()
		at, next, done := p.frameEnd(final)
		if at-p.head > p.limit() {
			return out, errTooLong
		}
		if !done || at == p.head {
			return out, nil
		}
		out = append(out, parseFrame(p.buf[p.head:at]))
		p.hello = false
		if next > at && p.buf[next-1] == 0 {
			p.skipping, p.lineStart, p.skipped = true, true, 0
		}
		p.drop(next - p.head)
	}
}

// limit returns how long the message that begins at head may be.
func (p *parser) limit() int {
	if p.hello {
		return maxHello - p.skipped
	}
	return maxFrame
}

// trim drops the padding before a message.
func (p *parser) trim() {
	n := len(p.buf) - p.head - len(bytes.TrimLeft(p.buf[p.head:], padding))
	if p.hello {
		p.skipped += n
	}
	p.drop(n)
}

// skip drops the padding after a NUL, and reports whether a keyword ended it.
func (p *parser) skip(final bool) bool {
	for len(p.buf) > p.head {
		rest := p.buf[p.head:]
		if p.lineStart {
			if rest[0] == 0 || rest[0] == '\r' || rest[0] == '\n' {
				p.skipped++
				p.drop(1)
				continue
			}
			switch keywordAt(rest) {
			case wholly:
				p.skipping = false
				return true
			case partly:
				if !final {
					return false
				}
			}
		}
		n := bytes.IndexAny(rest, "\x00\n") + 1
		p.lineStart = n > 0
		if n == 0 {
			n = len(rest)
		}
		p.skipped += n
		p.drop(n)
	}
	return false
}

// drop ends with the next n bytes of buf.
func (p *parser) drop(n int) {
	p.head += n
	p.scan = max(p.scan, p.head)
}

// compact moves what is not done with to the start of buf.
func (p *parser) compact() {
	if p.head > 0 {
		p.buf = append(p.buf[:0], p.buf[p.head:]...)
		p.scan -= p.head
		p.head = 0
	}
}

// frameEnd finds where in buf the message at head ends, and where the next
// begins. If it is not done, at is where the message ends at the earliest.
func (p *parser) frameEnd(final bool) (at, next int, done bool) {
	for {
		i := bytes.IndexAny(p.buf[p.scan:], "\x00\n")
		if i < 0 {
			p.scan = len(p.buf)
			return p.scan, p.scan, final
		}
		p.scan += i
		if p.buf[p.scan] == 0 {
			return p.scan, p.scan + 1, true
		}
		rest := p.buf[p.scan+1:]
		switch {
		case bytes.HasPrefix(rest, []byte("\n")):
			return p.scan, p.scan + 2, true
		case bytes.HasPrefix(rest, []byte("\r\n")):
			return p.scan, p.scan + 3, true
		case len(rest) == 0 || len(rest) == 1 && rest[0] == '\r':
			return p.scan, p.scan, final
		}
		switch keywordAt(rest) {
		case wholly:
			return p.scan, p.scan + 1, true
		case partly:
			if !final {
				return p.scan, p.scan, false
			}
		}
		p.scan++
	}
}

// match is how far bytes agree with a word.
type match uint8

const (
	not    match = iota
	partly       // the bytes end too early to decide
	wholly
)

// keywordAt compares the start of b with the keywords.
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
