package daemon

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"anodenet/cmd/internal/control"
	"anodenet/info2"
	"anodenet/overlay/store"
)

const (
	historyLog  = "info2"         // name of the log in the store
	historyMax  = control.MaxLast // entries that it keeps
	followerMax = 256             // entries that wait for one who follows
)

// history keeps the texts of all networks in the state database, in the order in
// which they came, and hands them on to those who follow. Whoever reads and then
// follows misses none and gets none twice.
type history struct {
	store *store.Store
	log   *slog.Logger

	mu        sync.Mutex // held while an entry is written, and handed on
	followers map[*follower]bool
	closed    bool
}

// follower is one who follows; owned by the history's lock but for the channel's
// reading end.
type follower struct {
	entries chan control.Entry
	lost    uint64 // since the last one that found room
}

func newHistory(store *store.Store, log *slog.Logger) *history {
	return &history{store: store, log: log, followers: map[*follower]bool{}}
}

// recorder is the history of one network, as its servent takes it.
type recorder struct {
	*history
	network control.Network
}

// Append keeps a text, and hands it on even if that fails. A bridged one is there
// already, from where it came.
func (r recorder) Append(m info2.Message) error {
	if m.Bridged {
		return nil
	}
	return r.append(control.Entry{
		Time: m.Time, Network: r.network, MID: m.MID, From: m.From, Name: m.Name, Own: m.Own, Text: m.Text,
	})
}

// Recent gives the last texts of this network.
func (r recorder) Recent(n int) ([]info2.Message, error) {
	entries, err := r.tail(historyMax)
	var list []info2.Message
	for _, e := range entries {
		if e.Network == r.network {
			list = append(list, info2.Message{Time: e.Time, MID: e.MID, Text: e.Text, From: e.From, Name: e.Name, Own: e.Own})
		}
	}
	return list[max(0, len(list)-n):], err
}

func (h *history) append(e control.Entry) error {
	value, err := json.Marshal(e)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	err = h.store.AppendLog(historyLog, [][]byte{value}, historyMax)
	for f := range h.followers {
		next := e
		next.Lost = f.lost
		select {
		case f.entries <- next:
			f.lost = 0
		default:
			f.lost++
		}
	}
	return err
}

// tail gives the last entries, oldest first. One that cannot be read, of another
// version's making, is left out.
func (h *history) tail(n int) ([]control.Entry, error) {
	values, err := h.store.TailLog(historyLog, n)
	list := make([]control.Entry, 0, len(values))
	for _, v := range values {
		var e control.Entry
		if err := json.Unmarshal(v, &e); err != nil {
			h.log.Warn("an entry of info2's history cannot be read", "err", err)
			continue
		}
		list = append(list, e)
	}
	return list, err
}

// read gives the last entries, and with follow those that come.
func (h *history) read(last int, follow bool) (past []control.Entry, next <-chan control.Entry, stop func(), err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	past, err = h.tail(last)
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

// close lets those who follow go.
func (h *history) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for f := range h.followers {
		close(f.entries)
	}
	clear(h.followers)
}

// The hosts of the bare network that were of use are kept from run to run.
const (
	hostsKey = "info2.bare.hosts"
	hostsMax = 64
)

func loadHosts(store *store.Store) (hosts []netip.Addr, err error) {
	value, err := store.Meta(hostsKey)
	if err != nil || value == nil {
		return nil, err
	}
	return hosts, json.Unmarshal(value, &hosts)
}

// rememberHosts puts hosts first among those that are kept.
func rememberHosts(store *store.Store, first ...netip.Addr) error {
	old, err := loadHosts(store)
	if err != nil {
		return err
	}
	hosts := slices.Clone(first)
	for _, a := range old {
		if !slices.Contains(hosts, a) {
			hosts = append(hosts, a)
		}
	}
	value, err := json.Marshal(hosts[:min(len(hosts), hostsMax)])
	if err != nil {
		return err
	}
	return store.PutMeta(hostsKey, value)
}

// saveHosts keeps whom the bare network's servent has talked with, at the end.
func (t *talk) saveHosts() {
	n := t.find(control.NetworkBare)
	if n == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	list, err := n.Servent.Hosts(ctx)
	var good []netip.Addr
	for _, h := range list {
		if !h.Verified.IsZero() && h.Failures == 0 {
			good = append(good, h.Addr)
		}
	}
	if err == nil && len(good) > 0 {
		err = rememberHosts(t.store, good...)
	}
	if err != nil {
		t.log.Warn("info2 did not keep the hosts that it knows", "err", err)
	}
}
