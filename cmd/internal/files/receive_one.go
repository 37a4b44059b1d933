package files

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"
)

type reader struct{ *bufio.Reader }

func newReader(r io.Reader) reader { return reader{bufio.NewReaderSize(r, 64<<10)} }

// maxAlive is the most ALIVE during an offer: slow ones take that long, and those who bring
// nothing else must not keep others waiting.
const maxAlive = 1000

// readOffer reads the manifest.
func (a *arrival) readOffer() error {
	if _, err := io.WriteString(a.w.out, preamble); err != nil {
		return err
	}
	if err := readPreamble(a.in.Reader); err != nil {
		return err
	}
	buffer := make([]byte, maxBatch)
	f, err := readFrame(a.in, buffer, setOf(kindOffer))
	if err != nil {
		return err
	}
	o, err := parseOffer(f.payload)
	if err != nil {
		return err
	}
	m := &Manifest{windows: runtime.GOOS == "windows"}
	for frames := 0; len(m.Entries) < o.count; frames++ {
		f, err := readFrame(a.in, buffer, setOf(kindEntries, kindAlive))
		if err != nil {
			return err
		}
		if frames > o.count+maxAlive {
			return violation("an offer without an end")
		}
		if err := m.addBatch(f.payload); err != nil {
			return err
		}
	}
	if len(m.Entries) != o.count || m.Bytes != o.bytes || m.id() != o.id {
		return violation("the files are not those of the offer")
	}
	m.kinds = nil // some megabytes
	a.manifest, a.id = m, o.id
	return nil
}

// refuse tells the sender why it ends, and waits a little until it has heard.
func (a *arrival) refuse(why refusal, err error) {
	if a.w.send(kindRefuse, appendRefusal(nil, why, string(textOf(err)))) != nil {
		return
	}
	stop := time.AfterFunc(2*time.Second, a.cancel)
	defer stop.Stop()
	io.Copy(io.Discard, a.conn)
}

// frames reads frames ahead of their use.
type frames struct {
	ready chan frame
	free  chan []byte
	err   error // after ready is closed
}

// readAhead is how many pieces may wait for the disk.
const readAhead = 4

func newFrames() *frames {
	f := &frames{ready: make(chan frame, readAhead), free: make(chan []byte, readAhead)}
	for range readAhead {
		f.free <- nil
	}
	return f
}

var fromSender = setOf(kindAlive, kindFile, kindPiece, kindSkip, kindEnd, kindFailed, kindOver, kindBye)

// run reads until the connection or ctx ends.
func (f *frames) run(ctx context.Context, in reader) {
	defer close(f.ready)
	for {
		var buffer []byte
		select {
		case <-ctx.Done():
			f.err = ctx.Err()
			return
		case buffer = <-f.free:
		}
		if buffer == nil {
			buffer = make([]byte, maxPayload)
		}
		next, err := readFrame(in, buffer, fromSender)
		if err != nil {
			f.err = err
			return
		}
		f.ready <- next // there are as many buffers as places
	}
}

// done gives the memory of a frame back.
func (f *frames) done(used frame) { f.free <- used.payload[:maxPayload] }

// transfer is the receiver's end of one connection, after its offer.
type transfer struct {
	*receiver
	*arrival
	frames *frames
	folder *folder

	kept  map[int][]Hash // of the pieces that are here, by entry
	done  map[int]bool   // files that are complete
	last  int            // entry that was received last
	file  *incoming      // that is being received, if any
	bytes int64          // that are here
	told  time.Time      // last GOT
}

func newTransfer(r *receiver, a *arrival) *transfer {
	return &transfer{receiver: r, arrival: a, frames: newFrames(), kept: map[int][]Hash{}, done: map[int]bool{}, last: -1}
}

func (t *transfer) agreement() agreement { return agreement{t.peer.Key, t.id} }

// errBroken wraps what this machine could not do, such as writing to a full disk.
type errBroken struct {
	error
	why refusal // what the sender is told
}

func (e errBroken) Unwrap() error { return e.error }

func local(err error) error {
	if err == nil {
		return nil
	}
	return errBroken{err, refusedBroken}
}

