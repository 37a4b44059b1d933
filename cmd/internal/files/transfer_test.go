package files

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestTransfer sends a tree with all that a tree may hold.
func TestTransfer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("tree/big", noise(1, 5*pieceSize+17))
		w.write("tree/piece", noise(2, pieceSize))
		w.write("tree/empty", nil)
		w.write("tree/sub/deep/größe — 日本.txt", []byte("x"))
		for i := range 700 {
			w.write(fmt.Sprintf("tree/many/%03d", i), noise(uint64(i), i))
		}
		at := func(name string) string { return filepath.Join(w.from, name) }
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		check(os.Chmod(at("tree/piece"), 0o755))
		check(os.Chmod(at("tree/empty"), 0o444))
		check(os.Symlink("../piece", at("tree/sub/link")))
		check(os.Symlink("../../outside", at("tree/sub/out")))
		check(os.Symlink("/etc/passwd", at("tree/absolute")))
		check(os.Mkdir(at("tree/void"), 0o755))
		old := time.Date(2001, 2, 3, 4, 5, 6, 700, time.UTC)
		check(os.Chtimes(at("tree/big"), old, old))
		check(os.Chtimes(at("tree/sub"), old, old))
		w.write("alone", []byte("a file of its own"))

		o := w.both("tree", "alone")
		check(os.Remove(at("tree/sub/out")))
		check(os.Remove(at("tree/absolute")))
		check(os.Chtimes(at("tree/sub"), old, old))
		info, err := os.Stat(filepath.Join(w.to, "tree"))
		check(err)
		check(os.Chtimes(at("tree"), old, info.ModTime()))
		w.same("tree", "tree")
		w.same("alone", "alone")
		w.clean("alone", "tree")
		if o.Files != 705 || o.Pieces != 6+1+1+699+1 || len(o.Failed) != 0 || w.outcome.Files != 705 || w.outcome.Bytes != o.Bytes {
			t.Errorf("%+v, %+v", o, w.outcome)
		}
		if n := w.received.count(Received); n != 705 {
			t.Errorf("%d files were reported", n)
		}
	})
}

// TestCuts breaks the connection at every kind of place, in both directions.
func TestCuts(t *testing.T) {
	const data = 6*pieceSize + 5
	for _, c := range []struct {
		name   string
		out    []int64
		in     []int64
		pieces int64 // that may go again
	}{
		{"in the preamble", []int64{3}, nil, 0},
		{"in the offer", []int64{40}, nil, 0},
		{"in the first piece", []int64{5000}, nil, 1},
		{"after a piece", []int64{200 + pieceSize}, nil, 1},
		{"in each piece", []int64{pieceSize, pieceSize, pieceSize, pieceSize, pieceSize, pieceSize, pieceSize, pieceSize}, nil, 8},
		{"at the end", []int64{6*pieceSize + 300}, nil, 1},
		{"the answer's preamble", nil, []int64{5}, 0},
		{"the acceptance", nil, []int64{15, 20, 22}, 0},
		{"later answers", nil, []int64{25, 30, 35, 40}, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.write("file", noise(7, data))
				w.net.cuts, w.net.back = c.out, c.in
				o := w.both("file")
				w.same("file", "file")
				w.clean("file")
				if again := o.Pieces - 7; again < 0 || again > c.pieces {
					t.Errorf("%d pieces went again, want at most %d", again, c.pieces)
				}
				if w.sent.count(Interrupted) == 0 {
					t.Error("no connection broke")
				}
			})
		})
	}
}

// TestRestarts ends either side in the middle, and starts it again.
func TestRestarts(t *testing.T) {
	for _, side := range []string{"sender", "receiver"} {
		t.Run(side, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.write("d/a", noise(1, 3*pieceSize))
				w.write("d/b", noise(2, 8*pieceSize))
				w.write("d/c", noise(3, 3*pieceSize+3))
				asked := 0
				w.ask = func(_ context.Context, o Offer) (bool, error) {
					asked++
					if side == "receiver" && asked == 2 && o.Kept < 6*pieceSize {
						t.Errorf("%d bytes are kept", o.Kept)
					}
					return true, nil
				}
				w.net.cuts = []int64{8*pieceSize + pieceSize/2}
				ctx, stop := context.WithCancel(t.Context())
				defer stop()
				var group sync.WaitGroup
				var first Outcome
				switch side {
				case "sender":
					group.Go(func() {
						if err := w.receive(t.Context()); err != nil {
							t.Error(err)
						}
					})
					synctest.Wait()
					go func() {
						until(t, "a cut", func() bool { return w.sent.count(Interrupted) == 1 })
						stop()
					}()
					first, _ = w.send(ctx, "d")
					second, err := w.send(t.Context(), "d")
					if err != nil {
						t.Error(err)
					}
					if n := first.Pieces + second.Pieces; n < 15 || n > 16 {
						t.Errorf("%d pieces were sent", n)
					}
				case "receiver":
					group.Go(func() {
						o, err := w.send(t.Context(), "d")
						if err != nil || o.Pieces > 16 {
							t.Errorf("%+v, %v", o, err)
						}
					})
					go func() {
						until(t, "a cut", func() bool { return w.sent.count(Interrupted) == 1 })
						stop()
					}()
					if err := w.receive(ctx); !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
					if err := w.receive(t.Context()); err != nil {
						t.Error(err)
					}
				}
				group.Wait()
				w.same("d/b", "d/b")
				w.same("d/a", "d/a")
				w.same("d/c", "d/c")
				w.clean("d")
			})
		})
	}
}

