package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"anodenet/cmd/internal/control"
	"anodenet/cmd/internal/daemon"
	"anodenet/overlay"
	"anodenet/overlay/link"
	"anodenet/overlay/store"
)

// portOf returns the port of an endpoint to listen on, udp:[::]:8737.
func portOf(listen []string) uint16 {
	for _, l := range listen {
		if i := strings.LastIndexByte(l, ':'); i >= 0 {
			if port, err := strconv.ParseUint(l[i+1:], 10, 16); err == nil {
				return uint16(port)
			}
		}
	}
	return 0
}

func checkDaemon(_ context.Context, p *patient) []finding {
	return judgeDaemon(p)
}

func judgeDaemon(p *patient) []finding {
	const topic = "daemon"
	who := ""
	if p.holder.pid != 0 {
		who = fmt.Sprintf(", PID %d", p.holder.pid)
	}
	var remote *control.Error
	switch err := p.statusErr; {
	case err == nil:
		up := age(time.Duration(p.status.Uptime) * time.Second)
		list := []finding{{topic, fine, "has run for " + up + ", version " + p.status.Version + who, "", "daemon"}}
		if p.status.Version != p.version {
			list = append(list, finding{topic, warn, fmt.Sprintf("the daemon is version %s, this program is %s", p.status.Version, p.version),
				thisService().restart(), "daemon_version"})
		}
		return list
	case errors.Is(err, control.ErrNoDaemon):
		return []finding{{topic, warn, "no daemon is running, so this machine is not on the network (nothing listens on " + p.socket + ")",
			thisService().start() + "; or --socket PATH of a running daemon", "no_daemon"}}
	case errors.Is(err, context.DeadlineExceeded):
		return []finding{judgeSilence(p)}
	case errors.Is(err, fs.ErrPermission):
		return []finding{{topic, bad, "this user may not talk to the daemon", explain(err).try, "daemon_denied"}}
	case errors.As(err, &remote):
		return []finding{{topic, bad, "the daemon does not tell its status: " + remote.Message, thisService().restart(), "daemon_failed"}}
	}
	return []finding{{topic, bad, "the daemon does not tell its status: " + oneLine(p.statusErr.Error()), "restart the daemon; or --socket PATH of another one", "daemon_failed"}}
}

// judgeSilence is about a daemon that accepts connections and does not answer.
func judgeSilence(p *patient) finding {
	const topic = "daemon"
	h := p.holder
	says, try := fmt.Sprintf("a daemon listens on %s, but did not answer within %v", p.socket, checkLimit), "restart it: sudo pkill -9 -x anode; then anode up"
	if h.pid != 0 {
		says = fmt.Sprintf("the daemon (PID %d) did not answer within %v", h.pid, checkLimit)
		try = fmt.Sprintf("sudo kill -9 %d; then anode up", h.pid)
	}
	switch h.state {
	case "T", "t":
		says += ": it was stopped, by SIGSTOP or a debugger"
		try = fmt.Sprintf("sudo kill -CONT %d", h.pid)
	case "D":
		says += ": it waits for a disk or a network drive"
	}
	return finding{topic, bad, says, try, "daemon_silent"}
}

// checkConfig reads the configuration as a daemon would that starts now.
func checkConfig(_ context.Context, p *patient) []finding {
	const topic = "config"
	if p.configErr != nil {
		var list []finding
		for line := range strings.Lines(p.configErr.Error()) {
			f := explain(errors.New(strings.TrimSpace(line)))
			try := f.try
			if try == "" {
				try = "anode config example shows every key; then anode config check"
			}
			list = append(list, finding{topic, bad, f.message, try, "config_invalid"})
		}
		return list
	}
	if _, err := os.Stat(p.configFile); errors.Is(err, fs.ErrNotExist) {
		return []finding{{topic, fine, "there is no file " + p.configFile + "; the defaults count", "", "config_default"}}
	}
	return []finding{{topic, fine, p.configFile + " is valid", "", "config"}}
}

