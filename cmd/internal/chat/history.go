package chat

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"anodenet/cmd/internal/control"
	"anodenet/info2"
	"anodenet/overlay/mono"
)

const (
	historyMax  = control.MaxLast  // entries that each log keeps
	commitEvery = time.Second      // at most, for one log
	retryEvery  = 10 * time.Second // while the disk fails
	followerMax = 256              // entries that wait for a follower
)

// strangersRate is how many texts of strangers are kept, from all sources together: disks
// wear, and a log full of an hour of rubbish holds nothing else. Texts beyond that are
// shown, and not kept.
var strangersRate = mono.Rate{PerSecond: 1, Burst: 120}

// history keeps the texts of each network in a log of its own, in the order in which they
// came, and passes them to followers. A reader that then follows misses none and gets
// none twice.
//
// Texts are written by one goroutine (run), which collects what comes within a second
// into one commit. Until then, and while the disk fails, they wait in memory.
type history struct {
	store Store
	log   *slog.Logger
	clock func() mono.Time
	dirty chan struct{} // holds one: something waits to be written

	disk sync.Mutex // held while logs are written, or read; taken before mu

	mu        sync.Mutex
	journals  [2]*journal // adapter, bare
	followers map[*follower]bool
	closed    bool
	failing   bool // the last commit failed
}

// follower is one reader of what comes; its fields belong to the history's lock,
// except for the channel's reading end.
type follower struct {
	entries chan control.Entry
	lost    uint64 // since the last one that found room
}

// newHistory makes a history. It moves the entries of a log that both networks shared in
// earlier versions to a log for each.
func newHistory(store Store, log *slog.Logger) *history {
	start := time.Now()
	h := &history{
		store: store, log: log, clock: func() mono.Time { return mono.At(time.Since(start)) },
		dirty: make(chan struct{}, 1), followers: map[*follower]bool{},
		journals: [2]*journal{{network: control.NetworkAdapter}, {network: control.NetworkBare}},
	}
	if err := divide(store, log); err != nil {
		log.Warn("the info2 history of an earlier version cannot be read", "err", err)
	}
	return h
}

func (h *history) journal(network control.Network) *journal {
	if network == control.NetworkBare {
		return h.journals[1]
	}
	return h.journals[0]
}

// recorder is the history of one network, as its servent takes it.
type recorder struct {
	*history
	network control.Network
}

// Append keeps a text and passes it to followers. It ignores a bridged text, which the
// other network keeps. It never fails, and never waits for the disk.
func (r recorder) Append(m info2.Message) error {
	if !m.Bridged {
		r.append(control.Entry{
			Time: m.Time, Network: r.network, MID: m.MID, From: m.From, Name: m.Name, Own: m.Own, Text: m.Text,
		})
	}
	return nil
}

// Recent returns the last texts of this network.
func (r recorder) Recent(n int) ([]info2.Message, error) {
	r.disk.Lock()
	defer r.disk.Unlock()
	stored, err := tail(r.store, r.log, r.network, n)
	r.mu.Lock()
	defer r.mu.Unlock()
	var list []info2.Message
	for _, e := range r.journal(r.network).after(stored, n) {
		list = append(list, info2.Message{Time: e.Time, MID: e.MID, Text: e.Text, From: e.From, Name: e.Name, Own: e.Own})
	}
	return list, err
}

func (h *history) append(e control.Entry) {
	h.mu.Lock()
	defer h.mu.Unlock()
	strange := e.Network == control.NetworkBare && !e.Own
	if h.journal(e.Network).add(e, !strange, h.clock()) {
		select {
		case h.dirty <- struct{}{}:
		default:
		}
	}
	for f := range h.followers {
		f.hand(e, strange)
	}
}

// hand passes an entry to the followers, without waiting. Strangers' texts get at most
// half of the room, so that they cannot displace friends' texts.
func (f *follower) hand(e control.Entry, strange bool) {
	room := cap(f.entries)
	if strange {
		room /= 2
	}
	if len(f.entries) >= room {
		f.lost++
		return
	}
	e.Lost = f.lost
	f.lost = 0
	f.entries <- e // has room: only we write, under the lock
}

// run writes texts as they come until ctx ends, and then the rest. It ends the followers.
func (h *history) run(ctx context.Context) {
	defer h.close()
	for {
		select {
		case <-ctx.Done():
			h.commit()
			return
		case <-h.dirty:
		}
		wait := commitEvery
		if !h.commit() {
			wait = retryEvery
			select {
			case h.dirty <- struct{}{}:
			default:
			}
		}
		_ = pause(ctx, wait) // its end is seen above
	}
}

// commit writes the waiting texts, one transaction per log, and reports whether that
// worked. It logs the first failure, and the first success after it.
func (h *history) commit() bool {
	h.disk.Lock()
	defer h.disk.Unlock()
	var errs []error
	for _, j := range h.journals {
		h.mu.Lock()
		batch := j.waiting
		h.mu.Unlock()
		if len(batch) == 0 {
			continue
		}
		err := write(h.store, j.network, batch)
		if err == nil {
			h.mu.Lock()
			j.waiting = slices.Clone(j.waiting[len(batch):])
			h.mu.Unlock()
		}
		errs = append(errs, err)
	}
	err := errors.Join(errs...)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch failed := err != nil; {
	case failed && !h.failing:
		h.log.Warn("the info2 history cannot be written; it will be retried", "err", err)
		h.failing = true
	case !failed && h.failing && len(errs) > 0:
		h.log.Info("the info2 history can be written again", "lost", h.journals[0].lost+h.journals[1].lost)
		h.failing = false
	}
	return err == nil
}

// count adds a network's counters of texts that were not kept.
func (h *history) count(network control.Network, counters map[string]uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	j := h.journal(network)
	if j.over > 0 {
		counters["history_over_budget"] = j.over
	}
	if j.lost > 0 {
		counters["history_disk_failed"] = j.lost
	}
}

// read returns the last entries of both networks (see Chat.Log), and with follow those
// that come after them, until stop is called.
func (h *history) read(last int, follow bool) (past []control.Entry, next <-chan control.Entry, stop func(), err error) {
	h.disk.Lock()
	defer h.disk.Unlock()
	var lists [2][]control.Entry
	var errs [2]error
	for i, j := range h.journals {
		lists[i], errs[i] = tail(h.store, h.log, j.network, last)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for i, j := range h.journals {
		lists[i] = j.after(lists[i], last)
	}
	past, err = share(lists[0], lists[1], last), errors.Join(errs[:]...)
	if err != nil || !follow {
		return past, nil, func() {}, err
	}
	f := &follower{entries: make(chan control.Entry, followerMax)}
	if h.closed {
		close(f.entries)
	} else {
		h.followers[f] = true
	}
	return past, f.entries, func() { h.remove(f) }, nil
}

func (h *history) remove(f *follower) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.followers, f)
}

// close ends the followers.
func (h *history) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for f := range h.followers {
		close(f.entries)
	}
	clear(h.followers)
}
