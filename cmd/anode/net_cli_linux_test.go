package main_test

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"
)

// TestNetCommands: what scripts use, with real daemons: wait, endpoints, up --json, ping
// --json, and a status that fits its terminal.
func TestNetCommands(t *testing.T) {
	a, b := pair(t)
	b.up()
	up := a.start(a.bin, "up", "--json", "--open", "--state", a.state(), "--socket", a.socket())
	within(t, dialWait, "up to run", func() bool { return strings.Contains(up.output(), `"type":"running"`) })

	if out, code := a.tryAnode("wait", "b", "--timeout", "30", "--direct"); code != 0 || out != "" {
		t.Errorf("wait: %d, %s", code, out)
	}
	if out, code := a.tryAnode("ping", "b", "-c1", "--json"); code != 0 || strings.Count(out, "\n") != 2 || !strings.Contains(out, `"transmitted":1,"received":1`) {
		t.Errorf("ping: %d, %s", code, out)
	}
	a.anode("peers", "endpoints", "add", "b", "udp:192.0.2.77:8737")
	if out := a.anode("peers", "endpoints", "b", "--tsv"); !strings.Contains(out, "udp:192.0.2.77:8737\tgiven\n") {
		t.Error(out)
	}
	within(t, dialWait, "a to learn where b is", func() bool {
		return strings.Contains(a.anode("peers", "endpoints", "b", "--tsv"), "\tlearned\n")
	})
	a.anode("peers", "endpoints", "rm", "b", "udp:192.0.2.77:8737")
	if out := a.anode("peers", "ls", "--json"); strings.Contains(out, "192.0.2.77") || !strings.Contains(out, `"learned"`) {
		t.Error(out)
	}
	out := a.anode("status")
	for line := range strings.Lines(out) {
		if len([]rune(line)) > 81 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
	if !strings.Contains(out, "warning: everybody can reach the ports of this machine") || !strings.Contains(out, "1 of 1 up") {
		t.Error(out)
	}

	told := func(kind string) {
		t.Helper()
		within(t, dialWait, "the event "+kind, func() bool { return strings.Contains(up.output(), `"type":"`+kind+`"`) })
	}
	told("connected")
	a.anode("peers", "rename", "b", "bee")
	told("renamed")
	a.anode("peers", "block", "bee")
	told("blocked")
	if out, code := a.tryAnode("wait", "bee", "--timeout", "30"); code != 5 || !strings.Contains(out, "anode peers unblock bee") {
		t.Errorf("wait: %d, %s", code, out)
	}
	a.anode("peers", "unblock", "bee")
	told("unblocked")
	a.anode("peers", "rm", "bee")
	told("removed")
	if code := up.end(syscall.SIGINT); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for line := range strings.Lines(up.output()) {
		if err := json.Unmarshal([]byte(line), &struct{}{}); err != nil {
			t.Errorf("%v: %s", err, line)
		}
	}
	if !strings.Contains(up.output(), `"type":"stopped"`) {
		t.Error(up.output())
	}
}
