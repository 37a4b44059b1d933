package files

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// SendConfig is what Send needs.
type SendConfig struct {
	Dial     func(ctx context.Context) (net.Conn, error)
	Patience time.Duration // how long to try without progress
	Tell     func(Event)   // called by one goroutine at a time
}

// Outcome is what a transfer did.
type Outcome struct {
	Files  int   // that are complete at the receiver
	Bytes  int64 // of these
	Pieces int64 // that went over the connection, those that went again included
	Failed []Failure
}

// The pause between two attempts doubles from the first to the last.
const (
	firstPause = 500 * time.Millisecond
	lastPause  = 15 * time.Second
)

// Send sends files, and connects again after each cut until everything is there, the
// receiver refuses, or there is no progress for too long. Files that could not be read are no
// error: they are in the outcome.
func Send(ctx context.Context, src *Source, c SendConfig) (Outcome, error) {
	s := &sender{src: src, config: c, id: src.id(), moved: time.Now(), failed: map[int]error{}}
	err := s.run(ctx)
	o := Outcome{Files: src.Files - len(s.failed), Bytes: src.Bytes, Pieces: s.pieces, Failed: src.Failed}
	for i, e := range src.Entries {
		if failed := s.failed[i]; failed != nil {
			o.Failed = append(o.Failed, Failure{e.Path, failed})
			o.Bytes -= e.Size
		}
	}
	return o, err
}

// sender is a transfer over any number of connections.
type sender struct {
	src    *Source
	config SendConfig
	id     Hash
	pieces int64         // sent
	failed map[int]error // by entry; owned by the goroutine of run

	mu    sync.Mutex
	best  int64     // bytes that the receiver has
	moved time.Time // last progress
}

func (s *sender) run(ctx context.Context) error {
	pause := firstPause
	for {
		before := s.lastMoved()
		err := s.attempt(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrRefused), errors.Is(err, ErrNoSpace), errors.Is(err, ErrProtocol):
			return err
		}
		if s.lastMoved() != before {
			pause = firstPause
		}
		if time.Since(s.lastMoved())+pause > s.config.Patience {
			return fmt.Errorf("%w in %v: %w", ErrStalled, s.config.Patience, err)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(2*pause, lastPause)
	}
}

// sleep waits, or returns ctx's error.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (s *sender) lastMoved() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.moved
}

// tell reports an event.
func (s *sender) tell(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e.Files, e.Bytes = s.src.Files, s.src.Bytes
	e.Done = max(e.Done, s.best)
	s.config.Tell(e)
}

// progress notes how much the receiver has.
func (s *sender) progress(done int64) {
	s.mu.Lock()
	if done > s.best {
		s.best, s.moved = min(done, s.src.Bytes), time.Now()
	}
	s.mu.Unlock()
	s.tell(Event{Type: Progress})
}

// attempt sends what is missing over one connection.
func (s *sender) attempt(ctx context.Context) error {
	conn, err := s.config.Dial(ctx)
	if err != nil {
		s.tell(Event{Type: Waiting, Err: err})
		return err
	}
	parent := ctx
	ctx, end := context.WithCancelCause(ctx)
	cancel := func() { end(nil) }
	defer cancel()
	p := &patient{Conn: conn}
	stalled := time.AfterFunc(quietLimit(s.config.Patience), func() { end(errIdle) })
	defer stalled.Stop()
	o := &outgoing{
		sender: s, w: newWriter(p), stalled: stalled,
		done: map[int]bool{}, have: map[int][]Hash{},
		ready: make(chan struct{}), finished: make(chan struct{}), ended: make(chan struct{}),
	}
	var group sync.WaitGroup
	context.AfterFunc(ctx, func() { conn.Close() })
	group.Go(func() { o.w.beat(ctx) })
	group.Go(func() {
		o.err = o.listen(p)
		close(o.ended)
		cancel()
	})
	if err = o.speak(ctx); err == nil {
		o.leave(conn)
	}
	cancel()
	group.Wait()
	if err == nil {
		return nil
	}
	if errors.Is(context.Cause(ctx), errIdle) {
		err = errIdle
	} else if o.err != nil && !errors.Is(o.err, net.ErrClosed) && !errors.Is(o.err, context.Canceled) {
		err = o.err // what the receiver said, rather than that it hung up
	}
	switch {
	case parent.Err() != nil: // nothing broke
	case errors.Is(err, ErrBusy):
		s.tell(Event{Type: Waiting, Err: err})
	case !errors.Is(err, ErrRefused) && !errors.Is(err, ErrNoSpace):
		s.tell(Event{Type: Interrupted, Err: err})
	}
	return err
}

