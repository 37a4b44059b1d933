package info2

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

var t0 = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

// silent feeds the pieces at one moment each, with a long silence after each.
func silent(t *testing.T, pieces ...string) []frame {
	t.Helper()
	var p parser
	var out []frame
	var err error
	now := t0
	for _, b := range pieces {
		if out, err = p.feed(now, []byte(b), out); err != nil {
			t.Fatal(err)
		}
		now = now.Add(silence)
		out, _ = p.tick(now, out)
	}
	return out
}

func send(mid, text string) frame {
	f := frame{kind: kindSend, text: text}
	copy(f.mid[:], mid)
	return f
}

func ip(s string) netip.Addr {
	if s == "" {
		return netip.Addr{}
	}
	return netip.MustParseAddr(s)
}

// TestSeenInTheWild has every message that programs of other authors were seen to send,
// with what we make of it; and what follows from the rules of the package comment.
func TestSeenInTheWild(t *testing.T) {
	hello, ok, ask := frame{kind: kindHello}, frame{kind: kindOK}, frame{kind: kindFriendRequest}
	back := func(a string) frame { return frame{kind: kindBackconnect, addr: ip(a)} }
	friend := func(a string) frame { return frame{kind: kindFriend, addr: ip(a)} }
	logoff := frame{kind: kindLogoff, mid: midOf(123456), addr: ip("127.0.0.1")}
	unknown, malformed := frame{}, frame{kind: kindMalformed}
	one := func(f ...frame) []frame { return f }
	for _, c := range []struct {
		name string
		in   []string // each a write, followed by silence
		want []frame
	}{
		{"hello of the memo", []string{"INFO2 CONNECT/0.6\n\n"}, one(hello)},
		{"hello without the blank line", []string{"INFO2 CONNECT/0.6"}, one(hello)},
		{"hello with one newline", []string{"INFO2 CONNECT/0.6\n"}, one(hello)},
		{"hello 0.600000", []string{"INFO2 CONNECT/0.600000\n\n"}, one(hello)},
		{"hello 0.7", []string{"INFO2 CONNECT/0.7\n\n"}, one(hello)},
		{"hello 0.1", []string{"INFO2 CONNECT/0.1\n\n"}, one(hello)},
		{"hello 12", []string{"INFO2 CONNECT/12\r\n\r\n"}, one(hello)},
		{"hello below 0.1", []string{"INFO2 CONNECT/0.06\n\n"}, one(malformed)},
		{"hello 0", []string{"INFO2 CONNECT/0\n\n"}, one(malformed)},
		{"hello without a number", []string{"INFO2 CONNECT/x\n\n"}, one(malformed)},
		{"hello with a sign", []string{"INFO2 CONNECT/-1\n\n"}, one(malformed)},
		{"hello and SEND in one segment", []string{"INFO2 CONNECT/0.6\n\nSEND 123456 hi"}, one(hello, send("123456", "hi"))},
		{"hello and SEND, one newline", []string{"INFO2 CONNECT/0.6\nSEND 123456 hi"}, one(hello, send("123456", "hi"))},
		{"OK of the memo", []string{"INFO2 OK\n\n"}, one(ok)},
		{"OK with a slash", []string{"INFO2/OK\n\n"}, one(ok)},
		{"both in a row", []string{"INFO2 OK\n\nINFO2/OK\n\n"}, one(ok, ok)},
		{"both with one newline", []string{"INFO2 OK\nINFO2/OK"}, one(ok, ok)},
		{"not OK", []string{"INFO2 OKAY\n\n"}, one(unknown)},

		{"SEND of the memo", []string{"SEND 123456 This is an example message"}, one(send("123456", "This is an example message"))},
		{"SEND with a blank line", []string{"SEND 123456 a\n\n"}, one(send("123456", "a"))},
		{"SEND with CRLF", []string{"SEND 123456 a\r\n\r\nSEND 2 b\r\n\r\n"}, one(send("123456", "a"), send("000002", "b"))},
		{"SEND with a NUL", []string{"SEND 123456 a\x00"}, one(send("123456", "a"))},
		{"two without a terminator", []string{"SEND 1 a", "SEND 2 b"}, one(send("000001", "a"), send("000002", "b"))},
		{"two in one segment", []string{"SEND 1 a\nSEND 2 b"}, one(send("000001", "a"), send("000002", "b"))},
		{"never inside a line", []string{"SEND 1 please SEND 2 b"}, one(send("000001", "please SEND 2 b"))},
		{"two lines of text", []string{"SEND 1 a\nb\nSENDER c"}, one(send("000001", "a\nb\nSENDER c"))},
		{"identifier of one digit", []string{"SEND 7 Hello"}, one(send("000007", "Hello"))},
		{"identifier with zeros is the same", []string{"SEND 000007 Hello"}, one(send("000007", "Hello"))},
		{"identifier of six bytes", []string{"SEND ab\xc3\x28e\xff text"}, one(send("ab\xc3\x28e\xff", "text"))},
		{"identifier that begins like a number", []string{"SEND 12ab!x text"}, one(send("12ab!x", "text"))},
		{"identifier of seven digits", []string{"SEND 1234567 text"}, one(send("123456", "7 text"))},
		{"text at offset 12", []string{"SEND 99    text"}, one(send("000099", "text"))},
		{"identifier with a control byte", []string{"SEND a\x01cdef text"}, one(malformed)},
		{"identifier with a newline", []string{"SEND a\nSEND 5 b"}, one(malformed, send("000005", "b"))},
		{"no text", []string{"SEND 123456"}, one(send("123456", ""))},
		{"no identifier", []string{"SEND hi\n\n"}, one(malformed)},

		{"BACKCONNECT, bare", []string{"BACKCONNECT 10.0.0.1"}, one(back("10.0.0.1"))},
		{"BACKCONNECT with a blank line", []string{"BACKCONNECT 10.0.0.1\n\n"}, one(back("10.0.0.1"))},
		{"BACKCONNECT with a slash", []string{"BACKCONNECT/10.0.0.1"}, one(back("10.0.0.1"))},
		{"BACKCONNECT over the adapter", []string{"BACKCONNECT fd00::1"}, one(back("fd00::1"))},
		{"BACKCONNECT of a name", []string{"BACKCONNECT localhost"}, one(back(""))},
		{"BACKCONNECT alone", []string{"BACKCONNECT"}, one(back(""))},
		{"BACKCONNECTED", []string{"BACKCONNECTED"}, one(unknown)},
		{"FRIEND REQUEST", []string{"FRIEND REQUEST\n\n"}, one(ask)},
		{"FRIEND REQUEST, bare", []string{"FRIEND REQUEST"}, one(ask)},
		{"FRIENDREQUEST", []string{"FRIENDREQUEST", "FRIENDREQUEST\n\n"}, one(ask, ask)},
		{"friend reply", []string{"10.0.0.7"}, one(friend("10.0.0.7"))},
		{"friend reply, none", []string{"0.0.0.0"}, one(friend("0.0.0.0"))},
		{"friend reply with a newline", []string{"10.0.0.7\n"}, one(friend("10.0.0.7"))},
		{"friend reply over the adapter", []string{"fd00::7"}, one(friend("fd00::7"))},
		{"friend reply with a scope", []string{"fe80::7%eth0"}, one(unknown)},
		{"LOGOFF of the memo", []string{"LOGOFF 123456 127.0.0.1"}, one(logoff)},
		{"LOGOFF of nobody", []string{"LOGOFF 123456 me"}, one(malformed)},

		{"padded with NUL", []string{"SEND 1 a\x00\x00\x00\x00", "SEND 2 b\x00\x00"}, one(send("000001", "a"), send("000002", "b"))},
		{"padded with rubbish", []string{"SEND 1 a\x00@\x7fQLjunk SEND 9 no", "SEND 2 b\x00"}, one(send("000001", "a"), send("000002", "b"))},
		{"padding ends at a keyword", []string{"SEND 1 a\x00SEND 2 b\x00old text\n\nSEND 3 c"}, one(send("000001", "a"), send("000002", "b"), send("000003", "c"))},
		{"friend reply in a buffer", []string{"10.0.0.7\x00\x00\x00\x00\x11\x22"}, one(friend("10.0.0.7"))},
		{"padding before", []string{"\x00\x00\n\n  SEND 1 a"}, one(send("000001", "a"))},
		{"nothing but padding", []string{"\x00\r\n\x00 \n\n"}, nil},
		{"another protocol", []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n"}, one(unknown)},
		{"lower case is no keyword", []string{"send 1 a"}, one(unknown)},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := silent(t, c.in...); !slices.Equal(got, c.want) {
				t.Errorf("%q\n got %v\nwant %v", c.in, got, c.want)
			}
		})
	}
}