const identityName, stateName = "identity", "state.db"

// keepsNothing reports whether there is no state directory.
func (p *patient) keepsNothing() bool { return p.state == daemon.NoState }

// checkIdentity looks at the identity file, and makes none.
func checkIdentity(_ context.Context, p *patient) []finding {
	const topic = "identity"
	if p.keepsNothing() {
		return []finding{{topic, fine, "none is kept: each start makes a new address (--state none)", "", "identity_not_kept"}}
	}
	path := filepath.Join(p.state, identityName)
	id, err := daemon.LoadIdentity(p.state)
	switch {
	case err == nil && p.status != nil && id.Address() != p.status.Address:
		return []finding{{topic, warn, fmt.Sprintf("%s is %s, but the daemon runs as %s", path, id.Address().ID(), p.status.ID),
			"if the daemon uses another directory: --state DIR; otherwise restart it", "identity_other"}}
	case err == nil:
		return []finding{{topic, fine, fmt.Sprintf("%s is %s; keep a backup of it, since it is this machine's address", path, id.Address().ID()), "", "identity"}}
	case errors.Is(err, daemon.ErrNoIdentity) && p.status != nil:
		return nil // the daemon uses another directory
	case errors.Is(err, daemon.ErrNoIdentity):
		return []finding{{topic, fine, "there is none yet in " + p.state + "; the first start makes one", "", "identity_none"}}
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() > 0, errors.Is(err, store.ErrStateBusy):
		return nil // as it should be
	}
	f := explain(err)
	if f.try == "" {
		f.try = "restore " + path + " from a backup; without it this machine gets a new address"
	}
	code := "identity_bad"
	if errors.Is(err, daemon.ErrIdentityLost) {
		code = "identity_lost"
	}
	return []finding{{topic, bad, f.message, f.try, code}}
}

// checkState reads the file of peers, and changes nothing. A daemon that has it keeps
// others out.
func checkState(_ context.Context, p *patient) []finding {
	const topic = "state"
	if p.keepsNothing() {
		return []finding{{topic, fine, "nothing is kept: peers that are added last until the daemon ends (--state none)", "", "state_not_kept"}}
	}
	path := filepath.Join(p.state, stateName)
	_, missing := os.Stat(path)
	m, err := store.Read(p.state)
	switch {
	case errors.Is(missing, fs.ErrNotExist) && p.status != nil:
		return nil // the daemon uses another directory
	case errors.Is(missing, fs.ErrNotExist):
		return []finding{{topic, fine, "there is no " + path + " yet; it is made with the first peer or start", "", "state_none"}}
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() > 0:
		return nil // as it should be
	case errors.Is(err, store.ErrStateBusy) && p.running():
		return []finding{{topic, fine, path + " is in use by the daemon", "", "state_in_use"}}
	case errors.Is(err, store.ErrStateBusy):
		return []finding{p.lockedState(path)}
	case m == nil:
		f := explain(err)
		return []finding{{topic, bad, f.message, cmp.Or(f.try, "anode up as the owner of the file"), "state_unreadable"}}
	}
	return judgeState(path, m, err)
}

// judgeState judges what could be read of the file.
func judgeState(path string, m *store.Memory, damage error) []finding {
	const topic = "state"
	c, err := m.Load()
	switch {
	case err != nil:
		return []finding{{topic, bad, path + ": " + oneLine(err.Error()), "restore it from a backup", "state_unreadable"}}
	case damage != nil:
		return []finding{{topic, bad, fmt.Sprintf("%s is damaged; %d peers and blocks in it can still be read. The identity is another file and not affected", path, len(c.Entries)),
			"a backup of the file, if you have one; otherwise start the daemon, which saves what can be read and keeps the damaged file", "state_damaged"}}
	case len(c.Problems) > 0:
		return []finding{{topic, warn, fmt.Sprintf("%d of its records cannot be read, such as: %s", len(c.Problems), oneLine(c.Problems[0].Error())),
			"add these peers again; anode peers list shows those that are there", "state_records"}}
	}
	return []finding{{topic, fine, fmt.Sprintf("%s can be read and has %d peers and blocks", path, len(c.Entries)), "", "state"}}
}

