package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// childVariable has this test's binary receive into a directory, at the socket in it.
const childVariable = "FILES_TEST_CHILD"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		if err := receiveAlone(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// receiveAlone receives one transfer, and prints a line for each event.
func receiveAlone(dir string) error {
	socket := filepath.Join(filepath.Dir(dir), "socket")
	os.Remove(socket)
	l, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	return Receive(context.Background(), l, ReceiveConfig{
		Dir: dir, Patience: time.Minute,
		Who:      func(context.Context, net.Addr) (Peer, error) { return north, nil },
		Tell:     func(e Event) { fmt.Println(e.Type, e.Path, e.Err) },
		Complete: func(Peer, Outcome) {},
	})
}

// TestKilled kills the receiver again and again, at any moment: what has arrived stays, under
// the names that it had, and all is there at the end.
func TestKilled(t *testing.T) {
	w := newWorld(t)
	w.to = filepath.Join(t.TempDir(), "in")
	if err := os.Mkdir(w.to, 0o755); err != nil {
		t.Fatal(err)
	}
	r := rand.New(rand.NewPCG(12, 12))
	for i := range 300 {
		w.write(fmt.Sprintf("tree/d%d/e%d/%d", r.IntN(3), r.IntN(5), i), noise(uint64(i), r.IntN(3000)))
	}
	for i := range uint64(3) {
		w.write(fmt.Sprintf("tree/big%d", i), noise(i, 3*pieceSize+int(i)))
	}
	var pieces int64
	kills := 0
	for done := false; !done; kills++ {
		var n int64
		n, done = w.killed(r.Int64N(2 * pieceSize))
		pieces += n
	}
	if kills < 8 {
		t.Errorf("the receiver was killed only %d times", kills-1)
	}
	w.same("tree/big1", "tree/big1")
	for d := range 3 {
		w.same(fmt.Sprintf("tree/d%d", d), fmt.Sprintf("tree/d%d", d))
	}
	w.clean("tree")
	t.Logf("the receiver was killed %d times; %d pieces went instead of 312", kills-1, pieces)
}

// lethal is a connection that kills who reads it after some bytes.
type lethal struct {
	net.Conn
	left int64
	kill func()
}

func (c *lethal) Write(b []byte) (int, error) {
	if c.left -= int64(len(b)); c.left < 0 {
		c.kill()
	}
	return c.Conn.Write(b)
}

// receiver starts a receiver in a process of its own.
func (w *world) receiver(out io.Writer) *exec.Cmd {
	w.Helper()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), childVariable+"="+w.to)
	child.Stdout, child.Stderr = out, out
	if err := child.Start(); err != nil {
		w.Fatal(err)
	}
	return child
}

// killed sends a tree to a receiver of its own process, which it kills after some bytes, and
// returns how many pieces went, and whether all of it arrived.
func (w *world) killed(after int64) (pieces int64, done bool) {
	w.Helper()
	var out strings.Builder
	child := w.receiver(&out)
	ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
	defer cancel()
	src, err := Open(ctx, []string{filepath.Join(w.from, "tree")})
	if err != nil {
		w.Fatal(err)
	}
	defer src.Close()
	o, err := Send(ctx, src, SendConfig{
		Dial: func(context.Context) (net.Conn, error) {
			c, err := dialSoon(ctx, filepath.Join(filepath.Dir(w.to), "socket"))
			return &lethal{c, after, func() { child.Process.Kill() }}, err
		},
		Patience: time.Minute,
		Tell: func(e Event) {
			if e.Type == Interrupted {
				cancel()
			}
		},
	})
	if err != nil { // else it ends by itself
		child.Process.Kill()
	}
	child.Wait()
	if err != nil && !errors.Is(err, context.Canceled) {
		w.Errorf("%v\n%s", err, out.String())
	}
	return o.Pieces, err == nil
}

// dialSoon connects to a receiver that has just been started.
func dialSoon(ctx context.Context, socket string) (net.Conn, error) {
	for {
		c, err := net.Dial("unix", socket)
		if err == nil || ctx.Err() != nil {
			return c, err
		}
		time.Sleep(time.Millisecond)
	}
}

// TestBetween: a receiver that ends between any two steps of giving something its name finds
// it again.
func TestBetween(t *testing.T) {
	for name, steps := range map[string]int{"before the link": 0, "before the removal": 1, "before the record": 2} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				data := noise(1, 2*pieceSize+9)
				w.write("d/x", data)
				w.half("d", steps, data)
				o := w.both("d")
				w.same("d", "d")
				w.clean("d")
				if o.Pieces != 0 {
					t.Errorf("%d pieces went again", o.Pieces)
				}
			})
		})
	}
	for name, steps := range map[string]int{"the directory": -2, "the partial file": -1} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.write("d/x", []byte("new"))
				w.half("d", steps, nil)
				w.both("d")
				w.same("d", "d")
				w.clean("d")
			})
		})
	}
	synctest.Test(t, func(t *testing.T) { // a file that somebody made since is not ours
		w := newWorld(t)
		w.write("d/x", []byte("new"))
		w.half("d", -1, nil)
		theirs := filepath.Join(w.to, "d/x.part")
		if err := os.WriteFile(theirs, []byte("mine"), 0o644); err != nil {
			t.Fatal(err)
		}
		w.both("d")
		w.same("d/x", "d/x")
		if b, err := os.ReadFile(theirs); string(b) != "mine" {
			t.Errorf("%q, %v", b, err)
		}
	})
}

// half receives the directory d with the file x as far as some steps of giving x its name;
// -2: d has only been announced, -1: and x's partial file has only been made.
func (w *world) half(top string, steps int, data []byte) {
	w.Helper()
	src, err := Open(w.Context(), []string{filepath.Join(w.from, top)})
	if err != nil {
		w.Fatal(err)
	}
	defer src.Close()
	root, err := os.OpenRoot(w.to)
	if err != nil {
		w.Fatal(err)
	}
	defer root.Close()
	f, err := openFolder(root, north.Key, src.Tops())
	if err != nil {
		w.Fatal(err)
	}
	defer f.journal.close()
	check := func(err error) {
		w.Helper()
		if err != nil {
			w.Fatal(err)
		}
	}
	if steps == -2 {
		check(f.journal.write(record{Dir: top, Local: top}))
		return
	}
	check(f.mkdir(src.Entries[0]))
	if steps == -1 {
		check(f.journal.write(record{Making: "d/x", Local: "d/x.part"}))
		check(root.WriteFile("d/x.part", nil, 0o644))
		return
	}
	in, err := f.begin(src.Entries[1])
	check(err)
	defer in.file.Close()
	for p := range piecesOf(in.entry.Size) {
		b := data[p*pieceSize:][:pieceLength(in.entry.Size, p)]
		check(in.write(f.hash.piece(b), b))
	}
	f.dress(in)
	naming := doneRecord(in.entry, in.entry.Path, in.tree.root())
	naming.Naming, naming.Done = naming.Done, ""
	check(f.journal.write(naming))
	for i, step := range []func() error{
		func() error { return root.Link(in.local, in.entry.Path) },
		func() error { return root.Remove(in.local) },
	} {
		if i < steps {
			check(step())
		}
	}
}
