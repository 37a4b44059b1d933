package chat

import (
	"encoding/json"
	"log/slog"
	"slices"

	"anodenet/cmd/internal/control"
	"anodenet/overlay/mono"
)

const (
	waitingMax = 512     // entries of a log that wait to be written
	commonLog  = "info2" // of both networks, written by earlier versions
)

// logName is the name of a network's log in the store.
func logName(network control.Network) string { return commonLog + "." + string(network) }

// journal holds the entries that wait for one network's log. The history's lock guards
// it.
type journal struct {
	network control.Network
	waiting []control.Entry // not written yet, oldest first
	budget  mono.Bucket     // of strangers' texts
	over    uint64          // strangers' texts beyond their budget, not kept
	lost    uint64          // texts for which there was no room while the disk failed
}

// add takes an entry, and reports whether it will be written. Free entries have no
// budget.
func (j *journal) add(e control.Entry, free bool, now mono.Time) bool {
	switch {
	case !free && !j.budget.Allow(now, strangersRate):
		j.over++
		return false
	case len(j.waiting) >= waitingMax:
		j.lost++
		return false
	}
	j.waiting = append(j.waiting, e)
	return true
}

// after returns the last n of the stored and the waiting entries.
func (j *journal) after(stored []control.Entry, n int) []control.Entry {
	all := append(stored, j.waiting...)
	return all[max(0, len(all)-n):]
}

// write appends entries to a network's log, in one transaction.
func write(store Store, network control.Network, entries []control.Entry) error {
	values := make([][]byte, len(entries))
	for i, e := range entries {
		var err error
		if values[i], err = json.Marshal(e); err != nil {
			return err
		}
	}
	return store.AppendLog(logName(network), values, historyMax)
}

// tail returns the last n entries of a network's log, oldest first. Entries that
// another version wrote and this one cannot read are left out.
func tail(store Store, log *slog.Logger, network control.Network, n int) ([]control.Entry, error) {
	values, err := store.TailLog(logName(network), n)
	return decode(log, values), err
}

func decode(log *slog.Logger, values [][]byte) []control.Entry {
	list := make([]control.Entry, 0, len(values))
	unreadable := 0
	for _, v := range values {
		var e control.Entry
		if json.Unmarshal(v, &e) != nil {
			unreadable++
			continue
		}
		list = append(list, e)
	}
	if unreadable > 0 {
		log.Warn("some entries of the info2 history cannot be read", "count", unreadable)
	}
	return list
}

// share merges two lists, each oldest first, by time, and returns the n newest
// entries; but each list has at least half of the places if it can fill them.
func share(a, b []control.Entry, n int) []control.Entry {
	half := n / 2
	newest := merge(a, b)
	newest = newest[max(0, len(newest)-n):]
	ofA := 0
	for _, e := range newest {
		if len(a) > 0 && e.Network == a[0].Network {
			ofA++
		}
	}
	ofB := len(newest) - ofA
	switch {
	case ofA < min(half, len(a)):
		ofA = min(half, len(a))
		ofB = min(n-ofA, len(b))
	case ofB < min(half, len(b)):
		ofB = min(half, len(b))
		ofA = min(n-ofB, len(a))
	default:
		return newest
	}
	return merge(a[len(a)-ofA:], b[len(b)-ofB:])
}

// merge keeps the order of each list, whatever its times are.
func merge(a, b []control.Entry) []control.Entry {
	list := make([]control.Entry, 0, len(a)+len(b))
	for len(a) > 0 && len(b) > 0 {
		if b[0].Time.Before(a[0].Time) {
			list, b = append(list, b[0]), b[1:]
		} else {
			list, a = append(list, a[0]), a[1:]
		}
	}
	return slices.Concat(list, a, b)
}

// divide moves the entries of the log that both networks shared to the log of the network
// that each entry names, and empties the old log. If it is interrupted, the next start
// does it again, and moves nothing twice.
func divide(store Store, log *slog.Logger) error {
	values, err := store.TailLog(commonLog, historyMax)
	if err != nil || len(values) == 0 {
		return err
	}
	entries := decode(log, values)
	for _, network := range []control.Network{control.NetworkAdapter, control.NetworkBare} {
		there, err := store.TailLog(logName(network), historyMax)
		if err != nil {
			return err
		}
		moved := make(map[string]bool, len(there))
		for _, v := range there {
			moved[string(v)] = true
		}
		var rest []control.Entry
		for _, e := range entries {
			value, err := json.Marshal(e)
			if err != nil {
				return err
			}
			if e.Network == network && !moved[string(value)] {
				rest = append(rest, e)
			}
		}
		if err := write(store, network, rest); err != nil {
			return err
		}
	}
	return store.AppendLog(commonLog, nil, 0)
}
