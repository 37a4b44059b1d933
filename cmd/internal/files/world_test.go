package files

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// north is the peer that sends in these tests.
var north = Peer{Key: "address of north", Name: "north"}

// network joins one sender to one receiver by pipes.
type network struct {
	mu   sync.Mutex
	l    *pipeListener // nil: nobody listens
	cuts []int64       // bytes from the sender after which a connection breaks, one by one
	back []int64       // the same for the other direction
}

type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

func (n *network) listen() net.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.l = &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	return n.l
}

// dial connects, and takes the next cuts.
func (n *network) dial(ctx context.Context) (net.Conn, error) {
	n.mu.Lock()
	l := n.l
	n.mu.Unlock()
	if l == nil {
		return nil, syscall.ECONNREFUSED
	}
	ours, theirs := net.Pipe()
	select {
	case l.conns <- theirs:
	case <-l.closed:
		return nil, syscall.ECONNREFUSED
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return &fragile{Conn: ours, out: next(&n.cuts), in: next(&n.back)}, nil
}

func next(list *[]int64) int64 {
	if len(*list) == 0 {
		return 1 << 60
	}
	first := (*list)[0]
	*list = (*list)[1:]
	return first
}

// fragile is a connection that breaks after a number of bytes.
type fragile struct {
	net.Conn
	out, in int64 // each owned by the goroutine that writes, or reads
}

func (f *fragile) Write(b []byte) (int, error) {
	if int64(len(b)) <= f.out {
		f.out -= int64(len(b))
		return f.Conn.Write(b)
	}
	n, _ := f.Conn.Write(b[:f.out])
	f.out = 0
	f.Close()
	return n, syscall.ECONNRESET
}

func (f *fragile) Read(b []byte) (int, error) {
	if f.in == 0 {
		f.Close()
		return 0, syscall.ECONNRESET
	}
	n, err := f.Conn.Read(b[:min(int64(len(b)), f.in)])
	f.in -= int64(n)
	return n, err
}

// watcher keeps the events of one side.
type watcher struct {
	mu     sync.Mutex
	events []Event
}

func (w *watcher) tell(e Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Type != Progress {
		w.events = append(w.events, e)
	}
}

func (w *watcher) count(t EventType) (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Type == t {
			n++
		}
	}
	return n
}

func (w *watcher) last(t EventType) (last Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range w.events {
		if e.Type == t {
			last = e
		}
	}
	return last
}

// world is a sender and a receiver.
type world struct {
	*testing.T
	net      network
	from, to string // directories
	sent     watcher
	received watcher
	outcome  Outcome // of the last transfer, at the receiver
	ask      func(context.Context, Offer) (bool, error)
	who      func(context.Context, net.Addr) (Peer, error)
	keep     bool
	early    bool // nobody answers an attack
}

func newWorld(t *testing.T) *world {
	return &world{
		T: t, from: t.TempDir(), to: t.TempDir(),
		ask: func(context.Context, Offer) (bool, error) { return true, nil },
		who: func(context.Context, net.Addr) (Peer, error) { return north, nil },
	}
}

// receive receives until the transfer, or ctx, ends.
func (w *world) receive(ctx context.Context) error {
	return Receive(ctx, w.net.listen(), ReceiveConfig{
		Dir: w.to, Who: w.who, Ask: w.ask, Keep: w.keep, Patience: 10 * time.Minute,
		Tell: w.received.tell, Complete: func(_ Peer, o Outcome) { w.outcome = o },
	})
}

// send sends files of the sender's directory.
func (w *world) send(ctx context.Context, names ...string) (Outcome, error) {
	var whole []string
	for _, name := range names {
		whole = append(whole, filepath.Join(w.from, name))
	}
	src, err := Open(ctx, whole)
	if err != nil {
		return Outcome{}, err
	}
	defer src.Close()
	return Send(ctx, src, SendConfig{Dial: w.net.dial, Patience: 10 * time.Minute, Tell: w.sent.tell})
}

// both sends and receives, and both have to succeed.
func (w *world) both(names ...string) Outcome {
	w.Helper()
	var group sync.WaitGroup
	group.Go(func() {
		if err := w.receive(w.Context()); err != nil {
			w.Errorf("the receiver: %v", err)
		}
	})
	synctest.Wait()
	o, err := w.send(w.Context(), names...)
	if err != nil {
		w.Errorf("the sender: %v", err)
	}
	group.Wait()
	return o
}

// write writes a file of the sender's.
func (w *world) write(name string, data []byte) {
	w.Helper()
	path := filepath.Join(w.from, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		w.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		w.Fatal(err)
	}
}

// noise returns bytes of a seed.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8), byte(seed >> 16)})
	r.Read(b)
	return b
}

// same checks that a directory here holds just what one there does.
func (w *world) same(from, to string) {
	w.Helper()
	a, b := w.listing(filepath.Join(w.from, from)), w.listing(filepath.Join(w.to, to))
	if !slices.Equal(a, b) {
		w.Errorf("sent\n%s\nreceived\n%s", strings.Join(a, "\n"), strings.Join(b, "\n"))
	}
}

// clean checks that the receiver's folder holds just some names.
func (w *world) clean(want ...string) {
	w.Helper()
	list, err := os.ReadDir(w.to)
	if err != nil {
		w.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, want) {
		w.Errorf("the folder holds %q, want %q", names, want)
	}
}

// listing lists what a directory or a file holds, with modes, times and hashes.
func (w *world) listing(dir string) (lines []string) {
	w.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(dir, path)
		line := rel + " " + info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += " " + newHasher().piece(data).String() + " " + info.ModTime().String()
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			line += " " + target
		default:
			line += " " + info.ModTime().String()
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		w.Fatal(err)
	}
	return lines
}

// until waits until something is so, or fails.
func until(t *testing.T, what string, so func() bool) {
	t.Helper()
	for range 10_000 {
		if so() {
			return
		}
		time.Sleep(time.Millisecond) // of the bubble's time
	}
	t.Fatalf("never: %s", what)
}

var errTest = errors.New("by a test")

var _ io.Reader = (*fragile)(nil)