// errIdle says that a receiver is there and takes nothing.
var errIdle = errors.New("the other side is there and takes nothing")

// leave ends a connection so that the last frame arrives: a close with data on its way here
// might be a reset.
func (o *outgoing) leave(conn net.Conn) {
	c, ok := conn.(interface{ CloseWrite() error })
	if !ok || c.CloseWrite() != nil {
		return
	}
	select {
	case <-o.ended:
	case <-time.After(leaveLimit):
	}
}

// outgoing is the sender's end of one connection.
type outgoing struct {
	*sender
	w       *writer
	stalled *time.Timer // ends the connection

	// Of listen; of speak after ready is closed.
	done map[int]bool
	have map[int][]Hash
	kept int64

	ready    chan struct{} // closed at READY
	finished chan struct{} // closed at FINISH
	files    int           // of FINISH
	ended    chan struct{} // closed when listen ends
	err      error         // why it ended
}

var (
	fromReceiver = setOf(kindAlive, kindAccept, kindRefuse)
	accepted     = setOf(kindAlive, kindRefuse, kindDone, kindHave, kindReady)
	receiving    = setOf(kindAlive, kindRefuse, kindGot, kindFinish)
)

// listen takes what the receiver says, until the connection ends or it refuses.
func (o *outgoing) listen(r io.Reader) error {
	in := bufio.NewReaderSize(r, 64<<10)
	if err := readPreamble(in); err != nil {
		return err
	}
	buffer := make([]byte, maxBatch)
	want := fromReceiver
	asked := false
	for {
		f, err := readFrame(in, buffer, want)
		if err != nil {
			return err
		}
		if f.kind != kindAlive {
			o.stalled.Reset(quietLimit(o.config.Patience))
		}
		switch f.kind {
		case kindAlive:
			if want == fromReceiver && !asked {
				asked = true
				o.stalled.Stop() // a person may take any time
				o.tell(Event{Type: Asking})
			}
		case kindAccept:
			want = accepted
		case kindReady:
			want = receiving
			close(o.ready)
		case kindFinish:
			want = setOf(kindAlive)
			o.files = int(binary.BigEndian.Uint32(f.payload))
			close(o.finished)
		default:
			if err := o.take(f); err != nil {
				return err
			}
		}
	}
}

// take takes a frame that changes nothing about those that follow.
func (o *outgoing) take(f frame) error {
	switch f.kind {
	case kindRefuse:
		return parseRefusal(f.payload)
	case kindDone:
		return parseIndexes(f.payload, len(o.src.Entries), func(i int) {
			if !o.done[i] {
				o.done[i] = true
				o.kept += o.src.Entries[i].Size
			}
		})
	case kindHave:
		i, hashes, err := parseHave(f.payload, len(o.src.Entries))
		if err != nil {
			return err
		}
		size := o.src.Entries[i].Size
		if int64(len(o.have[i])+len(hashes)) > piecesOf(size) {
			return violation("more pieces than %s has", Shown(o.src.Entries[i].Path))
		}
		o.have[i] = append(o.have[i], hashes...)
		o.kept += min(int64(len(hashes))*pieceSize, size)
	case kindGot:
		o.progress(int64(min(binary.BigEndian.Uint64(f.payload), maxSize)))
	}
	return nil
}

