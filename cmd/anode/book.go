package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"anodenet/anode"
	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/daemon"
	"anodenet/cmd/internal/names"
	"anodenet/overlay"
	"anodenet/overlay/book"
	"anodenet/overlay/store"
)

// peerBook is the list of peers that people decided on: the daemon's, or the state
// database's while no daemon runs.
type peerBook interface {
	list(ctx context.Context) ([]entry, error)
	find(ctx context.Context, text string) (control.Resolved, error)
	add(ctx context.Context, r control.AddRequest) (control.Added, error)
	remove(ctx context.Context, a anode.Address) error
	rename(ctx context.Context, a anode.Address, name string) error
	block(ctx context.Context, a anode.Address, blocked bool) error
	lan(ctx context.Context, a anode.Address, on bool) error
	endpoints(ctx context.Context, r control.EndpointsRequest) (control.Endpoints, error)
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
	Fixed   bool              `json:"fixed"`           // the configuration adds it
	Seen    *time.Time        `json:"last_seen"`       // null: never, or no daemon runs
	LAN     bool              `json:"lan"`             // in this machine's virtual LAN

	// Only a daemon knows these.
	Alias      string `json:"alias,omitempty"`       // its IPv4 address here
	AliasClash string `json:"alias_clash,omitempty"` // who has the one that it has elsewhere
	relation
	control.Endpoints
}

// relation is what was agreed between a peer and this machine. Only a daemon knows it.
type relation struct {
	Relation control.State `json:"relation,omitempty"`
	Mine     bool          `json:"mine,omitempty"`    // another machine of the same person
	Via      []string      `json:"via,omitempty"`     // who brought it
	Said     string        `json:"said,omitempty"`    // what it calls itself
	Left     bool          `json:"left,omitempty"`    // it told that it removed this machine
	Refused  bool          `json:"refused,omitempty"` // see people.Request
}

// entryOf returns an entry without what only a daemon knows.
func entryOf(e control.BookEntry) entry {
	return entry{Address: e.Address, ID: e.Address.ID(), ULA: e.Address.ULA(), Name: e.Name, Blocked: e.Blocked, Fixed: e.Fixed, LAN: e.LAN, Endpoints: e.Endpoints}
}

// open returns the book that the flags select. --state without --socket selects the
// database, unless a daemon holds it; everything else selects a daemon, or the database
// of --state where none runs.
func (a *app) open(ctx context.Context) (peerBook, error) {
	if a.stateGiven && !a.socketGiven {
		b, err := a.openStore()
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
		return a.openStore()
	}
	return nil, err
}

// openHolder returns the book of the daemon that holds the state, on the usual socket.
func (a *app) openHolder(ctx context.Context, busy error) (peerBook, error) {
	id, err := daemon.LoadIdentity(a.state)
	if err == nil {
		b := clientBook{control.NewClient(a.socket)}
		if status, err := b.client.Status(ctx); err == nil && status.Address == id.Address() {
			return b, nil
		}
		b.close()
	}
	return nil, &failure{exitFailed, busy.Error(), "--socket PATH of the daemon that uses it"}
}

// clientBook is the book of a daemon.
type clientBook struct{ client *control.Client }

func (b clientBook) close() { b.client.Close() }

func (b clientBook) list(ctx context.Context) ([]entry, error) {
	status, err := b.client.Status(ctx)
	if err != nil {
		return nil, err
	}
	decided, err := b.client.Book(ctx)
	if err != nil {
		return nil, err
	}
	relations, err := b.relations(ctx)
	if err != nil {
		return nil, err
	}
	of := map[anode.Address]control.BookEntry{}
	for _, e := range decided.Peers {
		of[e.Address] = e
	}
	list := []entry{}
	for _, p := range status.Peers { // they are in the order in which people want them
		e, ok := of[p.Address]
		if !ok || !p.Allowed && !p.Blocked {
			continue
		}
		x := entryOf(e)
		x.State, x.Seen, x.Alias, x.AliasClash, x.relation = p.State, p.LastSeen, p.Alias, clash(status, p), relations[p.Address]
		list = append(list, x)
	}
	return list, nil
}

