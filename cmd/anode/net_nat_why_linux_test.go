package main_test

import (
	"encoding/json"
	"slices"

	"anodenet/overlay"
)

// natReasons is what a must say about b in the rows that are not direct, as long as nothing
// else has happened there.
var natReasons = map[string]overlay.Reason{
	"random-home":         overlay.ReasonHereSymmetric,
	"fully-home":          overlay.ReasonHereSymmetric,
	"random-moved":        overlay.ReasonHereSymmetric,
	"carrier-random-home": overlay.ReasonHereSymmetric,
	"random-random":       overlay.ReasonBothSymmetric,
	"random-random-loss":  overlay.ReasonBothSymmetric,
	"sequential-random":   overlay.ReasonBothSymmetric,
	"nat-rebooted-relay":  overlay.ReasonBothSymmetric,
	"neighbours":          overlay.ReasonHairpin,
	"twins":               overlay.ReasonHairpin,
	"ipv6-ipv4":           overlay.ReasonFamilyMismatch,
	"no-udp":              overlay.ReasonUDPBlocked,
}

// reason is the code of what a says about b: why it is not reached, or else why the path is not
// a better one.
func (l *laboratory) reason() (overlay.Reason, string) {
	out, _ := l.a.tryAnode("why", l.b.name, "--json")
	var w struct {
		Code     string         `json:"code"`
		PathCode overlay.Reason `json:"path_code"`
	}
	if err := json.Unmarshal([]byte(out), &w); err != nil {
		return "", out
	}
	if w.Code == "up" {
		return w.PathCode, out
	}
	return overlay.Reason(w.Code), out
}

// explained checks what a says about b, in each row that is as it must be: nothing is in the way
// of a direct path, and everything else has its reason.
func (m *measurement) explained(l *laboratory) {
	want, known := natReasons[m.row.name]
	if m.got != m.row.want || !known && m.got != direct {
		return
	}
	if got, out := l.reason(); got != want {
		m.fault("why says %q, not %q: %s", got, want, out[:min(len(out), 2000)])
	}
}

// unknownRows are the names in natReasons that no relayed row has.
func unknownRows() (list []string) {
	for name := range natReasons {
		if !slices.ContainsFunc(topologies, func(t topology) bool { return t.name == name && t.want != direct }) {
			list = append(list, name)
		}
	}
	return list
}