// serve takes a transfer as far as it goes. It returns an error if it cannot go on.
func (t *transfer) serve() (verdict, error) {
	var group sync.WaitGroup
	defer group.Wait()
	defer t.cancel()
	group.Go(func() { t.w.beat(t.ctx) })
	group.Go(func() { t.frames.run(t.ctx, t.in) })
	var err error
	t.folder, err = openFolder(t.root, t.peer.Key, t.manifest.Tops())
	if err == nil {
		defer t.folder.journal.close()
	}
	state := nothing
	if err = local(err); err == nil {
		state, err = t.receive()
		t.closeFile()
	}
	if err == nil {
		return state, nil
	}
	return t.explain(err)
}

// explain returns what an error means for the transfer, after everybody was told.
func (t *transfer) explain(err error) (verdict, error) {
	state := nothing
	if t.agreed[t.agreement()] {
		state = cut
	}
	var broken errBroken
	switch {
	case errors.As(err, &broken):
		if t.config.Keep { // else the error ends everything, and is told then
			t.tell(Event{Type: Refused, Peer: t.peer, Err: broken.error})
		}
		t.give(broken.why, broken.error)
		return nothing, broken.error
	case errors.Is(err, ErrNoSpace):
		t.give(refusedNoSpace, err)
	case isViolation(err):
		t.give(refusedOffer, err)
	default:
		if t.ctx.Err() == nil || state == nothing { // else another connection took its place
			t.tell(Event{Type: Interrupted, Peer: t.peer, Err: err})
		}
		return state, nil
	}
	t.tell(Event{Type: Refused, Peer: t.peer, Err: err})
	if state == nothing {
		return nothing, nil // others may do better
	}
	return nothing, err
}

// give refuses while the frames are read elsewhere.
func (t *transfer) give(why refusal, err error) {
	if t.w.send(kindRefuse, appendRefusal(nil, why, string(textOf(err)))) != nil {
		return
	}
	limit := time.After(2 * time.Second)
	for {
		select {
		case f, ok := <-t.frames.ready:
			if !ok {
				return
			}
			t.frames.done(f)
		case <-limit:
			return
		}
	}
}

// receive takes a transfer from the offer to its end.
func (t *transfer) receive() (verdict, error) {
	if yes, err := t.agree(); err != nil || !yes {
		return nothing, err
	}
	if err := t.w.send(kindAccept); err != nil {
		return cut, err
	}
	if err := t.prepare(); err != nil {
		return cut, err
	}
	t.tell(Event{Type: Started, Peer: t.peer, Files: t.manifest.Files, Bytes: t.manifest.Bytes, Done: t.bytes, Kept: t.bytes})
	quiet := quietLimit(t.config.Patience)
	stalled := time.NewTimer(quiet)
	defer stalled.Stop()
	for {
		f, err := t.next(stalled.C)
		if errors.Is(err, errLate) { // it says that it is alive, and nothing else: others have to have their turn
			err = fmt.Errorf("%w in %v", ErrStalled, quiet)
		}
		if err != nil {
			return cut, err
		}
		stalled.Reset(quiet)
		if f.kind == kindOver {
			t.frames.done(f)
			return t.end()
		}
		err = t.take(f)
		t.frames.done(f)
		if err != nil {
			return cut, err
		}
		if t.report(false) != nil {
			t.conn.Close() // what has arrived counts all the same
		}
	}
}

// errLate says that a frame did not come in time.
var errLate = errors.New("no answer in time")

// next returns the next frame that is no ALIVE, or an error when the connection or the
// time ends. The frame is to be given back.
func (t *transfer) next(limit <-chan time.Time) (frame, error) {
	for {
		select {
		case f, ok := <-t.frames.ready:
			if !ok {
				return f, t.frames.err
			}
			if f.kind != kindAlive {
				return f, nil
			}
			t.frames.done(f)
		case <-limit:
			return frame{}, errLate
		}
	}
}

// hiddenTop returns a name at the top of an offer that begins with a dot. In a home directory the files
// with such names are what programs obey, so a person has to see it.
func hiddenTop(tops []Top) (string, bool) {
	i := slices.IndexFunc(tops, func(t Top) bool { return strings.HasPrefix(t.Name, ".") })
	if i < 0 {
		return "", false
	}
	return tops[i].Name, true
}

