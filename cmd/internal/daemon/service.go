package daemon

import (
	"context"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"anodenet/overlay"
)

// service reports the daemon's state to systemd (sd_notify(3)). Without systemd its
// methods do nothing. A failure to report is no reason to stop.
type service struct {
	address string        // shown in the status
	every   time.Duration // between watchdog signals; 0: none
}

func newService(address string) *service {
	timeout, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		timeout = 0
	}
	return &service{address: address, every: timeout / 2}
}

// ready reports that the daemon runs, and what failed at the last reload, "" if nothing did.
func (s *service) ready(failed string) {
	status := "running as " + s.address
	if failed != "" {
		// Each line is a field of its own.
		status += "; the last reload failed: " + strings.ReplaceAll(failed, "\n", "; ")
	}
	systemd.SdNotify(false, systemd.SdNotifyReady+"\nSTATUS="+status)
}

func (s *service) reloading() {
	systemd.SdNotify(false, systemd.SdNotifyReloading+"\n"+systemd.SdNotifyMonotonicUsec())
}

func (s *service) stopping() { systemd.SdNotify(false, systemd.SdNotifyStopping) }

// run reports that the daemon is ready, since everything that can fail was opened before,
// and feeds the watchdog for as long as the node's loop answers.
func (s *service) run(ctx context.Context, node interface {
	Status(context.Context) (overlay.Status, error)
}) error {
	s.ready("")
	defer s.stopping()
	if s.every <= 0 {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		alive, cancel := context.WithTimeout(ctx, s.every)
		_, err := node.Status(alive)
		cancel()
		if err == nil {
			systemd.SdNotify(false, systemd.SdNotifyWatchdog)
		}
	}
}
