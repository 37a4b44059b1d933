package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/daemon"
	"anodenet/cmd/internal/names"
	"anodenet/overlay"
	peerbook "anodenet/overlay/book"
	"anodenet/overlay/store"
)

// book is the list of peers that were added: the daemon's, or while none runs the
// state database's.
type book interface {
	list(ctx context.Context) ([]entry, error)
	find(ctx context.Context, text string) (control.Resolved, error)
	add(ctx context.Context, r control.AddRequest) error
	remove(ctx context.Context, a anode.Address) error
	rename(ctx context.Context, a anode.Address, name string) error
	block(ctx context.Context, a anode.Address, blocked bool) error
	close()
}

// entry is a peer in a book.
type entry struct {
	Address anode.Address     `json:"address"`
	ID      anode.ID          `json:"id"`
	ULA     anode.ULA         `json:"ula"`
	Name    string            `json:"name"`
	Blocked bool              `json:"blocked"`
	State   overlay.PeerState `json:"state,omitempty"` // only a daemon knows
}

// open finds the book that the flags mean. --state without --socket is the
// database, if no daemon holds it; everything else is a daemon, and the database
// of --state where none runs.
func (a *app) open(ctx context.Context) (book, error) {
	if a.stateGiven && !a.socketGiven {
		b, err := openStoreBook(a.state)
		if !errors.Is(err, store.ErrStateBusy) {
			return b, err
		}
		return a.openHolder(ctx, err)
	}
	b := clientBook{control.NewClient(a.socket)}
	_, err := b.client.Status(ctx)
	if err == nil {
		return b, nil
	}
	b.close()
	if errors.Is(err, control.ErrNoDaemon) && a.stateGiven {
		return openStoreBook(a.state)
	}
	return nil, err
}

// openHolder finds the daemon that holds the state, on the usual socket.
func (a *app) openHolder(ctx context.Context, busy error) (book, error) {
	id, err := daemon.Identity(a.state, 0)
	if err != nil {
		return nil, err
	}
	b := clientBook{control.NewClient(a.socket)}
	if status, err := b.client.Status(ctx); err == nil && status.Address == id.Address() {
		return b, nil
	}
	b.close()
	return nil, &failure{exitFailed, busy.Error(), "--socket PATH of the daemon that has it"}
}

// clientBook is a daemon's.
type clientBook struct{ client *control.Client }

func (b clientBook) close() { b.client.Close() }

func (b clientBook) list(ctx context.Context) ([]entry, error) {
	status, err := b.client.Status(ctx)
	if err != nil {
		return nil, err
	}
	list := []entry{}
	for _, p := range status.Peers {
		if p.Allowed || p.Blocked {
			list = append(list, entry{p.Address, p.ID, p.ULA, p.Name, p.Blocked, p.State})
		}
	}
	return list, nil
}

func (b clientBook) find(ctx context.Context, text string) (control.Resolved, error) {
	return b.client.Resolve(ctx, text)
}

func (b clientBook) add(ctx context.Context, r control.AddRequest) error {
	return b.client.Add(ctx, r)
}

func (b clientBook) remove(ctx context.Context, a anode.Address) error {
	return b.client.Remove(ctx, control.RemoveRequest{Address: a})
}

func (b clientBook) rename(ctx context.Context, a anode.Address, name string) error {
	return b.client.Rename(ctx, control.RenameRequest{Address: a, Name: name})
}

func (b clientBook) block(ctx context.Context, a anode.Address, blocked bool) error {
	return b.client.Block(ctx, control.BlockRequest{Address: a, Blocked: blocked})
}

// storeBook is a state directory's that no daemon has.
type storeBook struct {
	store *store.Store
	book  *peerbook.Book
	self  anode.Address
}

func openStoreBook(state string) (book, error) {
	s, err := store.Open(state)
	if err != nil {
		return nil, err
	}
	id, err := daemon.Identity(state, 0)
	if err != nil {
		s.Close()
		return nil, err
	}
	b, _, err := peerbook.Open(id.Address(), s, nil)
	if err != nil {
		s.Close()
		return nil, err
	}
	return storeBook{s, b, id.Address()}, nil
}

func (b storeBook) close() { b.store.Close() }

func (b storeBook) list(context.Context) ([]entry, error) {
	list := []entry{}
	for _, p := range b.book.Entries() {
		list = append(list, entry{p.Address, p.Address.ID(), p.Address.ULA(), p.Name, p.Blocked, ""})
	}
	return list, nil
}

func (b storeBook) find(_ context.Context, text string) (control.Resolved, error) {
	var peers []names.Peer
	for _, p := range b.book.Entries() {
		peers = append(peers, names.Peer{Address: p.Address, Name: p.Name})
	}
	t, err := names.Find(peers, text)
	if err != nil {
		return control.Resolved{}, err
	}
	switch {
	case t.ULA == b.self.ULA(), t.ID == b.self.ID():
		t.Address = b.self
	case t.Address.IsZero():
		return control.Resolved{}, fmt.Errorf("%w: %q (without a daemon only added peers are known)", names.ErrNotFound, text)
	}
	return control.Resolve(names.Peer{Address: t.Address, Name: t.Peer.Name}, t.Known), nil
}

func (b storeBook) add(_ context.Context, r control.AddRequest) error {
	_, err := b.book.Add(r.Address, r.Name, r.Endpoints, time.Now())
	return err
}

func (b storeBook) remove(_ context.Context, a anode.Address) error {
	_, err := b.book.Remove(a)
	return err
}

func (b storeBook) rename(_ context.Context, a anode.Address, name string) error {
	_, err := b.book.Rename(a, name)
	return err
}

func (b storeBook) block(_ context.Context, a anode.Address, blocked bool) error {
	f := b.book.Unblock
	if blocked {
		f = b.book.Block
	}
	_, err := f(a)
	return err
}

// find resolves PEER in a book, and in the DNS where it looks like a domain.
func (a *app) find(ctx context.Context, b book, text string) (control.Resolved, error) {
	r, err := b.find(ctx, text)
	if err == nil || explain(err).exit != exitUnknownPeer || !names.Domain(text) {
		return r, err
	}
	records, lookupErr := a.txt(ctx, text)
	if lookupErr != nil {
		return r, fmt.Errorf("%w, and the DNS says: %w", names.ErrNotFound, lookupErr)
	}
	var found []names.Peer
	for _, record := range records {
		address, ours, err := anode.ParseTXT(record)
		if ours && err != nil {
			return r, fmt.Errorf("the TXT record of %s: %w", text, err)
		}
		if ours {
			found = append(found, names.Peer{Address: address})
		}
	}
	switch len(found) {
	case 0:
		return r, fmt.Errorf("%w: %s has no TXT record anode:ADDRESS", names.ErrNotFound, text)
	case 1:
		return b.find(ctx, found[0].Address.String())
	}
	return r, &names.AmbiguousError{Text: text, Candidates: found}
}