// TestSilence: a message ends exactly when its last byte is 200 ms old.
func TestSilence(t *testing.T) {
	var p parser
	out, _ := p.feed(t0, []byte("SEND 1 a"), nil)
	out, _ = p.feed(t0.Add(silence-1), []byte("b"), out)
	if out, _ = p.tick(t0.Add(2*silence-2), out); len(out) != 0 {
		t.Fatalf("too early: %v", out)
	}
	if at := p.deadline(); !at.Equal(t0.Add(2*silence - 1)) {
		t.Fatalf("deadline %v", at.Sub(t0))
	}
	// The next byte comes late, and nobody has called tick.
	out, _ = p.feed(t0.Add(time.Second), []byte("c\n\n"), out)
	if want := []frame{send("000001", "ab"), {}}; !slices.Equal(out, want) {
		t.Fatalf("got %v", out)
	}
	if !p.deadline().IsZero() {
		t.Error("a deadline with nothing to end")
	}
}

// TestTooLong: 4096 bytes are a message, one more is an error, with every way to
// divide and to end it.
func TestTooLong(t *testing.T) {
	fit := "SEND 123456 " + strings.Repeat("x", maxFrame-12)
	for _, c := range []struct {
		in string
		ok bool
	}{
		{fit, true}, {fit + "\n\n", true}, {fit + "x", false}, {fit + "x\n\n", false}, {fit + "\nSEND 2 b", true},
		{fit + "\nSENx", false}, {fit + "\x00" + fit[:4000], true}, {fit + "\x00" + fit, true}, {fit + "\x00x" + fit, false},
		{fit + "\x00x" + fit + "\nSEND 1 a", false},
	} {
		for _, step := range []int{1, 1000, len(c.in)} {
			var p parser
			var err error
			for b := range slices.Chunk([]byte(c.in), step) {
				if _, err = p.feed(t0, b, nil); err != nil {
					break
				}
				if cap(p.buf) > 4*maxFrame {
					t.Fatalf("holds %d bytes", cap(p.buf))
				}
			}
			if (err == nil) != c.ok {
				t.Errorf("%d bytes in steps of %d: %v", len(c.in), step, err)
			}
		}
	}
}

