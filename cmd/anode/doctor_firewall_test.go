package main

import (
	"fmt"
	"strings"
	"testing"
)

// ruleset is a listing of nf_tables: a chain "input" of a table "inet filter" with a
// policy, and its rules.
func ruleset(policy string, rules ...string) string {
	const table = `"family": "inet", "table": "filter"`
	list := []string{
		`{"metainfo": {"version": "1.0.6"}}`, `{"table": {"family": "inet", "name": "filter"}}`,
		`{"chain": {` + table + `, "name": "input", "type": "filter", "hook": "input", "prio": 0, "policy": "` + policy + `"}}`,
		`{"chain": {` + table + `, "name": "more"}}`,
		`{"chain": {` + table + `, "name": "output", "hook": "output", "policy": "drop"}}`,
	}
	for _, r := range rules {
		chain, exprs, _ := strings.Cut(r, ": ")
		list = append(list, `{"rule": {`+table+`, "chain": "`+chain+`", "expr": [`+exprs+`]}}`)
	}
	return `{"nftables": [` + strings.Join(list, ",\n") + `]}`
}

// The parts of rules, as nft -j lists them.
const (
	toPort      = `{"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 8737}}`
	toOther     = `{"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 53}}`
	toSet       = `{"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": {"set": [53, {"range": [8000, 9000]}]}}}`
	toNamedSet  = `{"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": "@ports"}}`
	ofTCP       = `{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 8737}}`
	ofUDP       = `{"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": "udp"}}`
	ofICMP      = `{"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": {"set": ["icmp", "ipv6-icmp"]}}}`
	fromEth0    = `{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "eth0"}}`
	fromLo      = `{"match": {"op": "==", "left": {"meta": {"key": "iif"}}, "right": "lo"}}`
	fromNet     = `{"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "saddr"}}, "right": {"prefix": {"addr": "10.0.0.0", "len": 8}}}}`
	established = `{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}}`
	stateMap    = `{"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set": [["established", {"accept": null}], ["invalid", {"drop": null}]]}}}`
	otherMap    = `{"vmap": {"key": {"meta": {"key": "l4proto"}}, "data": {"set": [["udp", {"jump": {"target": "more"}}]]}}}`
	counted     = `{"counter": {"packets": 0, "bytes": 0}}`
	accept      = `{"accept": null}`
	drop        = `{"drop": null}`
	reject      = `{"reject": {"type": "icmpx", "expr": "port-unreachable"}}`
	jump        = `{"jump": {"target": "more"}}`
)

func nftLine(chain string, parts ...string) string { return chain + ": " + strings.Join(parts, ", ") }

func TestJudgeRules(t *testing.T) {
	for _, c := range []struct {
		name, listing, want string
	}{
		{"nothing", `{"nftables": []}`, "fine firewall_rules"},
		{"open", ruleset("accept"), "fine firewall_rules"},
		{"drops the port", ruleset("accept", nftLine("input", toPort, counted, drop)), "bad firewall_rule_drops"},
		{"rejects the port", ruleset("accept", nftLine("input", toPort, reject)), "bad firewall_rule_drops"},
		{"drops a range", ruleset("accept", nftLine("input", toSet, drop)), "bad firewall_rule_drops"},
		{"drops all UDP", ruleset("accept", nftLine("input", ofUDP, drop)), "bad firewall_rule_drops"},
		{"drops all", ruleset("accept", nftLine("input", drop)), "bad firewall_rule_drops"},
		{"drops another port", ruleset("accept", nftLine("input", toOther, drop)), "fine firewall_rules"},
		{"drops TCP", ruleset("accept", nftLine("input", ofTCP, drop)), "fine firewall_rules"},
		{"drops ICMP", ruleset("accept", nftLine("input", ofICMP, drop)), "fine firewall_rules"},
		{"drops it by one interface", ruleset("accept", nftLine("input", fromEth0, toPort, drop)), "warn firewall_rule_drops_some"},
		{"drops a bad network", ruleset("accept", nftLine("input", fromNet, drop)), "fine firewall_rules"},
		{"accepted first", ruleset("accept", nftLine("input", toPort, accept), nftLine("input", drop)), "fine firewall_rules"},
		{"in a chain of its own", ruleset("accept", nftLine("more", toPort, drop), nftLine("input", jump)), "bad firewall_rule_drops"},
		{"policy", ruleset("drop"), "warn firewall_port_not_allowed"},
		{"policy, a usual server", ruleset("drop", nftLine("input", fromLo, accept), nftLine("input", established, accept), nftLine("input", ofTCP, accept), nftLine("input", ofICMP, accept)), "warn firewall_port_not_allowed"},
		{"policy, a usual server's map", ruleset("drop", nftLine("input", stateMap), nftLine("input", fromLo, accept)), "warn firewall_port_not_allowed"},
		{"policy, let in", ruleset("drop", nftLine("input", established, accept), nftLine("input", toPort, accept)), "fine firewall_rules"},
		{"policy, let in by a range", ruleset("drop", nftLine("input", toSet, accept)), "fine firewall_rules"},
		{"policy, let in by a chain", ruleset("drop", nftLine("more", toPort, accept), nftLine("input", ofUDP, jump)), "fine firewall_rules"},
		{"policy, let in from the LAN", ruleset("drop", nftLine("input", fromNet, toPort, accept)), "fine firewall_rules"},
		{"policy, the LAN is let in", ruleset("drop", nftLine("input", fromEth0, accept)), "fine firewall_rules"},
		{"policy, a set that is not known", ruleset("drop", nftLine("input", toNamedSet, accept)), "fine firewall_rules"},
		{"policy, a map that is not known", ruleset("drop", nftLine("input", otherMap)), "fine firewall_rules"},
		{"policy, something new", ruleset("drop", nftLine("input", `{"xt": null}`, accept)), "fine firewall_rules"},
		{"a loop", ruleset("accept", nftLine("more", jump), nftLine("input", jump)), "fine firewall_rules"},
	} {
		chains, err := parseNFT([]byte(c.listing))
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
		wantFindings(t, c.name, judgeRules(firewallRules{chains: chains}, nil, 8737), c.want)
	}
	wantFindings(t, "not allowed to look", judgeRules(firewallRules{}, errNoTool, 8737))
	got := judgeRules(firewallRules{legacy: true}, nil, 8737)
	if len(got) != 1 || !strings.Contains(got[0].Says, "were not read") {
		t.Errorf("%+v", got)
	}
}

// FuzzParseNFT: any listing may be read and judged.
func FuzzParseNFT(f *testing.F) {
	f.Add([]byte(ruleset("drop", nftLine("input", fromEth0, toSet, drop), nftLine("input", stateMap), nftLine("input", jump))))
	f.Add([]byte(`{"nftables": [{"chain": {"hook": "input"}}, {"rule": {"expr": [{"match": {"left": null}}]}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		chains, err := parseNFT(b)
		for _, found := range judgeRules(firewallRules{chains: chains}, err, 8737) {
			if found.Verdict.rank() < 0 || found.Code == "" {
				t.Error(fmt.Sprint(found))
			}
		}
	})
}