// agree returns whether the offer is accepted: it fits on the disk, and the person wants it.
func (t *transfer) agree() (bool, error) {
	kept, err := t.found()
	if err != nil {
		return false, local(err)
	}
	o := Offer{Peer: t.peer, Tops: t.manifest.Tops(), Files: t.manifest.Files, Bytes: t.manifest.Bytes, Kept: kept}
	if free, known := freeSpace(t.config.Dir); known && o.Bytes-o.Kept > free {
		return false, fmt.Errorf("%w: %d bytes are missing", ErrNoSpace, o.Bytes-o.Kept-free)
	}
	if t.peer.Trusted {
		if name, ok := hiddenTop(o.Tops); ok {
			return false, fmt.Errorf("%w: %s is hidden, and nobody is asked here", ErrName, Shown(name))
		}
	}
	if t.config.Ask == nil || t.peer.Trusted {
		t.agreed[t.agreement()] = true
	}
	if t.agreed[t.agreement()] {
		return true, nil
	}
	if err := t.w.send(kindAlive); err != nil { // the sender tells that somebody is asked
		return false, err
	}
	yes, err := t.ask(o)
	if err != nil {
		return false, err
	}
	if !yes {
		t.give(refusedByPerson, ErrRefused)
		return false, nil
	}
	t.agreed[t.agreement()] = true
	return true, nil
}

// ask asks for as long as the sender is there.
func (t *transfer) ask(o Offer) (yes bool, err error) {
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	answered := make(chan struct{})
	go func() {
		yes, err = t.config.Ask(ctx, o)
		close(answered)
	}()
	for {
		select {
		case <-answered:
			if err != nil { // nobody answers any more
				return false, errBroken{err, refusedByPerson}
			}
			return yes, nil
		case f, ok := <-t.frames.ready:
			switch {
			case !ok:
				cancel()
				<-answered
				return false, t.frames.err
			case f.kind != kindAlive:
				cancel()
				<-answered
				return false, violation("a frame of type %d before an answer", f.kind)
			}
			t.frames.done(f)
		}
	}
}

// found marks the files that are complete, and returns how many bytes are here, the partial
// files' included.
func (t *transfer) found() (bytes int64, err error) {
	for i, e := range t.manifest.Entries {
		if e.Kind != Regular {
			continue
		}
		here, err := t.folder.has(e), error(nil)
		if !here {
			here, err = t.folder.named(e)
		}
		if err != nil {
			return 0, err
		}
		if here {
			t.done[i] = true
			bytes += e.Size
		} else if name, ok := t.folder.journal.parts[e.Path]; ok {
			if info, err := t.root.Lstat(name); err == nil {
				bytes += min(info.Size(), e.Size)
			}
		}
	}
	return bytes, nil
}

// prepare makes the directories, and tells the sender what is here.
func (t *transfer) prepare() error {
	var indexes []byte
	for i, e := range t.manifest.Entries {
		switch {
		case e.Kind == Directory:
			if err := t.folder.mkdir(e); err != nil {
				return local(err)
			}
		case t.done[i]:
			t.bytes += e.Size
			if indexes = binary.BigEndian.AppendUint32(indexes, uint32(i)); len(indexes) == 4*donesAFrame {
				if err := t.w.put(kindDone, indexes); err != nil {
					return err
				}
				indexes = indexes[:0]
			}
		}
	}
	if len(indexes) > 0 {
		if err := t.w.put(kindDone, indexes); err != nil {
			return err
		}
	}
	for i, e := range t.manifest.Entries {
		if e.Kind == Regular && !t.done[i] {
			if err := t.tellKept(i, e); err != nil {
				return err
			}
		}
	}
	return t.w.send(kindReady)
}

// tellKept tells the sender which pieces of a file are here.
func (t *transfer) tellKept(i int, e Entry) error {
	head := binary.BigEndian.AppendUint32(nil, uint32(i))
	batch := head
	flush := func() error {
		if len(batch) == len(head) {
			return nil
		}
		err := t.w.put(kindHave, batch)
		batch = batch[:len(head)]
		return err
	}
	var lost error
	err := t.folder.kept(e, func(h Hash) error {
		t.kept[i] = append(t.kept[i], h)
		t.bytes += int64(pieceLength(e.Size, int64(len(t.kept[i])-1)))
		if batch = append(batch, h[:]...); len(batch) >= len(head)+havesAFrame*hashSize {
			lost = flush()
		}
		return lost
	})
	if lost != nil {
		return lost
	}
	if err != nil {
		return local(err)
	}
	return flush()
}