// lockedState is about a state that a process uses which does not answer on our socket.
func (p *patient) lockedState(path string) finding {
	says, try := path+" is in use by another process, but no daemon answers on "+p.socket, "--socket PATH of the daemon that uses it"
	if pid, err := p.machine.locker(path); err == nil && pid > 0 {
		says = fmt.Sprintf("%s is in use by the process with PID %d, but no daemon answers on %s", path, pid, p.socket)
		try = fmt.Sprintf("--socket PATH of that daemon; or end it: sudo kill %d", pid)
	}
	return finding{"state", bad, says, try, "state_locked"}
}

// checkSecret reads the network's secret that the configuration names.
func checkSecret(_ context.Context, p *patient) []finding {
	const topic = "secret"
	path := p.config.Secret.Path
	if path == "" {
		return nil
	}
	var err error
	if failed := asKeeper(p.state, func() { _, err = p.config.Secret.Load() }); failed != nil {
		err = failed
	}
	switch {
	case err == nil:
		return []finding{{topic, fine, "the network has a secret (" + path + "): only peers with the same one can connect", "", "secret"}}
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() > 0:
		return nil // as it should be
	}
	f := explain(err)
	if errors.Is(err, fs.ErrPermission) { // root reads it, and the service's user does not
		f.try = "chown " + serviceUser + " " + path
	}
	if f.try == "" || f.try == "anode config example" {
		f.try = "copy the file from another machine of the network, chmod 600 " + path + "; for a new network: anode config secret " + path
	}
	return []finding{{topic, bad, "the network's secret: " + f.message, f.try, "secret_bad"}}
}

// maxSocketPath is the longest path of a unix socket on Linux (unix(7)).
const maxSocketPath = 107

// checkSocket looks at the control socket's file, or what is in its place.
func checkSocket(_ context.Context, p *patient) []finding {
	const topic = "socket"
	if len(p.socket) > maxSocketPath {
		return []finding{{topic, bad, fmt.Sprintf("the path %s has %d characters; a socket's may have %d", p.socket, len(p.socket), maxSocketPath), "--socket with a shorter path", "socket_path"}}
	}
	info, err := os.Lstat(p.socket)
	if err != nil {
		return nil // the finding about the daemon says so
	}
	uid, known := ownerOf(info)
	s := socketFile{mode: info.Mode(), owner: uid, known: known, daemon: p.holder.uid, answers: p.running()}
	return judgeSocket(p.socket, s, os.Geteuid())
}

// socketFile is what is at the path of the control socket.
type socketFile struct {
	mode    fs.FileMode
	owner   int
	known   bool // owner is
	daemon  int  // the user of who listens; -1: not known
	answers bool // something listens
}

func judgeSocket(path string, s socketFile, self int) []finding {
	const topic = "socket"
	switch {
	case s.mode.Type() != fs.ModeSocket:
		return []finding{{topic, bad, path + " exists and is not a socket, so no daemon can start", "remove the file, if nothing needs it: sudo rm " + path + "; or --socket with another path", "socket_not_socket"}}
	case !s.answers:
		return []finding{{topic, fine, "a daemon that was killed left " + path + " behind; the next start replaces it", "", "socket_stale"}}
	case s.mode.Perm()&0o007 != 0:
		return []finding{{topic, bad, fmt.Sprintf("every user of this machine may control the daemon: %s has mode %04o", path, s.mode.Perm()), "sudo chmod 660 " + path, "socket_mode"}}
	case s.known && self == 0 && s.owner != 0 && s.owner != s.daemon:
		return []finding{{topic, bad, fmt.Sprintf("%s belongs to the user with number %d, who may have put a false daemon there", path, s.owner), "sudo ls -l " + path + " shows the owner; restart the daemon", "socket_owner"}}
	}
	who := "only its owner"
	if s.mode.Perm()&0o070 != 0 {
		who += " and its group"
	}
	return []finding{{topic, fine, fmt.Sprintf("%s has mode %04o: %s may control the daemon", path, s.mode.Perm(), who), "", "socket"}}
}