// TestProperty sends random trees over connections that break at random, with restarts of
// the receiver: what arrives is what was sent.
func TestProperty(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { property(t, seed) })
		})
	}
}

func property(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 12))
	w := newWorld(t)
	var pieces int64
	for i := range 1 + r.IntN(30) {
		size := []int{0, r.IntN(100), r.IntN(70_000), pieceSize, r.IntN(4 * pieceSize)}[r.IntN(5)]
		w.write(fmt.Sprintf("d%d/e%d/%d", r.IntN(2), r.IntN(3), i), noise(seed<<8+uint64(i), size))
		pieces += piecesOf(int64(size))
	}
	w.write("d0/x", nil)
	w.write("d1/x", nil)
	cuts := r.IntN(8)
	for range cuts {
		w.net.cuts = append(w.net.cuts, int64(r.IntN(6*pieceSize)))
		w.net.back = append(w.net.back, int64(10+r.IntN(1000)))
	}
	var group sync.WaitGroup
	var o Outcome
	var err error
	over := make(chan struct{})
	group.Go(func() {
		o, err = w.send(t.Context(), "d0", "d1")
		close(over)
	})
	for ended := false; !ended; {
		ctx, cancel := context.WithTimeout(t.Context(), time.Duration(1+r.IntN(20))*time.Second)
		failed := w.receive(ctx)
		cancel()
		if ended = failed == nil; !ended && !errors.Is(failed, context.DeadlineExceeded) {
			t.Error(failed)
			break
		}
		select {
		case <-over: // and the receiver was ended before it had heard
			ended = true
		default:
		}
	}
	group.Wait()
	if err != nil || o.Pieces < pieces || o.Pieces > pieces+int64(cuts) {
		t.Errorf("%d pieces instead of %d went, with %d cuts: %v", o.Pieces, pieces, cuts, err)
	}
	for _, name := range []string{"d0", "d1"} {
		w.same(name, name)
	}
}

// TestNeverOverwrites: what exists stays as it is, in a folder and in a second transfer.
func TestNeverOverwrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for _, name := range []string{"report.pdf", "report.pdf.part", "tree"} {
			if err := os.WriteFile(filepath.Join(w.to, name), []byte("mine"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		w.write("report.pdf", []byte("new"))
		w.write("tree/x.tar.gz", []byte("new"))
		w.net.cuts = []int64{200} // and the names that were chosen are kept
		w.both("report.pdf", "tree")
		w.both("report.pdf")
		w.clean("report (2).pdf", "report (3).pdf", "report.pdf", "report.pdf.part", "tree", "tree (2)")
		w.same("report.pdf", "report (3).pdf")
		w.same("tree", "tree (2)")
		for _, name := range []string{"report.pdf", "report.pdf.part", "tree"} {
			if b, err := os.ReadFile(filepath.Join(w.to, name)); string(b) != "mine" {
				t.Errorf("%s: %q, %v", name, b, err)
			}
		}
	})
}

// TestChanges: files that change are errors of their own, and a later run brings the rest.
func TestChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("d/grows", noise(1, 3*pieceSize))
		w.write("d/shrinks", noise(2, 3*pieceSize))
		w.write("d/vanishes", noise(3, 10))
		w.write("d/stays", noise(4, 10))
		w.ask = func(context.Context, Offer) (bool, error) { // after the sender has looked
			w.write("d/grows", noise(1, 4*pieceSize))
			w.write("d/shrinks", noise(2, 1))
			return true, os.Remove(filepath.Join(w.from, "d/vanishes"))
		}
		o := w.both("d")
		if len(o.Failed) != 3 || o.Files != 1 || w.outcome.Files != 1 || len(w.outcome.Failed) != 3 {
			t.Errorf("%+v, %+v", o, w.outcome)
		}
		if text := w.received.last(Failed).Err.Error(); strings.Contains(text, w.from) {
			t.Errorf("the receiver is told %q", text)
		}
		w.same("d/stays", "d/stays")
		if list, err := os.ReadDir(filepath.Join(w.to, "d")); err != nil || len(list) != 1 {
			t.Errorf("%v, %v", list, err)
		}
	})
}