// TestTooLongAtTheEnd: bytes that might have become a keyword, and did not, count.
func TestTooLongAtTheEnd(t *testing.T) {
	for rest, ok := range map[string]bool{"": true, "\n": true, "\n\r": true, "\nSEN": false} {
		for _, silent := range []bool{true, false} {
			var p parser
			_, err := p.feed(t0, []byte("SEND 123456 "+strings.Repeat("x", maxFrame-12)+rest), nil)
			if err != nil {
				t.Fatal(err)
			}
			var out []frame
			if silent {
				out, err = p.tick(t0.Add(silence), nil)
			} else {
				out, err = p.end(nil)
			}
			if (err == nil) != ok || (len(out) == 1) != ok {
				t.Errorf("%q, silence %v: %d frames, %v", rest, silent, len(out), err)
			}
		}
	}
}

// TestHelloBound: 64 bytes hold a hello, with what is around it, and what follows
// it does not count; more than that without one is too much.
func TestHelloBound(t *testing.T) {
	for _, c := range []struct {
		in string
		ok bool
	}{
		{helloLine + strings.Repeat("x", 1000) + "\n\n", true},
		{"INFO2 CONNECT/0.6\x00" + strings.Repeat("x", 1000), true},
		{strings.Repeat("\x00", maxHello-17) + helloLine, true},
		{strings.Repeat("\x00", maxHello-16) + helloLine, false},
		{strings.Repeat("\n", maxHello), true},
		{strings.Repeat("\n", maxHello+1), false},
		{strings.Repeat("x", maxHello), true},
		{strings.Repeat("x", maxHello) + "\n\n", true},
		{strings.Repeat("x", maxHello+1), false},
		{strings.Repeat("\nA", maxHello), false},
		{helloLine[:17] + strings.Repeat("\r", 100) + "\n\n", false},
	} {
		for _, step := range []int{1, 2, 3, 7, 64, len(c.in)} {
			p := parser{hello: true}
			var err error
			for b := range slices.Chunk([]byte(c.in), step) {
				if _, err = p.feed(t0, b, nil); err != nil {
					break
				}
			}
			if (err == nil) != c.ok {
				t.Errorf("%.40q in steps of %d: %v", c.in, step, err)
			}
		}
	}
	// Silence after padding does not begin the count anew.
	p := parser{hello: true}
	var err error
	now := t0
	for range maxHello + 1 {
		if _, err = p.feed(now, []byte("\n"), nil); err != nil {
			break
		}
		now = now.Add(time.Second)
	}
	if err == nil {
		t.Error("padding without end is taken for a hello to come")
	}
}