// checkPackets judges how packets go to the network.
func checkPackets(_ context.Context, p *patient) []finding {
	if p.status == nil {
		return nil
	}
	return []finding{judgePackets(p.status.Rung)}
}

func judgePackets(rung string) finding {
	const topic = "packets"
	switch rung {
	case link.RungGSO:
		return finding{topic, fine, "many per system call, segmented by the kernel (gso)", "", "packets"}
	case link.RungBatch:
		return finding{topic, slow, "single packets (batch): segmentation does not work on this host, or is switched off",
			"link.rung = \"auto\" in the configuration; another network driver", "packets_single"}
	}
	return finding{topic, slow, "one per system call (" + rung + ")", "link.rung = \"auto\" in the configuration", "packets_plain"}
}

// checkQueues looks for packets that this machine lost or refused.
func checkQueues(_ context.Context, p *patient) []finding {
	if p.status == nil {
		return nil
	}
	return judgeQueues(p.status.Counters)
}

// fewLost is how many packets there must be for one that was lost not to matter.
const fewLost = 1000

func judgeQueues(counters map[string]uint64) []finding {
	const topic, all = "queues", "anode status --counters shows all counters"
	var list []finding
	total, few := counters["rx_packets"]+counters["tx_packets"], uint64(0)
	for _, c := range []struct{ name, says, try, code string }{
		{"drop_inbox_authentic", "packets dropped because a queue was full", all, "queue_full"},
		{"drop_inbox_waiting", "packets dropped because a queue was full", all, "queue_full"},
		{"drop_waiting_full", "packets dropped because too many waited for a connection", all, "queue_full"},
		{"link_rx_dropped", "packets dropped because the program was too slow for the network", "a faster processor, or fewer other programs", "queue_full"},
		{"link_tx_no_buffer", "packets dropped because the network interface's queue was full", all, "queue_full"},
	} {
		switch n := counters[c.name]; {
		case n*fewLost > total:
			list = append(list, finding{topic, slow, fmt.Sprintf("%d %s (%s), since the daemon started", n, c.says, c.name), c.try, c.code})
		default:
			few += n
		}
	}
	if n := counters["link_tx_denied"]; n > 0 {
		list = append(list, finding{topic, warn, fmt.Sprintf("this machine's firewall refused %d packets that the daemon sent (link_tx_denied), since it started", n),
			"let UDP out (sudo nft list ruleset shows the rules)", "send_denied"})
	}
	switch {
	case len(list) > 0:
	case few > 0:
		list = append(list, finding{topic, fine, fmt.Sprintf("%d of %d packets were lost in this machine, too few to matter", few, total), "", "queues"})
	default:
		list = append(list, finding{topic, fine, "no packet was lost in this machine", "", "queues"})
	}
	return list
}

// checkMachines looks for another machine with this one's key.
func checkMachines(_ context.Context, p *patient) []finding {
	if p.status == nil || !p.status.Copies {
		return nil
	}
	return []finding{judgeCopies(*p.status)}
}

func judgeCopies(s overlay.Status) finding {
	return finding{"machines", warn, fmt.Sprintf("another machine has the same address; this one has machine number %d. If you did not set that up, somebody has a copy of the identity file", s.PeerID),
		"nothing, if you want that; otherwise give one of them its own identity: anode id --state NEW-DIR", "copies"}
}