func readPreamble(in *bufio.Reader) error {
	b := make([]byte, len(preamble))
	if _, err := io.ReadFull(in, b); err != nil {
		return err
	}
	if string(b) != preamble {
		return violation("it is another program, or another version; try: the same version of anode on both machines")
	}
	return nil
}

// speak sends everything. Its error may come from the connection that listen closed.
func (o *outgoing) speak(ctx context.Context) error {
	if err := o.offer(); err != nil {
		return err
	}
	if err := o.await(ctx, o.ready); err != nil {
		return err
	}
	o.tell(Event{Type: Started, Kept: o.kept, Done: o.kept})
	buffer := make([]byte, pieceSize)
	hash := newHasher()
	for i, e := range o.src.Entries {
		if e.Kind != Regular {
			continue
		}
		if o.done[i] {
			delete(o.failed, i)
			continue
		}
		if err := o.file(ctx, i, e, buffer, hash); err != nil {
			return err
		}
	}
	if err := o.w.send(kindOver); err != nil {
		return err
	}
	if err := o.await(ctx, o.finished); err != nil {
		return err
	}
	if want := o.src.Files - len(o.failed); o.files != want {
		return violation("it has %d files instead of %d", o.files, want)
	}
	o.w.send(kindBye) // if it is lost, the receiver waits for a while
	return nil
}

// await waits for an answer.
func (o *outgoing) await(ctx context.Context, answer <-chan struct{}) error {
	select {
	case <-answer:
		return nil
	case <-o.ended:
		return o.err
	case <-ctx.Done():
		<-o.ended
		return ctx.Err()
	}
}

// offer sends the manifest.
func (o *outgoing) offer() error {
	if _, err := io.WriteString(o.w.out, preamble); err != nil {
		return err
	}
	m := &o.src.Manifest
	if err := o.w.put(kindOffer, appendOffer(nil, offer{len(m.Entries), m.Bytes, o.id})); err != nil {
		return err
	}
	var batch []byte
	for _, e := range m.Entries {
		before := len(batch)
		batch = appendEntry(batch, e)
		if len(batch) > maxBatch {
			if err := o.w.put(kindEntries, batch[:before]); err != nil {
				return err
			}
			batch = append(batch[:0], batch[before:]...)
		}
	}
	return o.w.send(kindEntries, batch)
}

// file sends what is missing of a file. Its error is about the connection.
func (o *outgoing) file(ctx context.Context, i int, e Entry, buffer []byte, hash hasher) error {
	if err := o.w.put(kindFile, binary.BigEndian.AppendUint32(nil, uint32(i))); err != nil {
		return err
	}
	root, failed, err := o.content(ctx, i, e, buffer, hash)
	switch {
	case err != nil:
		return err
	case failed != nil:
		if o.failed[i] == nil {
			o.tell(Event{Type: Failed, Path: e.Path, Err: failed})
		}
		o.failed[i] = failed
		return o.w.put(kindFailed, textOf(failed))
	}
	delete(o.failed, i)
	return o.w.put(kindEnd, root[:])
}

// content sends the pieces of a file. failed says why it cannot be read.
func (o *outgoing) content(ctx context.Context, i int, e Entry, buffer []byte, hash hasher) (root Hash, failed, err error) {
	f, failed := o.src.open(e)
	if failed != nil {
		return root, failed, nil
	}
	defer f.Close()
	var t tree
	for p := range piecesOf(e.Size) {
		if err := ctx.Err(); err != nil {
			return root, nil, err
		}
		b := buffer[:pieceLength(e.Size, p)]
		if _, err := io.ReadFull(f, b); err != nil {
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				err = errChanged
			}
			return root, err, nil
		}
		h := hash.piece(b)
		t.add(h)
		if have := o.have[i]; p < int64(len(have)) && have[p] == h {
			err = o.w.put(kindSkip, h[:])
		} else {
			o.pieces++
			err = o.w.put(kindPiece, h[:], b)
		}
		if err != nil {
			return root, nil, err
		}
	}
	return t.root(), unchanged(f, e), nil
}