// relations returns what was agreed with others. A daemon of an older version does not know.
func (b clientBook) relations(ctx context.Context) (map[anode.Address]relation, error) {
	states, err := b.client.States(ctx)
	if err != nil && !unknownRequest(err) {
		return nil, err
	}
	of := map[anode.Address]relation{}
	for _, s := range states.States {
		of[s.Address] = relation{s.State, s.Mine, s.Via, s.Said, s.Left, s.Refused}
	}
	return of, nil
}

// unknownRequest reports whether a daemon of an older version does not know a request that has
// nothing in it that could be wrong.
func unknownRequest(err error) bool {
	var e *control.Error
	return errors.As(err, &e) && e.Code == control.CodeInvalid
}

func (b clientBook) find(ctx context.Context, text string) (control.Resolved, error) {
	return b.client.Resolve(ctx, text)
}

func (b clientBook) add(ctx context.Context, r control.AddRequest) (control.Added, error) {
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

func (b clientBook) lan(ctx context.Context, a anode.Address, on bool) error {
	return b.client.SetLAN(ctx, control.PeerLANRequest{Address: a, On: on})
}

func (b clientBook) endpoints(ctx context.Context, r control.EndpointsRequest) (control.Endpoints, error) {
	return b.client.Endpoints(ctx, r)
}

// storeBook is the book of a state directory that no daemon uses.
type storeBook struct {
	book *book.Book
	self anode.Address // zero before the first start

	suffix string // of host names
}

// stateFile is a book.Store that reads the state directory's database when it is opened,
// and opens it for writing only when something changes: who only looks at a directory
// changes nothing in it.
type stateFile struct {
	*store.Memory
	dir  string
	self anode.Address
	warn func(error)
}

// Write writes a batch to the file. What was learned is the daemon's affair.
func (s stateFile) Write(b book.Batch) error {
	if len(b.Put)+len(b.Delete) == 0 {
		return s.Memory.Write(b)
	}
	file, err := daemon.OpenStore(s.dir)
	if err != nil {
		return err
	}
	defer file.Close()
	if repair := file.Repaired(); repair != nil {
		s.warn(repair)
	}
	there, err := file.Load()
	if err != nil {
		return err
	}
	if seen, err := s.Memory.Load(); err != nil || !sameEntries(seen.Entries, there.Entries) {
		return errors.Join(errStateChanged, err)
	}
	if !s.self.IsZero() {
		if _, err := daemon.Mark(file, s.self); err != nil {
			return err
		}
	}
	if err := file.Write(b); err != nil {
		return err
	}
	return s.Memory.Write(b)
}

var errStateChanged = errors.New("the peers were changed by another program meanwhile; try: the same command again")

func sameEntries(a, b []book.Entry) bool {
	of := make(map[anode.Address]book.Entry, len(a))
	for _, e := range a {
		of[e.Address] = e
	}
	for _, e := range b {
		if old, ok := of[e.Address]; !ok || !sameEntry(old, e) {
			return false
		}
	}
	return len(a) == len(b)
}

func sameEntry(a, b book.Entry) bool {
	return a.Name == b.Name && a.Added == b.Added && a.Blocked == b.Blocked && a.LAN == b.LAN && a.Mine == b.Mine && a.Since.Equal(b.Since) &&
		slices.Equal(a.Endpoints, b.Endpoints) && slices.Equal(a.Hosts, b.Hosts) && slices.Equal(a.Via, b.Via)
}

// openStore opens the state directory's book with the peers of the configuration, as a
// daemon would. A bad record or configuration causes a warning, but does not lock people
// out of their peers.
func (a *app) openStore() (peerBook, error) {
	if a.state == daemon.NoState {
		return nil, &failure{exitFailed, "--state none keeps no peers", "--state DIR; or leave it out to ask the daemon"}
	}
	self, err := a.stateSelf()
	if err != nil {
		return nil, err
	}
	m, err := store.Read(a.state)
	if errors.Is(err, store.ErrDamaged) {
		return nil, fmt.Errorf("%w; try: anode up or anode daemon, which keeps what can be read and makes a new file", err)
	}
	if err != nil {
		return nil, err
	}
	return a.readStore(m, self)
}

// stateSelf returns the state directory's address, zero if it has none yet.
func (a *app) stateSelf() (anode.Address, error) {
	id, err := daemon.LoadIdentity(a.state)
	switch {
	case errors.Is(err, daemon.ErrNoIdentity):
		return anode.Address{}, nil
	case err != nil:
		return anode.Address{}, err
	}
	return id.Address(), nil
}

func (a *app) readStore(m *store.Memory, self anode.Address) (peerBook, error) {
	warn := func(err error) { fmt.Fprintf(a.err, "anode: warning: %s\n", oneLine(err.Error())) }
	cfg, err := a.source().Load()
	if err != nil {
		warn(err)
		cfg.Peers = nil
	}
	var fixed []book.Entry
	for _, p := range cfg.Peers {
		fixed = append(fixed, p.Entry())
	}
	b, report, err := book.Open(self, stateFile{m, a.state, self, warn}, fixed)
	if err != nil {
		return nil, err
	}
	for _, problem := range report {
		warn(problem)
	}
	return storeBook{b, self, cmp.Or(cfg.Names.Suffix, names.Suffix)}, nil
}

func (b storeBook) close() {}

func (b storeBook) list(context.Context) ([]entry, error) {
	list := []entry{}
	for _, e := range b.book.Entries() {
		list = append(list, entryOf(control.EntryOf(e, b.book.Learned(e.Address), nil)))
	}
	return list, nil
}

func (b storeBook) find(_ context.Context, text string) (control.Resolved, error) {
	var peers []names.Peer
	for _, e := range b.book.Entries() {
		peers = append(peers, names.Peer{Address: e.Address, Name: e.Name, Decided: true})
	}
	t, err := names.FindHost(peers, b.suffix, text)
	if err != nil {
		return control.Resolved{}, err
	}
	switch {
	case !b.self.IsZero() && (t.Self || t.Address == b.self || t.ULA == b.self.ULA() || t.ID == b.self.ID()):
		return control.ResolveSelf(b.self), nil
	case t.Self:
		return control.Resolved{}, &failure{exitFailed, "this machine has no address yet: there is no identity in the state directory", "anode up makes one; or --state DIR"}
	case t.Address.IsZero():
		return control.Resolved{}, fmt.Errorf("%w %q (without a daemon, only added peers are known)", names.ErrNotFound, text)
	}
	return control.Resolve(names.Peer{Address: t.Address, Name: t.Peer.Name}, t.Known), nil
}

func (b storeBook) add(_ context.Context, r control.AddRequest) (control.Added, error) {
	c, err := b.book.AddEntry(r.Entry(), time.Now())
	return control.AddedBy(c), err
}

func (b storeBook) remove(_ context.Context, a anode.Address) error {
	_, err := b.book.Remove(a, time.Now())
	return err
}

func (b storeBook) rename(_ context.Context, a anode.Address, name string) error {
	_, err := b.book.Rename(a, name)
	return err
}

func (b storeBook) block(_ context.Context, a anode.Address, blocked bool) error {
	change := b.book.Unblock
	if blocked {
		change = b.book.Block
	}
	_, err := change(a)
	return err
}

func (b storeBook) lan(_ context.Context, a anode.Address, on bool) error {
	_, err := b.book.SetLAN(a, on)
	return err
}

func (b storeBook) endpoints(_ context.Context, r control.EndpointsRequest) (control.Endpoints, error) {
	for _, e := range r.Remove {
		if _, err := b.book.RemoveEndpoint(r.Address, e); err != nil {
			return control.Endpoints{}, err
		}
	}
	if len(r.Add) > 0 {
		if _, err := b.book.AddEndpoints(r.Address, r.Add); err != nil {
			return control.Endpoints{}, err
		}
	}
	e := b.book.Get(r.Address)
	if !e.Added && !e.Blocked {
		return control.Endpoints{}, book.ErrUnknownPeer
	}
	return control.EndpointsOf(e, b.book.Learned(r.Address), nil), nil
}

// find resolves PEER in a book, and in DNS if it looks like a domain name.
func (a *app) find(ctx context.Context, b peerBook, text string) (control.Resolved, error) {
	if strings.TrimSpace(text) == "" {
		return control.Resolved{}, &failure{exitUsage, "PEER is empty: want a name, an address, a ULA or a short ID", "anode peers list"}
	}
	r, err := b.find(ctx, text)
	if err == nil || explain(err).exit != exitUnknownPeer || !names.Domain(text) || a.hostName(text) {
		return r, err
	}
	address, err := a.lookUp(ctx, text)
	if err != nil {
		return r, err
	}
	return b.find(ctx, address.String())
}

// findPeer is find for a verb that needs a peer, which this machine is not.
func (a *app) findPeer(ctx context.Context, b peerBook, text string) (control.Resolved, error) {
	r, err := a.find(ctx, b, text)
	if err == nil && r.Self {
		return r, errThisMachine()
	}
	return r, err
}

func errThisMachine() error {
	return &failure{exitFailed, "that is this machine itself, and not a peer", "anode peers list"}
}

// hostName reports whether a text is a name under the suffix, which DNS servers elsewhere are not
// told.
func (a *app) hostName(text string) bool {
	suffix := names.Suffix
	if cfg, err := a.source().Load(); err == nil {
		suffix = cfg.Names.Suffix
	}
	_, under := names.Under(strings.TrimSpace(text), suffix)
	return under
}

// lookUpLimit is how long DNS may take. A name server that does not answer would cost the
// resolver's own limit, ten seconds.
const lookUpLimit = 4 * time.Second

// lookUp asks DNS for the one address of a domain name.
func (a *app) lookUp(ctx context.Context, domain string) (anode.Address, error) {
	asking, cancel := context.WithTimeout(ctx, lookUpLimit)
	defer cancel()
	records, err := a.txt(asking, domain)
	if err != nil {
		return anode.Address{}, fmt.Errorf("%w %q, and DNS %s", names.ErrNotFound, domain, dnsWords(err))
	}
	var found []names.Peer
	for _, record := range records {
		address, ours, err := anode.ParseTXT(record)
		if ours && err != nil {
			return anode.Address{}, fmt.Errorf("the TXT record of %s: %w", domain, err)
		}
		if ours {
			found = append(found, names.Peer{Address: address})
		}
	}
	switch len(found) {
	case 0:
		return anode.Address{}, fmt.Errorf("%w %q: it has no TXT record anode:ADDRESS", names.ErrNotFound, domain)
	case 1:
		return found[0].Address, nil
	}
	return anode.Address{}, &names.AmbiguousError{Text: domain, Candidates: found}
}

// dnsWords says why DNS has no address for a name.
func dnsWords(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) && dns.IsNotFound {
		return "has no such name"
	}
	return "did not answer"
}

// whole reads the address of a peer to add. It must be the whole address, since anybody
// can search for a key whose short ID or beginning fits. A domain name's address comes
// from DNS, where anybody on the path may have forged it, so sure has to confirm it.
func (a *app) whole(ctx context.Context, text string, sure func(address anode.Address, domain string) error) (anode.Address, error) {
	if strings.TrimSpace(text) == "" {
		return anode.Address{}, &failure{exitUsage, "ADDRESS is empty", compareID}
	}
	address, err := names.Whole(text)
	if err == nil || errors.Is(err, names.ErrMalformed) {
		return address, err
	}
	if !names.Domain(text) || a.hostName(text) {
		return address, &failure{exitUsage, fmt.Sprintf("not a whole address: %q", text), compareID}
	}
	if address, err = a.lookUp(ctx, text); err != nil {
		return address, err
	}
	return address, sure(address, text)
}

const compareID = "\"anode id\" on the other machine shows its address"
