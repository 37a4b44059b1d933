package main_test

import (
	"encoding/json"
	"slices"
	"strings"

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
		m.fault("why says %q, not %q: %s", got, want, inLine(out))
	}
}

// netCodes are what a must say of its own network, by the outermost box in front of it. What one
// relay alone shows of a symmetric NAT may not be enough.
var netCodes = map[string][]string{
	"router": {"reach_open"},
	"home":   {"reach_independent"},
	"random": {"reach_unclear", string(overlay.ReasonHereSymmetric)},
	"no-udp": {string(overlay.ReasonUDPBlocked)},
}

// surveyed checks netcheck and trace on a.
func (m *measurement) surveyed(l *laboratory) {
	if m.got != m.row.want || m.row.change.do != nil || m.row.loss() > 0 {
		return
	}
	var n struct{ Code string }
	out, _ := l.a.tryAnode("netcheck", "--json")
	err := json.Unmarshal([]byte(out), &n)
	want := netCodes[m.row.a.boxes[0]]
	if want != nil && (m.row.b.lan || m.row.b.shared > 0) { // b may have got the port that both use, and one relay cannot tell why a has another one
		want = append(slices.Clip(want), "reach_unclear")
	}
	if want != nil && !m.row.a.v6 && (err != nil || !slices.Contains(want, n.Code)) {
		m.fault("netcheck says %q, none of %q", n.Code, want)
	}
	var t struct {
		Hops []struct {
			What     string
			Received int
			Mean     float64 `json:"avg_ms"`
		}
	}
	out, code := l.a.tryAnode("trace", l.b.name, "--json", "-c", "3", "-W", "2")
	hops := map[way]int{none: 2, direct: 2, relay: 3}[m.got]
	// The words of an error may follow.
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&t); err != nil || len(t.Hops) != hops || code != map[bool]int{true: 0, false: 5}[m.got != none] {
		m.fault("trace ends with %d, and shows %d machines: %s", code, len(t.Hops), inLine(out))
		return
	}
	for k, h := range t.Hops[1:] {
		if m.got != none && (h.Received == 0 || k > 0 && h.Mean < t.Hops[k].Mean) {
			m.fault("trace: the %s answered %d times, in %v ms", h.What, h.Received, h.Mean)
		}
	}
}

// inLine is the beginning of an output as one line, for the report.
func inLine(out string) string {
	text := strings.Join(strings.Fields(out), " ")
	return text[:min(len(text), 400)]
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
