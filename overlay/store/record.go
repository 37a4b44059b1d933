package store

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"anodenet/anode"
	"anodenet/anode/wire"
	"anodenet/overlay/book"
)

// record is an entry as the file has it, under its address. Earlier versions wrote no
// standing and no LAN; they ignore both.
type record struct {
	Address   string         `json:"address"` // as the key says
	Name      string         `json:"name,omitempty"`
	Endpoints []string       `json:"endpoints,omitempty"`
	Hosts     []string       `json:"hosts,omitempty"` // endpoints by the names of machines
	Blocked   bool           `json:"blocked,omitempty"`
	LAN       bool           `json:"lan,omitempty"`      // in our virtual LAN
	Mine      bool           `json:"mine,omitempty"`     // a device of the same person
	Via       []string       `json:"via,omitempty"`      // the addresses of who brought it
	Added     time.Time      `json:"added"`              // when
	Standing  *book.Standing `json:"standing,omitempty"` // without the block: added or stranger
}

func encodeEntry(e book.Entry) ([]byte, error) {
	standing := book.Stranger
	if e.Added {
		standing = book.Added
	}
	r := record{Address: e.Address.String(), Name: e.Name, Blocked: e.Blocked, LAN: e.LAN, Mine: e.Mine, Added: e.Since, Standing: &standing}
	for _, ep := range e.Endpoints {
		r.Endpoints = append(r.Endpoints, ep.String())
	}
	for _, h := range e.Hosts {
		r.Hosts = append(r.Hosts, h.String())
	}
	for _, v := range e.Via {
		r.Via = append(r.Via, v.String())
	}
	return json.Marshal(r)
}

// decodeEntry reads an entry. An earlier version stored a blocked stranger like a blocked
// peer. Such an entry without a name and endpoints is taken for a stranger, so that
// unblocking it does not let it in. An endpoint of a kind that only a later version knows
// is left out and listed in the problems; the entry and its block stay.
func decodeEntry(key, value []byte) (e book.Entry, problems []error, err error) {
	a, err := addressKey(key)
	if err != nil {
		return book.Entry{}, nil, err
	}
	var r record
	if json.Unmarshal(value, &r) != nil {
		return book.Entry{}, nil, errRecord
	}
	if r.Address != a.String() {
		return book.Entry{}, nil, fmt.Errorf("it is under the key of %s", a)
	}
	e = book.Entry{Address: a, Name: r.Name, Since: r.Added, Blocked: r.Blocked, LAN: r.LAN, Mine: r.Mine}
	for _, text := range r.Endpoints {
		ep, err := wire.EndpointFromText(text)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		e.Endpoints = append(e.Endpoints, ep)
	}
	for _, text := range r.Hosts {
		h, err := book.ParseHost(text)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		e.Hosts = append(e.Hosts, h)
	}
	for _, text := range r.Via {
		v, err := anode.ParseAddress(text)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		e.Via = append(e.Via, v)
	}
	if r.Standing != nil {
		e.Added = *r.Standing == book.Added
	} else {
		e.Added = !r.Blocked || r.Name != "" || len(r.Endpoints)+len(r.Hosts) > 0
	}
	return e, problems, nil
}

// errRecord is all that a person can use of a parser's error.
var errRecord = errors.New("it is damaged, or a later version wrote it")

// addressKey reads a key of the buckets. The book checks that it is an address.
func addressKey(key []byte) (anode.Address, error) {
	if len(key) != anode.AddressSize {
		return anode.Address{}, fmt.Errorf("its key has %d bytes", len(key))
	}
	return anode.Address(key), nil
}

// keyText shows a key of the buckets.
func keyText(key []byte) string {
	if a, err := addressKey(key); err == nil {
		return a.String()
	}
	return hex.EncodeToString(key[:min(len(key), anode.AddressSize)])
}

func encodeLearned(es []wire.Endpoint) ([]byte, error) { return json.Marshal(es) }

// decodeLearned reads the endpoints learned for an address.
func decodeLearned(key, value []byte) (a anode.Address, es []wire.Endpoint, err error) {
	if a, err = addressKey(key); err != nil {
		return a, nil, err
	}
	if json.Unmarshal(value, &es) != nil {
		return a, nil, errRecord
	}
	return a, es[:min(len(es), book.MaxLearned)], nil
}
