package book

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
)

// flushEvery is the least time between two writes of what was learned.
const flushEvery = time.Second

// Learned returns the endpoints that were last learned for a peer, newest first. The
// caller must not change them.
func (b *Book) Learned(a anode.Address) []wire.Endpoint {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.learned[a]
}

// Learn notes where a peer was found, newest first; Run writes it. It does not wait
// for the disk. Of a peer only the newest list is kept, and none of a peer that the
// Store does not have as added, so what waits has the bound of the book, and nothing
// that was learned outlives its peer.
func (b *Book) Learn(a anode.Address, endpoints []wire.Endpoint) {
	endpoints = distinct(endpoints, MaxLearned)
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.shelf.stored[a].Added || b.shelf.standing(a) == Blocked || slices.Equal(b.learned[a], endpoints) {
		return
	}
	b.learned[a], b.dirty[a] = endpoints, true
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// distinct returns the first endpoints of a list, each once: a peer that was restarted may
// be known under the same endpoint several times.
func distinct(list []wire.Endpoint, limit int) []wire.Endpoint {
	var first []wire.Endpoint
	for _, e := range list {
		if len(first) < limit && !slices.Contains(first, e) {
			first = append(first, e)
		}
	}
	return first
}

// Flush writes what was learned and is not in the Store yet. What cannot be written
// waits for the next time.
func (b *Book) Flush() error {
	b.writes.Lock()
	defer b.writes.Unlock()
	b.mu.Lock()
	batch := Batch{Learned: make(map[anode.Address][]wire.Endpoint, len(b.dirty))}
	for a := range b.dirty {
		batch.Learned[a] = b.learned[a]
	}
	clear(b.dirty)
	b.mu.Unlock()
	if len(batch.Learned) == 0 {
		return nil
	}
	err := b.store.Write(batch)
	if err != nil {
		// While writes is held nobody is removed, so these are still of the book.
		b.mu.Lock()
		defer b.mu.Unlock()
		for a := range batch.Learned {
			b.dirty[a] = true
		}
	}
	return err
}

// Run writes what is learned, at most once a second, until ctx ends, and then the
// rest. No timer runs while there is nothing to write.
func (b *Book) Run(ctx context.Context, log *slog.Logger) {
	flush := func() {
		if err := b.Flush(); err != nil {
			log.Warn("the endpoints that were learned are not written", "err", err)
		}
	}
	for {
		select {
		case <-b.wake:
			flush()
		case <-ctx.Done():
			flush()
			return
		}
		rest := time.NewTimer(flushEvery)
		select {
		case <-rest.C:
		case <-ctx.Done():
			rest.Stop()
		}
	}
}