// TestDivision: however a stream is divided, it has the same frames.
func TestDivision(t *testing.T) {
	for _, in := range []string{
		helloLine + "SEND 1 a\r\n\r\nSEND 2 b\n\nLOGOFF 3 10.0.0.1\n\n",
		"SEND 1 a\nb\nSEND 2 c\nSENDER\nSEND 3 \nFRIEND REQUEST\n\n",
		"SEND 1 a\x00junk\nFRIENDLY\nFRIEND REQUEST\nBACKCONNECT/10.0.0.1\n\n\x00\x00\r\nSEND 4 d\x00",
		"SEND 1 a\nINFO2 CONNECT\nINFO2 CONNECT/0.6\nINFO2 OK\nx\n\n\n\n10.0.0.7\n\n",
		strings.Repeat("\nA", 100) + "\n\n" + strings.Repeat("SEND 5 e\n\n", 20),
	} {
		var whole parser
		want, _ := whole.feed(t0, []byte(in), nil)
		if len(want) < 3 && !strings.HasPrefix(in, "\nA") {
			t.Fatalf("%q has only %v", in, want)
		}
		check := func(what string, pieces ...string) {
			t.Helper()
			var p parser
			var got []frame
			for _, piece := range pieces {
				var err error
				if got, err = p.feed(t0, []byte(piece), got); err != nil {
					t.Fatal(err)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%q %s:\n got %v\nwant %v", in, what, got, want)
			}
		}
		for i := range in {
			check("in two pieces", in[:i], in[i:])
			check("with one byte alone", in[:i], in[i:i+1], in[i+1:])
		}
		check("byte by byte", strings.Split(in, "")...)
	}
}

// TestParserCost counts the bytes that are looked at more than once, for one-byte
// segments: what the parser keeps for the next look is bounded by a keyword, so
// that its work is linear in what arrives.
func TestParserCost(t *testing.T) {
	longest := 0
	for _, w := range keywords {
		longest = max(longest, len(w))
	}
	for _, unit := range []string{"\nA", "A", "\n", "\r", "\nS", "\nSEND", "\nINFO2 CONNECT", "\x00", "\x00\nSEN", "A\n\n", "SEND 1 a\x00FRIEND\n", "\r\nF"} {
		for _, n := range []int{1000, 4000} {
			var p parser
			again := 0
			for i := range n {
				if _, err := p.feed(t0, []byte{unit[i%len(unit)]}, nil); err != nil {
					t.Fatalf("%q, %d bytes: %v", unit, i, err)
				}
				if p.head != 0 {
					t.Fatalf("%q: %d bytes that are done with are kept", unit, p.head)
				}
				left := len(p.buf) - p.scan // are looked at in the next call
				if left > longest+1 {
					t.Fatalf("%q: %d bytes wait for another look", unit, left)
				}
				again += left
			}
			if again > n*longest {
				t.Errorf("%q: %d bytes looked at again of %d", unit, again, n)
			}
		}
	}
}

// TestWriter has the bytes that we send, each.
func TestWriter(t *testing.T) {
	for want, f := range map[string]frame{
		"INFO2 CONNECT/0.6\n\n":      {kind: kindHello},
		"INFO2 OK\n\n":               {kind: kindOK},
		"SEND 000123 a text\n\n":     {kind: kindSend, mid: midOf(123), text: "a text"},
		"LOGOFF 999999 10.0.0.1\n\n": {kind: kindLogoff, mid: midOf(999999), addr: ip("10.0.0.1")},
		"FRIEND REQUEST\n\n":         {kind: kindFriendRequest},
		"BACKCONNECT 10.0.0.1":       {kind: kindBackconnect, addr: ip("10.0.0.1")},
		"10.0.0.7":                   {kind: kindFriend, addr: ip("10.0.0.7")},
		"0.0.0.0":                    {kind: kindFriend},
	} {
		if got := string(f.append([]byte("x"))); got != "x"+want {
			t.Errorf("%v: %q", f, got)
		}
	}
}