// take takes a frame with content.
func (t *transfer) take(f frame) error {
	if f.kind == kindFile {
		return t.begin(int(binary.BigEndian.Uint32(f.payload)))
	}
	in := t.file
	if in == nil {
		return violation("a frame of type %d outside a file", f.kind)
	}
	switch f.kind {
	case kindPiece:
		return t.piece(in, Hash(f.payload), f.payload[hashSize:])
	case kindSkip:
		have := t.kept[t.last]
		if in.next >= int64(len(have)) || have[in.next] != Hash(f.payload) {
			return violation("a piece that is not here was left out")
		}
		in.skip(have[in.next])
	case kindEnd:
		return t.publish(in, Hash(f.payload))
	case kindFailed:
		t.file = nil
		delete(t.kept, t.last)
		err := errors.New(Shown(string(f.payload)))
		t.outcome.Failed = append(t.outcome.Failed, Failure{in.entry.Path, err})
		t.tell(Event{Type: Failed, Peer: t.peer, Path: in.entry.Path, Err: err})
		return local(t.folder.discard(in))
	default:
		return violation("a frame of type %d within a file", f.kind)
	}
	return nil
}

// begin begins a file. Each is begun once, in the manifest's order.
func (t *transfer) begin(i int) error {
	switch {
	case t.file != nil:
		return violation("a file within another")
	case i <= t.last || i >= len(t.manifest.Entries) || t.manifest.Entries[i].Kind != Regular || t.done[i]:
		return violation("the file %d out of turn", i)
	}
	in, err := t.folder.begin(t.manifest.Entries[i])
	if err != nil {
		return local(err)
	}
	t.file, t.last = in, i
	return nil
}

// piece checks a piece and writes it.
func (t *transfer) piece(in *incoming, h Hash, data []byte) error {
	size := in.entry.Size
	if in.next >= piecesOf(size) || len(data) != pieceLength(size, in.next) {
		return violation("a piece that %s does not have", Shown(in.entry.Path))
	}
	if t.folder.hash.piece(data) != h {
		return violation("a piece of %s arrived damaged", Shown(in.entry.Path))
	}
	if in.next >= int64(len(t.kept[t.last])) { // or one that is here was replaced
		t.bytes += int64(len(data))
	}
	t.outcome.Pieces++
	return local(in.write(h, data))
}

// publish ends a file whose pieces are all there.
func (t *transfer) publish(in *incoming, root Hash) error {
	if in.next != piecesOf(in.entry.Size) || in.tree.root() != root {
		return violation("%s is not what its sender says", Shown(in.entry.Path))
	}
	name, err := t.folder.publish(in)
	t.file = nil
	delete(t.kept, t.last)
	if err != nil {
		return local(err)
	}
	t.done[t.last] = true
	t.tell(Event{Type: Received, Peer: t.peer, Path: in.entry.Path, Local: name})
	return nil
}

// When the sender and the person hear how much is here.
const reportEvery = 250 * time.Millisecond

// report tells the sender how much is here, if it is time.
func (t *transfer) report(now bool) error {
	if !now && time.Since(t.told) < reportEvery {
		return nil
	}
	t.told = time.Now()
	t.tell(Event{Type: Progress, Peer: t.peer, Files: t.manifest.Files, Bytes: t.manifest.Bytes, Done: t.bytes})
	return t.w.send(kindGot, binary.BigEndian.AppendUint64(nil, uint64(t.bytes)))
}

// end ends a transfer of which the sender has sent all.
func (t *transfer) end() (verdict, error) {
	if t.file != nil {
		return cut, violation("the end within a file")
	}
	failed, err := t.folder.finish(t.manifest.Entries)
	if err != nil {
		return cut, local(err)
	}
	for _, f := range failed {
		t.tell(Event{Type: Failed, Peer: t.peer, Path: f.Path, Err: f.Err})
	}
	t.outcome.Failed = append(t.outcome.Failed, failed...)
	t.outcome.Files, t.outcome.Bytes = 0, 0
	for i := range t.done {
		t.outcome.Files++
		t.outcome.Bytes += t.manifest.Entries[i].Size
	}
	if err := t.report(true); err != nil {
		return cut, err
	}
	if err := t.folder.journal.end(); err != nil {
		return cut, local(err)
	}
	if err := t.w.send(kindFinish, binary.BigEndian.AppendUint32(nil, uint32(t.outcome.Files))); err != nil {
		return cut, err
	}
	f, err := t.next(time.After(byeLimit))
	if err != nil || f.kind != kindBye {
		return unsure, nil
	}
	return whole, local(t.folder.journal.remove())
}

// closeFile closes the partial file of a transfer that was cut off.
func (t *transfer) closeFile() {
	if t.file != nil {
		t.file.file.Close()
	}
}
