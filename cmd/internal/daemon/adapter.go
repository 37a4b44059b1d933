package daemon

import (
	"errors"
	"log/slog"
	"maps"
	"runtime"

	"anodenet/anode"
	"anodenet/cmd/internal/config"
	"anodenet/overlay"
	"anodenet/platform"
	"anodenet/tun"
)

// gsoMaxSize is the most bytes of a super-packet from the system. With what sealing adds
// to each segment, it still fits one train.
const gsoMaxSize = 61000

// singlesQueue is how many packets may wait for us if the system sends no super-packets.
// Its usual 500 are what one TCP flow sends in a millisecond.
const singlesQueue = 2000

// adapter is the TUN device and its network interface.
type adapter struct {
	*tun.Device
	keeper *platform.Keeper
}

// openAdapter makes the interface and sets it up, with all that leads to it. renamed is
// called when somebody has given it another name, and mended when something was put back.
func openAdapter(c config.Tun, self anode.Address, wanted platform.Wanted, lan *virtualLAN, log *slog.Logger, renamed func(name string), mended func()) (*adapter, error) {
	d, err := tun.Open(tun.Config{
		Name:     c.Name,
		MTU:      c.MTU,
		Queues:   queueCount(c.Queues),
		Self:     self.ULA(),
		Offload:  tun.Offload(c.Offload.String()),
		Log:      log,
		Aliases:  lan.aliases,
		Groups:   true,
		Ethernet: lan.ethernet(),
		Reports:  lan.report,
	})
	if err != nil {
		return nil, err
	}
	settings := platform.Settings{Wanted: wanted, ULA: self.ULA().Addr(), IP4: lan.ip4(), MTU: c.MTU, Queues: len(d.Queues()), GSOMaxSize: gsoMaxSize}
	if !d.SuperPackets() {
		settings.TxQueueLen = singlesQueue
	}
	keeper, err := platform.Keep(d.Name(), settings, platform.Options{Log: log, Renamed: renamed, Mended: mended, IP4: lan.refuse})
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return &adapter{d, keeper}, nil
}

// Name returns the name that the interface has now.
func (a *adapter) Name() string { return a.keeper.State().Name }

// Counters returns those of the device and of the guard.
func (a *adapter) Counters() map[string]uint64 {
	c := a.Device.Counters()
	maps.Copy(c, a.keeper.Counters())
	return c
}

// State returns how the interface is.
func (a *adapter) State() (index int, problems []overlay.TunProblem) {
	s := a.keeper.State()
	problems = []overlay.TunProblem{}
	for _, p := range s.Problems {
		problems = append(problems, overlay.TunProblem{Code: p.Code, Text: p.Text})
	}
	return s.Index, problems
}

// release gives back what does not go with the interface. It is called when nothing of
// the adapter runs any more; the node closes the device itself.
func (a *adapter) release() error { return a.keeper.Close() }

// queueCount returns how many queues the adapter gets. Even more queues than cores reduce
// latency: flows on different queues do not wait for each other.
func queueCount(configured int) int {
	switch {
	case configured > 0:
		return configured
	case runtime.GOOS != "linux":
		return 1
	}
	return min(max(runtime.NumCPU(), 4), config.MaxQueues)
}

// queues returns the device's queues in the form that the engine takes.
func (a *adapter) queues() []overlay.Queue {
	var list []overlay.Queue
	for _, q := range a.Queues() {
		list = append(list, q)
	}
	return list
}