// TestAppended: of a file that has grown since the last attempt only the new pieces go.
func TestAppended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("log", noise(1, 5*pieceSize))
		w.net.cuts = []int64{4*pieceSize + 3000}
		ctx, stop := context.WithCancel(t.Context())
		var group sync.WaitGroup
		group.Go(func() {
			if err := w.receive(ctx); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
		synctest.Wait()
		sending, end := context.WithCancel(t.Context())
		group.Go(func() { w.send(sending, "log") })
		until(t, "a cut", func() bool { return w.sent.count(Interrupted) == 1 })
		end()
		stop()
		group.Wait()
		data := noise(1, 7*pieceSize)
		data[0]++ // and the first piece is another one
		w.write("log", data)
		if o := w.both("log"); o.Pieces != 1+3 {
			t.Errorf("%+v", o)
		}
		w.same("log", "log")
		w.clean("log")
	})
}

// TestNobodyAnswers: if the question ends without an answer, the sender is refused, and no more is said.
func TestNobodyAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("file", noise(1, 10))
		ended := errors.New("the input ended")
		w.ask = func(context.Context, Offer) (bool, error) { return false, ended }
		var group sync.WaitGroup
		var received error
		group.Go(func() { received = w.receive(t.Context()) })
		synctest.Wait()
		if _, err := w.send(t.Context(), "file"); !errors.Is(err, ErrRefused) || err.Error() != ErrRefused.Error() {
			t.Errorf("the sender: %v", err)
		}
		if group.Wait(); !errors.Is(received, ended) {
			t.Errorf("the receiver: %v", received)
		}
		w.clean()
	})
}

// TestRefusals: a person says no, a stranger comes, another transfer runs.
func TestRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.keep = true
		w.write("file", noise(1, 10))
		w.write("other", noise(2, 10))
		var group sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		answer := make(chan bool)
		w.ask = func(ctx context.Context, _ Offer) (bool, error) {
			select {
			case a := <-answer:
				return a, nil
			case <-ctx.Done():
				return false, ctx.Err()
			}
		}
		group.Go(func() { w.receive(ctx) })
		synctest.Wait()
		no := make(chan error)
		go func() {
			_, err := w.send(ctx, "file")
			no <- err
		}()
		until(t, "a question", func() bool { return w.sent.count(Asking) == 1 })
		sending, end := context.WithCancel(ctx)
		busy := make(chan error)
		go func() {
			_, err := w.send(sending, "other")
			busy <- err
		}()
		until(t, "busy", func() bool { return errors.Is(w.sent.last(Waiting).Err, ErrBusy) })
		end()
		if err := <-busy; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		time.Sleep(5 * time.Minute) // the person thinks
		answer <- false
		if err := <-no; !errors.Is(err, ErrRefused) {
			t.Error(err)
		}
		stop()
		group.Wait()
		w.clean()
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("file", noise(1, 10))
		w.who = func(context.Context, net.Addr) (Peer, error) { return Peer{}, errTest }
		ctx, stop := context.WithTimeout(t.Context(), time.Hour)
		defer stop()
		var group sync.WaitGroup
		group.Go(func() { w.receive(ctx) })
		synctest.Wait()
		if _, err := w.send(ctx, "file"); !errors.Is(err, ErrStalled) {
			t.Error(err)
		}
		if !errors.Is(w.received.last(Refused).Err, errTest) {
			t.Error("nobody was told")
		}
		stop()
		group.Wait()
		w.clean()
	})
}

// TestStalls: a receiver that never comes, and a sender that never comes back.
func TestStalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("file", noise(1, 10))
		began := time.Now()
		_, err := w.send(t.Context(), "file")
		if took := time.Since(began); !errors.Is(err, ErrStalled) || took < 9*time.Minute || took > 10*time.Minute {
			t.Errorf("%v after %v", err, took)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.write("file", noise(1, 3*pieceSize))
		w.net.cuts = []int64{2 * pieceSize}
		var group sync.WaitGroup
		var err error
		group.Go(func() { err = w.receive(t.Context()) })
		synctest.Wait()
		ctx, stop := context.WithCancel(t.Context())
		group.Go(func() { w.send(ctx, "file") })
		until(t, "a cut", func() bool { return w.sent.count(Interrupted) == 1 })
		stop()
		group.Wait()
		if !errors.Is(err, ErrStalled) || !strings.Contains(err.Error(), "north") {
			t.Error(err)
		}
	})
}
