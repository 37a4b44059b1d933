package main

import (
	"context"
	"os"
	"os/user"
	"path/filepath"
	"strconv"

	"anodenet/cmd/internal/control"
	"anodenet/platform"
)

// serviceUser is the user that the packages' unit runs the daemon as.
const serviceUser = "anode"

// service is what a machine has of the packages' unit.
type service struct {
	unit  bool // systemd runs here, and has the unit
	group bool // the group whose members may use the control socket exists
}

// thisService looks at this machine.
func thisService() (s service) {
	exists := func(path string) bool { _, err := os.Stat(path); return err == nil }
	for _, dir := range []string{"/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"} {
		s.unit = s.unit || exists(filepath.Join(dir, "anode.service"))
	}
	s.unit = s.unit && exists("/run/systemd/system") // sd_booted(3)
	_, s.group = control.GroupID()
	return s
}

// start is the command that starts the system's daemon. "anode up" is none where the unit is: the
// state belongs to its user.
func (s service) start() string {
	if s.unit {
		return "sudo systemctl start anode"
	}
	return "sudo anode up"
}

// restart is what has the daemon begin anew.
func (s service) restart() string {
	if s.unit {
		return "restart the daemon: sudo systemctl restart anode"
	}
	return "restart the daemon: anode down; then anode up"
}

// admit says how a user gets the right to use the control socket.
func (s service) admit() string {
	if s.group {
		return "the same with sudo; or once: sudo usermod -aG anode USER; log in again"
	}
	return "the same with sudo; or once: groupadd -f anode; usermod -aG anode USER; log in again; restart the daemon"
}

// asKeeper runs f, which uses a state directory. If the directory is that of the packages' unit, and
// root runs this, f runs as the unit's user: root uses no files that another user can change at any
// time, and the daemon could not read what root makes there.
func asKeeper(dir string, f func()) error { return asUserOf(dir, serviceUser, f) }

// asUserOf is asKeeper for a unit of any user.
func asUserOf(dir, name string, f func()) error {
	if uid, gid, ok := keeper(dir, name); ok && os.Geteuid() == 0 {
		return platform.AsUser(uid, gid, f)
	}
	f()
	return nil
}

// keeper returns a user if the directory is his. A link is not followed.
func keeper(dir, name string) (uid, gid int, ok bool) {
	info, err := os.Lstat(dir)
	if err != nil || !info.IsDir() {
		return 0, 0, false
	}
	owner, known := ownerOf(info)
	if !known || owner == 0 {
		return 0, 0, false
	}
	u, err := user.LookupId(strconv.Itoa(owner))
	if err != nil || u.Username != name {
		return 0, 0, false
	}
	gid, err = strconv.Atoi(u.Gid)
	return owner, gid, err == nil
}

// keptBy has doctor do a check of the state directory as its keeper.
func keptBy(run func(context.Context, *patient) []finding) func(context.Context, *patient) []finding {
	return func(ctx context.Context, p *patient) (list []finding) {
		if err := asKeeper(p.state, func() { list = run(ctx, p) }); err != nil {
			return []finding{{"state", bad, err.Error(), "sudo -u " + serviceUser + " anode doctor", "state_unreadable"}}
		}
		return list
	}
}
